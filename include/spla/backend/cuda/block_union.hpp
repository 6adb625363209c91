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

/// One token on its way: sinks, the entries of its list, its window up to its own block.
class token_walk
{
public:
    /// Sees nothing.
    __device__ void close() { next_ = no_block; }
    /// list: null where nothing is selected. Entries out of range, descending or twice there are passed over.
    __device__ void open(basic_window<int> const& bounds, int position, std::int32_t const* list, std::int64_t length)
    {
        own_ = position / bounds.block;
        window_begin_ = bounds.competing(position).end;
        list_ = list;
        left_ = static_cast<int>(length);
        entry_ = left_ > 0 ? list_[0] : 0;
        following_ = left_ > 1 ? list_[1] : 0;
        next_ = after(-1, bounds.sink_blocks);
    }
    __device__ int next() const { return next_; }
    __device__ void leave(int block, int sink_blocks) { next_ = after(block, sink_blocks); }

private:
    __device__ int after(int block, int sink_blocks)
    {
        if (block + 1 < sink_blocks && block < own_) return block + 1;
        for (; left_ > 0; --left_)
        {
            if (entry_ > block && entry_ >= sink_blocks && entry_ < window_begin_) return entry_;
            entry_ = following_; // loaded one step ahead
            if (left_ > 2) following_ = list_[2];
            ++list_;
        }
        int const forced = block + 1 > window_begin_ ? block + 1 : window_begin_;
        return forced <= own_ ? forced : no_block;
    }

    std::int32_t const* list_; ///< from the entry on
    int left_, entry_, following_, window_begin_, own_, next_;
};

/// Up to 32 N tokens, token t in lane t % 32. All of a warp call each function.
template <int N>
class block_union
{
public:
    /// Tokens outside the call see nothing. list: null where nothing is selected.
    __device__ void open(basic_window<int> const& bounds, tile_place const& t, detail::list_tensor const& list)
    {
        sink_blocks_ = bounds.sink_blocks;
        int const first_list = floor_divide(t.first_position, bounds.tile);
#pragma unroll
        for (int i = 0; i < N; ++i)
        {
            int const position = t.first + i * 32 + static_cast<int>(threadIdx.x % 32);
            walk_[i].close();
            if (position < 0 || position < t.begin || position >= t.end) continue;
            int const tile = position / bounds.tile - first_list;
            std::int32_t const* entries = nullptr;
            std::int64_t length = 0;
            if (list)
            {
                entries = list.list(t.sequence, tile, t.head);
                length = list.length(t.sequence, tile, t.head);
            }
            walk_[i].open(bounds, position, entries, length < list.capacity ? length : list.capacity);
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
    __device__ void visit(int block, std::uint32_t* tokens)
    {
#pragma unroll
        for (int i = 0; i < N; ++i)
        {
            bool const here = walk_[i].next() == block;
            tokens[i] = __ballot_sync(0xffffffffu, here);
            if (here) walk_[i].leave(block, sink_blocks_);
        }
    }

private:
    token_walk walk_[N];
    int sink_blocks_;
};

} // namespace spla::cuda
