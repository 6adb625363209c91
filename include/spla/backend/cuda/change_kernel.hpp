// SPDX-FileCopyrightText: The spla authors
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once
#include "list_entries.hpp"
#include "tile_changes.hpp"
#include "tile_union.hpp"

/// How the bases of neighbouring tiles differ: a block of threads takes a chain, a warp a tile of it.
namespace spla::cuda
{

struct change_arguments
{
    exact_shape chains; ///< tiles of to.chain * to.tokens tokens
    detail::list_tensor list;
    change_table to;
    union_table unions;         ///< of the tiles, where their tokens have lists of their own
    std::int64_t list_capacity; ///< most entries of a list
    bool whole;                 ///< all tokens of a tile share a list
};

/// What all working rows of a tile selected: ascending, in memory.
struct common_blocks
{
    std::int32_t* blocks;
    int count, end; ///< end: of what competes for the tile's first query
    bool works;     ///< some row has a residual

    __device__ bool has(int block) const
    {
        int low = 0, high = count;
        while (low < high)
        {
            int const middle = (low + high) / 2;
            if (blocks[middle] < block)
                low = middle + 1;
            else
                high = middle;
        }
        return low < count && blocks[low] == block;
    }
};

/// By one warp: lanes of `taken` append what they have.
inline __device__ void append_entries(std::int32_t* to, int& count, int entry, bool taken)
{
    std::uint32_t const all = __ballot_sync(0xffffffffu, taken);
    std::uint32_t const before = all & ((1u << threadIdx.x % 32) - 1);
    if (taken) to[count + __popc(before)] = entry;
    count += __popc(all);
}

/// Of a list that the tile's tokens share.
inline __device__ void read_shared_list(change_arguments const& a, tile_place const& t, common_blocks& found)
{
    basic_window<int> const& bounds = a.chains.bounds;
    basic_block_range<int> const competing = bounds.competing(t.begin);
    std::int32_t const* list = nullptr;
    int length = 0;
    if (a.list && competing.count() > 0)
    {
        int const tile = floor_divide(t.first, bounds.tile) - floor_divide(t.first_position, bounds.tile);
        list = a.list.list(t.sequence, tile, t.head);
        std::int64_t const held = a.list.length(t.sequence, tile, t.head);
        length = static_cast<int>(held < a.list.capacity ? held : a.list.capacity);
    }
    for (list_entries walk(list, length, competing); walk.next();)
    {
        int const lane = threadIdx.x % 32;
        append_entries(found.blocks, found.count, walk.entry(lane), walk.valid() >> lane & 1);
    }
    found.works = found.count < competing.count();
}

/// Of lists of the tokens' own.
inline __device__ void intersect_lists(change_arguments const& a, std::int64_t number, common_blocks& found)
{
    union_note const& note = a.unions.notes[number];
    std::uint32_t const* const entries = a.unions.of(number);
    for (int w = 0; w < a.unions.words; ++w) found.works = found.works || note.working[w] != 0;
    for (int first = 0; first < note.blocks; first += 32)
    {
        int const i = first + static_cast<int>(threadIdx.x % 32);
        int const block = i < note.blocks ? static_cast<int>(entries[i]) : found.end;
        bool all = block >= a.chains.bounds.sink_blocks && block < found.end;
        for (int w = 0; all && w < a.unions.words; ++w)
            all = (entries[(1 + w) * a.unions.capacity + i] & note.working[w]) == note.working[w];
        append_entries(found.blocks, found.count, block, all);
    }
}

/// By one warp: from the base of the tile before, or anew.
inline __device__ void store_changes(tile_changes& to, std::int32_t* blocks, common_blocks const& now,
                                     common_blocks const* before, int sink_blocks)
{
    int const lane = threadIdx.x % 32;
    tile_changes made{now.works, before == nullptr, now.end, 0, 0};
    if (now.works && before)
    {
        int count = 0;
        for (int first = 0; first < now.count; first += 32)
        {
            bool const here = first + lane < now.count;
            int const block = here ? now.blocks[first + lane] : 0;
            append_entries(blocks, count, block, here && block < before->end && !before->has(block));
        }
        made.removed = count;
        for (int first = 0; first < before->count; first += 32)
        {
            bool const here = first + lane < before->count;
            int const block = here ? before->blocks[first + lane] : 0;
            append_entries(blocks, count, block, here && !now.has(block));
        }
        int const left_window = before->end > sink_blocks ? before->end : sink_blocks;
        for (int first = left_window; first < now.end; first += 32)
            append_entries(blocks, count, first + lane, first + lane < now.end && !now.has(first + lane));
        made.added = count - made.removed;
        constexpr int state_cost = 4; // of reading a state, in blocks
        made.restarts = count >= now.count + state_cost;
    }
    if (now.works && made.restarts)
    {
        __syncwarp(); // what was written there is of other lanes
        made.removed = now.count, made.added = 0;
        for (int i = lane; i < now.count; i += 32) blocks[i] = now.blocks[i];
    }
    if (lane == 0) to = made;
}

/// 32 threads for each tile of a chain.
template <class Arguments>
__global__ __launch_bounds__(1024, 1) void change_kernel(__grid_constant__ Arguments const a)
{
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
    __shared__ common_blocks of_tile[32];
    __shared__ int exists[32];
    int const item = static_cast<int>(blockIdx.x);
    if (item >= items_here(a.chains)) return;
    tile_place t = find_tile(a.chains, item);
    if (!t.exists) return;
    int const warp = threadIdx.x / 32;
    int const tile = floor_divide(t.first, a.to.tokens) + warp - floor_divide(t.first_position, a.to.tokens);
    t.first += warp * a.to.tokens;
    t.begin = t.begin > t.first ? t.begin : t.first;
    t.end = t.end < t.first + a.to.tokens ? t.end : t.first + a.to.tokens;
    bool const here = t.begin < t.end;
    std::int64_t const number = here ? a.to.number(t.sequence, tile, t.head) : 0;
    std::int32_t* const blocks = a.to.blocks + number * a.to.capacity;
    common_blocks mine{blocks + a.to.capacity - a.list_capacity, 0, 0, false};
    if (here)
    {
        mine.end = a.chains.bounds.state_end(t.begin > 0 ? t.begin : 0);
        if (a.whole)
            read_shared_list(a, t, mine);
        else
            intersect_lists(a, number, mine);
    }
    if (threadIdx.x % 32 == 0) of_tile[warp] = mine, exists[warp] = here;
    __syncthreads();
    if (!here) return;
    bool const follows = warp > 0 && exists[warp - 1] && of_tile[warp - 1].works;
    store_changes(a.to.tiles[number], blocks, mine, follows ? &of_tile[warp - 1] : nullptr,
                  a.chains.bounds.sink_blocks);
#endif
}

} // namespace spla::cuda
