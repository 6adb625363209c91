// SPDX-FileCopyrightText: The spla authors
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once
#include "prefill_case.hpp"

#include <spla/reference/reference.hpp>

#include <cstdio>
#include <string>

/// A short prompt, all of it, against the definition: the reference, with its computed bounds.
namespace spla_bench
{

/// One key head and its group.
inline bool holds(std::int64_t tokens, std::int64_t group, std::int64_t dim, sharing_case const& sharing)
{
    using namespace spla::reference;
    auto o = options_of(sharing.share, 512);
    o.local_blocks = 2, o.top_k = 6;
    inputs const in = make_inputs(problem_of(tokens, group, 1, dim));
    prefill_case c(in, o);
    c.whole_with_lists();
    Kokkos::fence();
    sequence x;
    x.query = x.residual_query = heads_of(in.query, 0);
    x.key = x.residual_key = heads_of(in.key, 0);
    x.value = heads_of(in.value, 0);
    auto const indices = Kokkos::create_mirror_view_and_copy(Kokkos::HostSpace{}, c.lists.indices);
    auto const lengths = Kokkos::create_mirror_view_and_copy(Kokkos::HostSpace{}, c.lists.lengths);
    lists chosen(indices.extent(1));
    for (std::size_t t = 0; t < chosen.size(); ++t)
    {
        chosen[t].emplace_back();
        for (int i = 0; i < lengths(0, t, 0); ++i) chosen[t].back().push_back(indices(0, t, 0, i));
    }
    matrix_rounding lost;
    if (c.how.exact.matrix_units) lost = matrix_rounding::bfloat16_weights();
    if (c.how.residual.matrix_units) lost.feature = lost.product = 0x1p-9, lost.state = 0x1p-16;
    auto const truth = attend(x, chosen, o, 0x1p-24, 0x1p-8, {}, {}, lost);
    auto const made = heads_of(c.output, 0);
    comparison all;
    for (std::size_t h = 0; h < made.size(); ++h)
        all.add("head " + std::to_string(h), made[h], truth.output[h], truth.output_bound[h]);
    std::printf("%-14s group %2ld, reference: %s\n", sharing.name, static_cast<long>(group), all.text().c_str());
    return all.passed;
}

} // namespace spla_bench
