// SPDX-FileCopyrightText: The spla authors
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once
#include "../catch.hpp"
#include "core.hpp"

namespace spla_test
{

/// One prefill of a problem, held against the reference.
template <class Exec, class Element = float>
void conforms(shape const& s, spla::options<> const& o, unsigned seed = 1, bool padded = false)
{
    data<Exec, Element> const d(s, seed, padded);
    auto const v = hold(d, run_prefill(d, o), o);
    INFO("seed " << seed << ": " << s.text() << ", block " << o.block << " T " << o.share.tile << '\n' << v.text());
    CHECK(v.passed());
}

} // namespace spla_test
