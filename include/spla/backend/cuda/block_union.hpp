// SPDX-FileCopyrightText: The spla authors
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once
#include "exact_shape.hpp"

#include <climits>

/// The blocks that neighbouring tokens visit, merged on the fly by one warp: ascending, each with the tokens that visit
/// it. Nothing of it is ever in memory; a step of the walk hides behind the products of the block before.
namespace spla::cuda
{

inline constexpr int no_block = INT_MAX;

/// One token on its way: sinks, the entries of its list, its window up to its own block. Ahead: entries are loaded one
/// step before they are looked at, where a warp has the registers.
template <bool Ahead>
class token_walk
{
public:
    /// Sees nothing.
    __device__ void close() { next_ = no_block; }
    /// Entries from lists[first] on; those out of range, descending or twice there are passed over.
    __device__ void open(basic_window<int> const& bounds, int position, std::int32_t const* lists, int first,
                         int length)
    {
        window_begin_ = bounds.competing(position).end;
        at_ = first;
        left_ = length;
        if constexpr (Ahead)
        {
            entry_ = left_ > 0 ? lists[at_] : 0;
            following_ = left_ > 1 ? lists[at_ + 1] : 0;
        }
        next_ = after(-1, position, lists, bounds.sink_blocks);
    }
    __device__ int next() const { return next_; }
    /// position: the token's, as it was opened.
    __device__ void leave(int block, int position, std::int32_t const* lists, int sink_blocks)
    {
        next_ = after(block, position, lists, sink_blocks);
    }

private:
    __device__ int after(int block, int position, std::int32_t const* lists, int sink_blocks)
    {
        int const own = position / block_tokens;
        if (block + 1 < sink_blocks && block < own) return block + 1;
        for (; left_ > 0; --left_)
        {
            int const entry = Ahead ? entry_ : lists[at_];
            if (entry > block && entry >= sink_blocks && entry < window_begin_) return entry;
            if constexpr (Ahead)
            {
                entry_ = following_;
                if (left_ > 2) following_ = lists[at_ + 2];
            }
            ++at_;
        }
        int const forced = block + 1 > window_begin_ ? block + 1 : window_begin_;
        return forced <= own ? forced : no_block;
    }

    int at_, left_;         ///< the entries that are left
    int entry_, following_; ///< the first two of them, where they are loaded ahead
    int window_begin_, next_;
};

/// Up to 32 N tokens, token t in lane t % 32. All of a warp call each function.
template <int N>
class block_union
{
public:
    /// Tokens outside the call see nothing. list: null where nothing is selected.
    __device__ void open(basic_window<int> const& bounds, tile_place const& t, detail::list_tensor const& list)
    {
        int const first_list = floor_divide(t.first_position, bounds.tile);
        // A warp has few registers: the tile's lists are found from the first of them by numbers of 32 bits.
        int const first_tile = (t.begin > 0 ? t.begin : 0) / bounds.tile - first_list;
        lists_ = list && t.sees_keys() ? list.list(t.sequence, first_tile, t.head) : nullptr;
        first_ = t.first + static_cast<int>(threadIdx.x % 32);
#pragma unroll
        for (int i = 0; i < N; ++i)
        {
            int const position = first_ + i * 32;
            walk_[i].close();
            if (position < 0 || position < t.begin || position >= t.end) continue;
            int const tile = position / bounds.tile - first_list;
            int first = 0, length = 0;
            if (list)
            {
                first = static_cast<int>((tile - first_tile) * list.stride[1]);
                std::int64_t const held = list.length(t.sequence, tile, t.head);
                length = static_cast<int>(held < list.capacity ? held : list.capacity);
            }
            walk_[i].open(bounds, position, lists_, first, length);
        }
    }
    /// The lowest block that any token still visits; no_block at the end.
    __device__ int next() const
    {
        int lowest = walk_[0].next();
#pragma unroll
        for (int i = 1; i < N; ++i) lowest = walk_[i].next() < lowest ? walk_[i].next() : lowest;
        return __reduce_min_sync(0xffffffffu, lowest);
    }
    /// Leaves the block behind. Bit t % 32 of tokens[t / 32]: token t visits it.
    __device__ void visit(basic_window<int> const& bounds, int block, std::uint32_t* tokens)
    {
#pragma unroll
        for (int i = 0; i < N; ++i)
        {
            bool const here = walk_[i].next() == block;
            tokens[i] = __ballot_sync(0xffffffffu, here);
            if (here) walk_[i].leave(block, first_ + i * 32, lists_, bounds.sink_blocks);
        }
    }

private:
    token_walk<(N < 4)> walk_[N];
    std::int32_t const* lists_;
    int first_; ///< position of this lane's first token
};

} // namespace spla::cuda
