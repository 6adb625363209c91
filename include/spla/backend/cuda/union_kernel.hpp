// SPDX-FileCopyrightText: The spla authors
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once
#include "list_entries.hpp"
#include "tile_union.hpp"

/// Merges the lists of each tile's tokens (spec section 3): a warp a tile. Bits of tokens are set in shared memory,
/// block by block; what has any is written in order.
namespace spla::cuda
{

inline constexpr int union_warps = 4;    ///< of a block of threads
inline constexpr int union_words = 2048; ///< of bits in shared memory, of a warp; more blocks are taken range by range

struct union_arguments
{
    exact_shape tiles;
    detail::list_tensor list;
    union_table to;
    bool everything; ///< every block that competes is selected
};

template <int Words>
class union_builder
{
    static constexpr int range = union_words / Words; ///< blocks at a time
    static constexpr int at_once = 4;                 ///< lists

public:
    __device__ union_builder(union_arguments const& a, tile_place const& t, std::uint32_t* bits)
        : a_(a), t_(t), bounds_(a.tiles.bounds), bits_(bits), lane_(threadIdx.x % 32)
    {
    }
    __device__ void run()
    {
        int count = 0;
        if (t_.sees_keys())
        {
            int const end = (t_.end - 1) / block_tokens + 1;
            for (int first = 0; first < end; first += range)
            {
                clear();
                set_selected(first, first == 0);
                set_forced(first, end);
                __syncwarp();
                write(first, end, count);
                __syncwarp();
            }
        }
        if (lane_ != 0) return;
        union_note& note = a_.to.notes[number()];
        note.blocks = count;
        note.most = most_;
#pragma unroll
        for (int w = 0; w < 4; ++w) note.working[w] = w < Words ? working_[w < Words ? w : 0] : 0;
    }

private:
    __device__ void clear()
    {
        for (int i = lane_; i < union_words; i += 32) bits_[i] = 0;
        __syncwarp();
    }
    /// Bits of the tokens at positions [begin, end) of a word.
    __device__ std::uint32_t tokens_of(int begin, int end, int word) const
    {
        auto const below = [&](int position) {
            int const n = position - t_.first - 32 * word;
            return n <= 0 ? 0u : (n >= 32 ? ~0u : (1u << n) - 1);
        };
        return below(end) & ~below(begin);
    }

    /// Blocks [first, first + range) of the tokens' lists. counts: tells working tokens apart, too.
    __device__ void set_selected(int first, bool counts)
    {
        int const begin = t_.begin > 0 ? t_.begin : 0;
        int const list0 = floor_divide(t_.first_position, bounds_.tile);
        int const list_begin = begin / bounds_.tile, list_end = (t_.end - 1) / bounds_.tile + 1;
        if (!a_.list)
        {
            for (int l = list_begin; counts && l < list_end; ++l) note_list(place_of(l, begin), 0, 0);
            return;
        }
        for (int l = list_begin; l < list_end; l += at_once)
        {
            std::int32_t const* list[at_once];
            int length[at_once], largest[at_once], valid[at_once], longest = 0;
#pragma unroll
            for (int u = 0; u < at_once; ++u)
            {
                int const number = (l + u < list_end ? l + u : l) - list0;
                list[u] = a_.list.list(t_.sequence, number, t_.head);
                std::int64_t const held = a_.list.length(t_.sequence, number, t_.head);
                length[u] = l + u < list_end ? static_cast<int>(held < a_.list.capacity ? held : a_.list.capacity) : 0;
                longest = length[u] > longest ? length[u] : longest;
                largest[u] = -1, valid[u] = 0;
            }
            for (int from = 0; from < longest; from += 32)
            {
                int entry[at_once];
#pragma unroll
                for (int u = 0; u < at_once; ++u)
                    entry[u] = from + lane_ < length[u] ? list[u][from + lane_] : no_entry;
#pragma unroll
                for (int u = 0; u < at_once; ++u)
                {
                    if (from >= length[u]) continue; // all lanes alike
                    list_place const of = place_of(l + u, begin);
                    bool const is_valid = valid_entries(entry[u], of.competing, largest[u]);
                    valid[u] += __popc(__ballot_sync(0xffffffffu, is_valid));
                    int const place = entry[u] - first;
                    if (is_valid && place >= 0 && place < range) set(place, of.begin, of.end);
                    __syncwarp();
                }
            }
            if (!counts) continue;
#pragma unroll
            for (int u = 0; u < at_once; ++u)
            {
                if (l + u < list_end) note_list(place_of(l + u, begin), length[u], valid[u]);
            }
        }
    }
    /// The positions of the tile that a list is for, and what competes for them.
    struct list_place
    {
        int begin, end;
        basic_block_range<int> competing;
    };
    __device__ list_place place_of(int list, int begin) const
    {
        int const start = list * bounds_.tile, end = start + bounds_.tile;
        int const window = start / block_tokens - bounds_.local_blocks;
        return {begin > start ? begin : start,
                end < t_.end ? end : t_.end,
                {bounds_.sink_blocks, window > bounds_.sink_blocks ? window : bounds_.sink_blocks}};
    }
    /// Tokens at positions [begin, end) of the tile visit a block of the range.
    __device__ void set(int place, int begin, int end)
    {
#pragma unroll
        for (int w = 0; w < Words; ++w)
        {
            std::uint32_t const tokens = tokens_of(begin, end, w);
            if (tokens) bits_[place * Words + w] |= tokens;
        }
    }
    __device__ void note_list(list_place const& of, int length, int valid)
    {
        int const competing = of.competing.count();
        if (valid >= competing) return; // zero by construction
        most_ = most_ || length > competing / 2;
#pragma unroll
        for (int w = 0; w < Words; ++w) working_[w] |= tokens_of(of.begin, of.end, w);
    }

