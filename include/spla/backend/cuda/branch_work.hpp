// SPDX-FileCopyrightText: The spla authors
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once
#include "branch_workspace.hpp"
#include "launch.hpp"
#include "union_kernel.hpp"

/// What the branches of one call share: its tiles, and their lists merged.
namespace spla::cuda
{

/// Where the tiles of each sequence begin, of variable lengths. Null where all have as many.
struct tile_tables
{
    detail::item_table tiles, bases, chains; ///< of 128 rows; of the plan's base; of its chains
};

/// Tiles of so many tokens.
inline exact_shape tiles_of(portable::attention_shape const& shape, int tokens, detail::item_table const& table)
{
    exact_shape tiles{};
    tiles.group = shape.group;
    tiles.tokens = tokens;
    detail::sequence_table const& s = tiles.sequences = shape.sequences;
    if (table.first)
    {
        tiles.items = table;
        tiles.most_tiles = static_cast<int>(most_tiles(s.count, s.tokens, tokens));
    }
    else
    {
        tiles.items = {s.count, tile_count(s.queries, s.keys, tokens)};
        tiles.most_tiles = static_cast<int>(s.count * tiles.items.each);
    }
    tiles.key_heads = static_cast<int>(shape.key_heads);
    tiles.value_dim = shape.value_dim;
    tiles.bounds = window_in_int(shape.bounds, shape.sequences.keys);
    return tiles;
}

/// One call's part of its memory. Nothing where there is too little of it.
struct branch_work
{
    branch_layout layout;
    std::byte* data = nullptr;
    tile_tables tables;
    union_table unions; ///< of tiles of layout.tile_tokens tokens

    explicit operator bool() const { return data != nullptr; }
};

/// Lays out memory, and merges the lists.
inline branch_work prepare_branches(Kokkos::Cuda const& exec, detail::list_tensor const& list,
                                    portable::attention_shape const& shape, branch_memory const& memory,
                                    tile_tables const& tables = {})
{
    branch_work work;
    work.layout = branch_layout::of(sizes_of(shape, list ? list.capacity : 0));
    branch_layout const& l = work.layout;
    if (l.bytes == 0 || l.bytes > memory.bytes || !runs_here(exec)) return work;
    work.data = memory.data;
    work.tables = tables;
    if (!l.merges) return work;
    union_table& u = work.unions;
    u.notes = reinterpret_cast<union_note*>(memory.data + l.notes);
    u.entries = reinterpret_cast<std::uint32_t*>(memory.data + l.entries);
    u.key_heads = shape.key_heads;
    u.capacity = static_cast<int>(l.union_capacity), u.words = l.union_words;
    u.all_compete = shape.residual && shape.mode == residual_mode::direct;
    union_arguments const a{tiles_of(shape, l.tile_tokens, tables.tiles), list, u, shape.everything};
    std::int64_t const items = static_cast<std::int64_t>(a.tiles.most_tiles) * a.tiles.key_heads;
    on_device const here(exec.cuda_device());
    auto const blocks = static_cast<unsigned>((items + union_warps - 1) / union_warps);
    union_kernel<union_arguments><<<blocks, 32 * union_warps, 0, exec.cuda_stream()>>>(a);
    require_success(cudaGetLastError(), "launch", "unions of tiles");
    return work;
}

} // namespace spla::cuda
