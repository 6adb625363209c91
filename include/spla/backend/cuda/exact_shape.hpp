// SPDX-FileCopyrightText: The spla authors
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once
#include "../portable/attention_shape.hpp"
#include "instructions.hpp"

#include <cuda.h>

/// Sizes of the exact branch on Hopper, and what a block of threads keeps in shared memory.
namespace spla::cuda
{

inline constexpr int tile_rows = 128;       ///< tokens x heads of a group; two warpgroups of 64
inline constexpr int block_tokens = 64;     ///< of a key block: half a step
inline constexpr int step_keys = 128;       ///< two key blocks
inline constexpr int panel_width = 64;      ///< numbers of 16 bits in a row of a panel
inline constexpr int meeting_threads = 256; ///< those of both warpgroups that multiply
inline constexpr int meeting_warps = meeting_threads / 32;

/// Whom a step of two key blocks concerns, as the walk found it.
struct step_note
{
    int first_key[2];
    std::uint32_t tokens[2][4]; ///< bit t % 32 of word t / 32: token t visits the block
    int first, end;             ///< positions of the tile's tokens
    int per_key;                ///< some key lies after some token: visibility is decided key by key
    int last;                   ///< of the tile
};

/// One launch: rows are (token, head of the group), tiles of `tokens` neighbouring tokens.
struct exact_shape
{
    detail::sequence_table sequences;
    detail::item_table items; ///< tiles
    int most_tiles;           ///< of all sequences together
    int key_heads;            ///< items, most_tiles x key_heads, are counted in int
    int group, tokens;        ///< tokens = tile_rows / group
    int value_dim;
    basic_window<int> bounds; ///< in blocks of block_tokens
    float scale;              ///< of logits, times log2(e); positive
};

/// A tile: tokens at positions first, first + 1, ...; those in [begin, end) are the call's. Positions fit an int: the
/// kernel is not chosen for longer sequences.
struct tile_place
{
    int sequence, head, first_position; ///< of the sequence's first query
    int first, begin, end;
    bool exists;

    __device__ bool sees_keys() const { return end > 0; }
};

inline __device__ tile_place find_tile(exact_shape const& shape, int item)
{
    // Heads one after another, so that the tiles at work at one time share the keys of a head in the second-level
    // cache; the longest walks first.
    tile_place t;
    t.head = item / shape.most_tiles;
    int const number = shape.most_tiles - 1 - item % shape.most_tiles;
    int tile = number;
    if (shape.items.first)
    {
        auto const place = shape.items.find(number);
        t.sequence = static_cast<int>(place.sequence), tile = static_cast<int>(place.item);
    }
    else
        t.sequence = number / static_cast<int>(shape.items.each), tile = number % static_cast<int>(shape.items.each);
    t.exists = t.sequence < shape.sequences.count;
    if (!t.exists) return t;
    detail::sequence const s = shape.sequences[t.sequence];
    int const keys = static_cast<int>(s.keys);
    t.first_position = keys - static_cast<int>(s.queries);
    t.first = (floor_divide(t.first_position, shape.tokens) + tile) * shape.tokens;
    t.begin = t.first > t.first_position ? t.first : t.first_position;
    t.end = t.first + shape.tokens < keys ? t.first + shape.tokens : keys;
    t.exists = t.begin < t.end;
    return t;
}

/// Shared memory of one block of threads.
template <int Width>
struct exact_memory
{
    static constexpr int panels = Width / panel_width;
    static constexpr int key_stages = Width == 64 ? 4 : 3;
    static constexpr int value_stages = Width == 64 ? 4 : 3;
    static constexpr int notes = value_stages + 2;

    std::uint16_t query[panels][tile_rows][panel_width];
    std::uint16_t key[key_stages][panels][step_keys][panel_width];
    std::uint16_t value[value_stages][panels][step_keys][panel_width];
    step_note note[notes];
    tile_place tile[2]; ///< of the queries here, and the one before
    int steps;          ///< loaded for all tiles before the next
    barrier query_full, query_free;
    barrier key_full[key_stages], key_free[key_stages];
    barrier value_full[value_stages], value_free[value_stages];
};

} // namespace spla::cuda
