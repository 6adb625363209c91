// SPDX-FileCopyrightText: The spla authors
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once
#include "../options.hpp"

#include <cstdint>

/// Which keys and blocks a query may see, and which of the blocks compete: the only index arithmetic of masks.
namespace spla
{

/// Blocks [begin, end).
struct block_range
{
    std::int64_t begin;
    std::int64_t end;
    KOKKOS_FUNCTION constexpr std::int64_t count() const { return end > begin ? end - begin : 0; }
    KOKKOS_FUNCTION constexpr bool contains(std::int64_t b) const { return b >= begin && b < end; }
};

KOKKOS_FUNCTION constexpr std::int64_t floor_divide(std::int64_t a, std::int64_t b)
{
    return a >= 0 ? a / b : -((-a + b - 1) / b);
}
KOKKOS_FUNCTION constexpr std::int64_t ceil_divide(std::int64_t a, std::int64_t b)
{
    return (a + b - 1) / b;
}

/// The window of one configuration: sizes that decide forced and competing blocks. Tokens are key positions.
struct window
{
    std::int64_t block;
    std::int64_t sink_blocks;
    std::int64_t local_blocks;
    std::int64_t tile; ///< T, 1 for per-token lists

    /// First position of the tile that position p belongs to; p is not negative.
    KOKKOS_FUNCTION constexpr std::int64_t tile_start(std::int64_t p) const { return p / tile * tile; }

    /// Competing blocks of the tile of position p: [sink_blocks, own - local_blocks), own being that of the tile's
    /// first query. Empty ranges come as begin == end.
    KOKKOS_FUNCTION constexpr block_range competing(std::int64_t p) const
    {
        if (p < 0) return {0, 0};
        std::int64_t const end = tile_start(p) / block - local_blocks;
        return {sink_blocks, end > sink_blocks ? end : sink_blocks};
    }

    /// First block that is not in the linear state of a query at position p: the end of its competing range.
    KOKKOS_FUNCTION constexpr std::int64_t state_end(std::int64_t p) const
    {
        return p < 0 ? sink_blocks : competing(p).end;
    }
};

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
