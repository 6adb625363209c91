// SPDX-FileCopyrightText: The spla authors
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once
#include "../portable/attention_shape.hpp"
#include "block_place.hpp"
#include "instructions.hpp"

#include <cuda.h>

/// Sizes of the exact branch on Hopper, and what a block of threads keeps in shared memory.
namespace spla::cuda
{

inline constexpr int tile_rows = 128;       ///< tokens x heads of a group; two warpgroups of 64
inline constexpr int block_tokens = 64;     ///< of a key block
inline constexpr int panel_width = 64;      ///< numbers of 16 bits in a row of a panel
inline constexpr int meeting_threads = 256; ///< those of both warpgroups that multiply
inline constexpr int meeting_warps = meeting_threads / 32;

/// Whom a step of one or two key blocks concerns, as the walk found it.
template <int Blocks>
struct step_note
{
    int first_key[Blocks];
    std::uint32_t tokens[Blocks][4]; ///< bit t % 32 of word t / 32: token t visits the block
    int first, end;                  ///< positions of the tile's tokens
    int per_key;                     ///< some key lies after some token: visibility is decided key by key
    int last;                        ///< of the tile
};

/// One launch: rows are (token, head of the group), tiles of `tokens` neighbouring tokens.
struct exact_shape
{
    detail::sequence_table sequences;
    detail::item_table items; ///< tiles
    int most_tiles;           ///< of all sequences together; of a fixed batch there are so many
    int key_heads;            ///< items, most_tiles x key_heads, are counted in int
    int group, tokens;        ///< tokens: tile_rows / group, but of chains of tiles
    int value_dim;
    basic_window<int> bounds; ///< in blocks of block_tokens
    float scale;              ///< of logits, times log2(e); positive
    bool combines;            ///< rows become the output of both branches: the residual is zero
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

inline constexpr int few_tiles = 256; ///< of all sequences together

/// This block's item in its n-th round; there may be none. Walks fall along the items: who has a round's longest has
/// the next one's shortest.
inline __device__ int item_of_round(int round)
{
    int const block = static_cast<int>(blockIdx.x), blocks = static_cast<int>(gridDim.x);
    return round * blocks + (round % 2 == 0 ? block : blocks - 1 - block);
}
inline __device__ int rounds_of(int items)
{
    int const blocks = static_cast<int>(gridDim.x);
    return (items + blocks - 1) / blocks;
}

/// Tiles that there are; of variable lengths they are counted where the kernel runs.
inline __device__ int tiles_here(exact_shape const& shape)
{
    return shape.items.first ? shape.items.first[shape.items.sequences] : shape.most_tiles;
}

inline __device__ int items_here(exact_shape const& shape)
{
    return tiles_here(shape) * shape.key_heads;
}

/// item: less than items_here().
inline __device__ tile_place find_tile(exact_shape const& shape, int item)
{
    // The longest walks first. Heads one after another, so that the tiles at work at one time share the keys of a head
    // in the second-level cache; but where tiles are few, and their walks differ, all heads of a tile.
    tile_place t;
    int const tiles = tiles_here(shape);
    bool const together = tiles > few_tiles;
    t.head = together ? item / tiles : item % shape.key_heads;
    int const number = tiles - 1 - (together ? item % tiles : item / shape.key_heads);
    int tile;
    if (shape.items.first)
    {
        auto const place = shape.items.find(number);
        t.sequence = static_cast<int>(place.sequence), tile = static_cast<int>(place.item);
    }
    else
        t.sequence = number / static_cast<int>(shape.items.each), tile = number % static_cast<int>(shape.items.each);
    detail::sequence const s = shape.sequences.at_work(t.sequence);
    int const keys = static_cast<int>(s.keys);
    t.first_position = keys - static_cast<int>(s.queries);
    t.first = (floor_divide(t.first_position, shape.tokens) + tile) * shape.tokens;
    t.begin = t.first > t.first_position ? t.first : t.first_position;
    t.end = t.first + shape.tokens < keys ? t.first + shape.tokens : keys;
    t.exists = t.begin < t.end;
    return t;
}

/// Shared memory of one block of threads, for queries and keys, and for values, of up to these widths.
template <int KeyWidth, int ValueWidth>
struct exact_memory
{
    static constexpr int key_panels = KeyWidth / panel_width;
    static constexpr int value_panels = ValueWidth / panel_width;
    /// Two blocks a step read the queries half as often; but sums of 256 numbers a row take more than half of a
    /// thread's registers, and leave none for the logits of a second block.
    static constexpr int step_blocks = ValueWidth > 128 ? 1 : 2;
    static constexpr int step_keys = step_blocks * block_tokens;
    /// As many as fit. Values are held for a step longer than keys: a place too few for both is theirs.
    static constexpr int key_stages = KeyWidth == 64 ? 4 : KeyWidth == 128 ? 3 : 2;
    static constexpr int value_stages = KeyWidth == 64 ? 4 : KeyWidth == 192 ? 2 : 3;
    static constexpr int notes = key_stages + 1; ///< a step's is read until the next lets its keys go

    std::uint16_t query[key_panels][tile_rows][panel_width];
    std::uint16_t key[key_stages][key_panels][step_keys][panel_width];
    std::uint16_t value[value_stages][value_panels][step_keys][panel_width];
    step_note<step_blocks> note[notes];
    block_places places; ///< of the warp whose turn it is to load
    tile_place tile[2]; ///< of the queries here, and the one before
    int steps;          ///< loaded for all tiles before the next
    barrier query_full, query_free;
    barrier key_full[key_stages], key_free[key_stages];
    barrier value_full[value_stages], value_free[value_stages];
};

} // namespace spla::cuda
