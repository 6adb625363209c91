// SPDX-FileCopyrightText: The spla authors
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once
#include "../../algorithm/sequence_table.hpp"

/// A tile's base: the competing blocks that all its rows' residuals sum, and how they differ from those of the tile
/// before (spec section 4). Neighbouring tiles select much of the same, so D = sum of phi(K_b)^T V_b over a base is
/// carried from tile to tile by a few blocks a tile: those that became selected are taken out, those that are selected
/// no more, or left the window, are put in. Each was selected or forced for a query of the call: no other is read.
namespace spla::cuda
{

/// Of one tile and key head.
struct tile_changes
{
    int works;          ///< some row of the tile has a residual; otherwise the rest says nothing
    int restarts;       ///< D is the state of the blocks before state_end, less those taken out
    int state_end;      ///< what competes for the tile's first query ends here
    int removed, added; ///< blocks that D loses, and then those that it gains
};

/// Those of a call, in workspace: chains of neighbouring tiles start at multiples of `chain` tiles of position, and the
/// first tile of a chain restarts.
struct change_table
{
    tile_changes* tiles;      ///< [sequence, tile, key_head]
    std::int32_t* blocks;     ///< [sequence, tile, key_head, capacity]: those removed, ascending, then those added
    detail::item_table items; ///< tiles
    std::int64_t key_heads;
    std::int64_t capacity;
    int tokens; ///< of a tile
    int chain;  ///< tiles

    __device__ std::int64_t number(int sequence, int tile, int head) const
    {
        return (items.begin(sequence) + tile) * key_heads + head;
    }
};

} // namespace spla::cuda
