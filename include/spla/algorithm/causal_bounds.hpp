// SPDX-FileCopyrightText: The spla authors
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once
#include "../options.hpp"

#include <cstdint>
#include <type_traits>

/// Which keys and blocks a query may see, and which of the blocks compete: the only index arithmetic of masks.
namespace spla
{

/// Blocks [begin, end).
template <class Integer>
struct basic_block_range
{
    Integer begin;
    Integer end;
    KOKKOS_FUNCTION constexpr Integer count() const { return end > begin ? end - begin : 0; }
    KOKKOS_FUNCTION constexpr bool contains(Integer b) const { return b >= begin && b < end; }
};
using block_range = basic_block_range<std::int64_t>;

template <class A, class B>
KOKKOS_FUNCTION constexpr std::common_type_t<A, B> floor_divide(A a, B b)
{
    return a >= 0 ? a / b : -((-a + b - 1) / b);
}
KOKKOS_FUNCTION constexpr std::int64_t ceil_divide(std::int64_t a, std::int64_t b)
{
    return (a + b - 1) / b;
}

/// The window of one configuration: sizes that decide forced and competing blocks. Tokens are key positions.
template <class Integer>
struct basic_window
{
    Integer block;
    Integer sink_blocks;
    Integer local_blocks;
    Integer tile; ///< T, 1 for per-token lists

    /// First position of the tile that position p belongs to; p is not negative.
    KOKKOS_FUNCTION constexpr Integer tile_start(Integer p) const { return p / tile * tile; }

    /// Competing blocks of the tile of position p: [sink_blocks, own - local_blocks), own being that of the tile's
    /// first query. Empty ranges come as begin == end.
    KOKKOS_FUNCTION constexpr basic_block_range<Integer> competing(Integer p) const
    {
        if (p < 0) return {0, 0};
        Integer const end = tile_start(p) / block - local_blocks;
        return {sink_blocks, end > sink_blocks ? end : sink_blocks};
    }

    /// First block that is not in the linear state of a query at position p: the end of its competing range.
    KOKKOS_FUNCTION constexpr Integer state_end(Integer p) const { return p < 0 ? sink_blocks : competing(p).end; }
};
using window = basic_window<std::int64_t>;

/// For kernels that count in int, of sequences of at most so many keys. More sinks, or a longer window, than there are
/// blocks are all blocks: then sums and products of them fit.
constexpr basic_window<int> window_in_int(window const& w, std::int64_t keys)
{
    std::int64_t const blocks = (keys > 0 ? keys : 0) / w.block + 1;
    return {static_cast<int>(w.block), static_cast<int>(w.sink_blocks < blocks ? w.sink_blocks : blocks),
            static_cast<int>(w.local_blocks < blocks ? w.local_blocks : blocks), static_cast<int>(w.tile)};
}

template <class Metric, class FeatureMap>
constexpr window window_of(options<Metric, FeatureMap> const& o)
{
    return {o.block, o.sink_blocks, o.local_blocks, o.share.kind == sharing_kind::per_token ? 1 : o.share.tile};
}

/// Query i of L against M keys sits at key position i + M - L (bottom-right causal); negative: it sees nothing.
KOKKOS_FUNCTION constexpr std::int64_t position_of(std::int64_t query, std::int64_t queries, std::int64_t keys)
{
    return query + keys - queries;
}

/// Tiles (of T tokens of key position) that L queries ending at M touch; a tile before position 0 counts too.
KOKKOS_FUNCTION constexpr std::int64_t tile_count(std::int64_t queries, std::int64_t keys, std::int64_t tile)
{
    if (queries <= 0) return 0;
    return floor_divide(keys - 1, tile) - floor_divide(keys - queries, tile) + 1;
}

} // namespace spla
