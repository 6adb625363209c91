// SPDX-FileCopyrightText: The spla authors
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once
#include "prefill_case.hpp"

#include <algorithm>
#include <vector>

/// What the lists of a case ask for: how much neighbours' lists overlap, and the useful operations of each stage.
namespace spla_bench
{

struct list_figures
{
    double union_ratio = 1;                     ///< union of what 32 neighbouring tokens selected, over one list
    double select = 0, exact = 0, residual = 0; ///< operations; 0 where none are counted

    double whole() const { return select + exact + residual; }

    explicit list_figures(prefill_case const& c)
    {
        auto const indices = Kokkos::create_mirror_view_and_copy(Kokkos::HostSpace{}, c.lists.indices);
        auto const lengths = Kokkos::create_mirror_view_and_copy(Kokkos::HostSpace{}, c.lists.lengths);
        auto const w = spla::window_of(c.o);
        auto const& p = c.in.sizes;
        double together = 0, chosen = 0, pairs = 0, selected_pairs = 0, entries = 0, scores = 0;
        for (std::int64_t h = 0; h < p.key_heads; ++h)
            for (std::int64_t first = 0; first < p.keys; first += 32)
            {
                std::vector<char> is_in(static_cast<std::size_t>(p.keys / c.o.block + 1));
                double blocks = 0;
                for (std::int64_t t = first; t < first + 32 && t < p.keys; ++t)
                {
                    std::int64_t const tile = t / w.tile, competing = w.competing(t).count();
                    int const length = lengths(0, tile, h);
                    pairs += static_cast<double>(t + 1 - (competing - length) * c.o.block);
                    selected_pairs += static_cast<double>(length * c.o.block);
                    if (scoring(c.o.share, t)) scores += static_cast<double>(competing);
                    blocks += length / 32.0;
                    if (t % w.tile == 0) entries += length;
                    if (t != first && t % w.tile != 0) continue;
                    for (int i = 0; i < length; ++i) is_in[static_cast<std::size_t>(indices(0, tile, h, i))] = 1;
                }
                chosen += blocks;
                for (char x : is_in) together += x;
            }
        if (chosen > 0) union_ratio = together / chosen;
        double const group = static_cast<double>(p.group()), dim = static_cast<double>(p.head_dim),
                     value_dim = static_cast<double>(p.value_dim), features = 2 * dim;
        exact = 2 * (dim + value_dim) * group * pairs;
        // Mean, variance and a kept key meet each query of the group.
        select = 2 * 3 * dim * group * scores;
        // Each selected key against each query, or the state of each selected block once for its list.
        residual = std::min(2 * (features + value_dim) * group * selected_pairs,
                            2 * static_cast<double>(c.o.block) * features * value_dim * entries);
    }

private:
    static bool scoring(spla::sharing const& share, std::int64_t token)
    {
        if (share.kind == spla::sharing_kind::per_token) return true;
        if (share.kind == spla::sharing_kind::first_query) return token % share.tile == 0;
        return token % share.score_every == 0;
    }
};

} // namespace spla_bench
