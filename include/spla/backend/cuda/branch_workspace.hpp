// SPDX-FileCopyrightText: The spla authors
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once
#include "../../algorithm/buffer_carver.hpp"
#include "../portable/attention_shape.hpp"
#include "base_state_shape.hpp"

#include <algorithm>
#include <cstddef>

/// The memory that lies between the kernels of a call's branches: unions of tiles' lists, how tiles' bases differ, rows
/// of bases that are not yet a residual. Its layout follows from sizes alone, so that a plan can ask for it.
namespace spla::cuda
{

struct branch_sizes
{
    std::int64_t sequences, tokens; ///< tokens: queries of all sequences together
    std::int64_t queries, keys;     ///< of one sequence, at most
    std::int64_t key_heads, group, value_dim;
    window bounds;
    std::int64_t list_capacity; ///< most entries of a list
    bool exact, residual, normalised, direct;
    bool everything; ///< every block that competes is selected
};

/// Of a call whose lists have at most `list_capacity` entries. Queries of a fixed batch are as many as each sequence
/// has.
inline branch_sizes sizes_of(portable::attention_shape const& shape, std::int64_t list_capacity)
{
    detail::sequence_table const& s = shape.sequences;
    return {s.count,
            s.offsets ? s.tokens : s.count * s.queries,
            s.queries,
            s.keys,
            shape.key_heads,
            shape.group,
            shape.value_dim,
            shape.bounds,
            list_capacity,
            shape.exact,
            shape.residual,
            shape.normalised,
            shape.mode == residual_mode::direct,
            shape.everything};
}

/// Tiles whose residual starts from D, carried along chains.
struct base_plan
{
    int tokens = 0;     ///< of a tile; 0: no call for a base
    int chain = 1;      ///< tiles that D is carried over
    bool whole = false; ///< a tile's rows share a list: its base is all that its residual sums
};

/// Chains are as long as they may be while the call still has work for a big device, so that a long prompt rebuilds
/// little and a short one waits for nobody. Sizes of the sequences alone decide, never the batch or the device.
inline base_plan plan_base(branch_sizes const& s)
{
    constexpr std::int64_t most_tokens = 1024, longest = 32, enough_items = 256;
    if (!s.residual || s.normalised || s.direct || s.everything) return {};
    std::int64_t const packed = tile_rows / s.group; // tokens of 128 rows
    base_plan made;
    made.whole = s.bounds.tile >= packed;
    std::int64_t const tokens = made.whole ? s.bounds.tile : packed, tiles = s.queries / tokens * s.key_heads;
    std::int64_t chain = 1;
    if (2 * tokens > (1 << 20)) return {}; // positions and numbers fit an int
    while (chain < longest && 2 * chain * tokens <= std::max(most_tokens, 2 * tokens) &&
           tiles >= 2 * chain * enough_items)
        chain *= 2;
    // Where nothing is carried, state form is for lists of many rows.
    if (chain == 1 && !(made.whole && tokens * s.group >= 2 * tile_rows)) return {};
    made.tokens = static_cast<int>(tokens), made.chain = static_cast<int>(chain);
    return made;
}

/// Tiles of so many tokens, at most, of sequences with so many queries together: each sequence may begin and end inside
/// a tile.
inline std::int64_t most_tiles(std::int64_t sequences, std::int64_t queries, std::int64_t tokens)
{
    return queries / tokens + 2 * sequences;
}

/// Where things lie, in bytes from the first.
struct branch_layout
{
    base_plan base;
    int tile_tokens = 0; ///< of 128 rows
    int union_words = 1;
    std::int64_t union_capacity = 0, change_capacity = 0, most_selected = 0;
    std::size_t notes = 0, entries = 0, changes = 0, blocks = 0, rows = 0, bytes = 0;
    bool merges = false; ///< lists of tiles

    static branch_layout of(branch_sizes const& s)
    {
        branch_layout l;
        if (s.queries <= 0 || s.keys <= 0) return l;
        detail::buffer_carver place;
        auto const tiles = [&s](std::int64_t tokens) {
            return most_tiles(s.sequences, s.tokens, tokens) * s.key_heads;
        };
        std::int64_t const blocks = s.keys / block_tokens + 1, packed = tile_rows / s.group;
        l.tile_tokens = static_cast<int>(packed);
        l.base = plan_base(s);
        l.most_selected = std::min(s.list_capacity, blocks); // more entries are not valid
        l.merges = s.exact || !l.base.whole;
        // There is room for unions in any case: fewer queries may merge where more do not.
        l.union_words = packed <= 32 ? 1 : (packed <= 64 ? 2 : 4);
        std::int64_t const lists = std::min(packed, packed / s.bounds.tile + 2);
        std::int64_t const forced =
            s.bounds.sink_blocks + s.bounds.local_blocks + (packed + s.bounds.tile) / block_tokens + 3;
        l.union_capacity = s.direct || s.everything ? blocks : std::min(blocks, lists * l.most_selected + forced);
        l.notes = place(tiles(packed), sizeof(union_note));
        l.entries = place(tiles(packed) * (1 + l.union_words) * l.union_capacity, 4);
        if (l.base.tokens > 0)
        {
            // Those removed and added, and what all of a tile's rows selected.
            l.change_capacity = 3 * l.most_selected + l.base.tokens / block_tokens + 2;
            l.changes = place(tiles(l.base.tokens), sizeof(tile_changes));
            l.blocks = place(tiles(l.base.tokens) * l.change_capacity, 4);
            if (!l.base.whole) l.rows = place(s.tokens * s.key_heads * s.group * s.value_dim, 4);
        }
        l.bytes = place(0, 1);
        return l;
    }
};

struct branch_memory
{
    std::byte* data = nullptr;
    std::size_t bytes = 0;
};

} // namespace spla::cuda