    /// Sinks and windows, of blocks [first, first + range) before `end`.
    __device__ void set_forced(int first, int end)
    {
        int const stop = first + range < end ? first + range : end;
        int const begin = t_.begin > 0 ? t_.begin : 0;
        // Seen by all tokens from its own on: sinks, or all blocks.
        int const sinks = bounds_.sink_blocks < stop && !a_.everything ? bounds_.sink_blocks : stop;
        for (int b = first + lane_; b < sinks; b += 32) set(b - first, first_of_block(b, begin), t_.end);
        int const window = a_.everything ? stop : bounds_.competing(begin).end;
        for (int b = (window > first ? window : first) + lane_; b < stop; b += 32)
        {
            // It is in the window of tokens from its own on, and before those for which it competes.
            int const competes = competes_from(bounds_, b, t_.end);
            if (b >= bounds_.sink_blocks) set(b - first, first_of_block(b, begin), competes);
        }
        if (!a_.to.all_compete) return;
        all_before_ = bounds_.competing(t_.end - 1).end;
    }
    __device__ static int first_of_block(int block, int begin)
    {
        return block * block_tokens > begin ? block * block_tokens : begin;
    }

    __device__ std::int64_t number() const
    {
        return a_.to.number(a_.tiles, t_);
    } ///< found anew: registers are few
    __device__ void write(int first, int end, int& count) const
    {
        std::uint32_t* const entries = a_.to.of(number());
        int const stop = first + range < end ? first + range : end;
        for (int b = first + lane_; b - lane_ < stop; b += 32)
        {
            std::uint32_t any = b < stop && b >= bounds_.sink_blocks && b < all_before_;
#pragma unroll
            for (int w = 0; w < Words; ++w) any |= b < stop ? bits_[(b - first) * Words + w] : 0;
            std::uint32_t const all = __ballot_sync(0xffffffffu, any != 0);
            int const to = count + __popc(all & ((1u << lane_) - 1));
            if (any && to < a_.to.capacity)
            {
                entries[to] = static_cast<std::uint32_t>(b);
#pragma unroll
                for (int w = 0; w < Words; ++w) entries[(1 + w) * a_.to.capacity + to] = bits_[(b - first) * Words + w];
            }
            count += __popc(all);
        }
    }

    union_arguments const& a_;
    tile_place const& t_;
    basic_window<int> const& bounds_;
    std::uint32_t* bits_; ///< [range][Words]
    int lane_;
    int all_before_ = 0; ///< blocks that are entries in any case end here
    std::uint32_t working_[Words] = {};
    bool most_ = false;
};

template <class Arguments>
__global__ __launch_bounds__(32 * union_warps, 6) void union_kernel(__grid_constant__ Arguments const a)
{
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
    __shared__ std::uint32_t bits[union_warps][union_words];
    int const warp = threadIdx.x / 32, item = static_cast<int>(blockIdx.x) * union_warps + warp;
    if (item >= items_here(a.tiles)) return;
    tile_place const t = find_tile(a.tiles, item);
    if (!t.exists) return;
    if (a.to.words == 1)
        union_builder<1>(a, t, bits[warp]).run();
    else if (a.to.words == 2)
        union_builder<2>(a, t, bits[warp]).run();
    else
        union_builder<4>(a, t, bits[warp]).run();
#endif
}

} // namespace spla::cuda
