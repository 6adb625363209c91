// SPDX-FileCopyrightText: The spla authors
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once
#include "prefill_case.hpp"

/// Lists that chance makes, as long as the options allow: for a stage that is given its lists.
namespace spla_bench
{

/// A number of [0, 1) for each index and stream.
KOKKOS_INLINE_FUNCTION double uniform(std::uint64_t index, std::uint64_t stream)
{
    std::uint64_t z = (index + 1) * 0x9e3779b97f4a7c15ull + stream * 0xd1b54a32d192ed03ull;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
    return static_cast<double>((z ^ (z >> 31)) >> 11) * 0x1p-53;
}

/// Of a tile's competing blocks any top_k, each as likely, ascending. Tiles of one token: no two lists have more in
/// common than chance gives.
inline void make_random_lists(prefill_case const& c)
{
    auto const indices = c.lists.indices;
    auto const lengths = c.lists.lengths;
    auto const w = spla::window_of(c.o);
    auto const heads = static_cast<std::int64_t>(indices.extent(2)),
               tiles = static_cast<std::int64_t>(indices.extent(1));
    int const most = c.o.top_k;
    Kokkos::parallel_for(
        "spla_bench::random_lists", Kokkos::RangePolicy<exec_space, Kokkos::IndexType<std::int64_t>>(0, tiles * heads),
        KOKKOS_LAMBDA(std::int64_t n) {
            std::int64_t const tile = n / heads, head = n % heads;
            auto const range = w.competing(tile * w.tile);
            int const wanted = static_cast<int>(Kokkos::min<std::int64_t>(most, range.count()));
            int taken = 0;
            for (std::int64_t b = range.begin; taken < wanted; ++b) // each with what is missing over what is left
                if (uniform(static_cast<std::uint64_t>(n * 4096 + b), 11) * static_cast<double>(range.end - b) <
                    wanted - taken)
                    indices(0, tile, head, taken++) = static_cast<std::int32_t>(b);
            lengths(0, tile, head) = wanted;
            for (int i = wanted; i < most; ++i) indices(0, tile, head, i) = -1;
        });
    Kokkos::fence();
}

} // namespace spla_bench
