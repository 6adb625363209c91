// SPDX-FileCopyrightText: The spla authors
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#include "conformance/conforms.hpp"

using namespace spla_test;

namespace
{
template <class Exec, class Element>
void conforms_in_parts(spla::options<> const& o)
{
    data<Exec, Element> const d({1, 220, 220, 4, 2, 16, 24}, 3);
    stepper<Exec, Element> s(d, o);
    s.prefill(0, 90);
    s.prefill(90, 210);
    s.step(210, 216);
    s.step(216, 220);
    auto const v = hold(d, s.r, o);
    INFO(v.text());
    CHECK(v.passed());
}

/// Outputs and branches stored in the inputs' own type, log-sum-exp in fp32.
template <class Exec, class Element>
void conforms_stored_narrow(spla::options<> const& o)
{
    data<Exec, Element> const d({1, 150, 150, 4, 2, 16, 24}, 4, true, true);
    results<Exec, Element, Element> const r(d.size, o);
    prefill_into(r, d, o, Exec());
    auto const v = hold(d, r, o);
    INFO(v.text());
    CHECK(v.passed());
}
} // namespace

TEMPLATE_LIST_TEST_CASE("every element type", "[conformance][element]", host_and_device)
{
    shape const s{1, 220, 220, 4, 2, 16, 24};
    auto o = small_options();
    conforms<TestType, double>(s, o);
    conforms<TestType, spla::bfloat16>(s, o);
    conforms<TestType, spla::float16>(s, o);
    conforms_in_parts<TestType, double>(o);
    conforms_in_parts<TestType, spla::bfloat16>(o);
    conforms_in_parts<TestType, spla::float16>(o);
    o.normalised = true, o.storage = spla::summary_storage::fp32;
    conforms<TestType, double>(s, o);
    conforms<TestType, spla::bfloat16>(s, o);
    conforms<TestType, spla::float16>(s, o);
}

TEMPLATE_LIST_TEST_CASE("outputs in the inputs' own 16-bit type", "[conformance][element]", host_and_device)
{
    for (auto const kind :
         {spla::combination_kind::rms_sum, spla::combination_kind::sum, spla::combination_kind::sparse_only})
    {
        auto o = small_options();
        o.combine = kind;
        conforms_stored_narrow<TestType, spla::bfloat16>(o);
        conforms_stored_narrow<TestType, spla::float16>(o);
    }
}
