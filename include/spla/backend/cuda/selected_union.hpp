// SPDX-FileCopyrightText: The spla authors
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once
#include "block_union.hpp"

/// The blocks that change the residual of neighbouring tokens, merged on the fly by one warp: ascending, each with the
/// tokens that it concerns.
///
/// All tokens of a tile read one state, that of the blocks before `added`. Of those, a token subtracts what it
/// selected; of the blocks from `added` to the end of what competes for it, it adds what it did not select.
namespace spla::cuda
{

/// One token on its way. Lists of neighbouring tokens are found from that of the tile's first, so that an int says
/// where: a warp has few registers. A step loads one entry, which a cache near by holds but for the first.
class selected_walk
{
public:
    /// Sees nothing.
    __device__ void close() { next_ = no_block; }
    /// Entries out of range, descending or twice there are passed over.
    __device__ void open(basic_block_range<int> const& competing, std::int32_t const* lists, int list, int length,
                         int added)
    {
        end_ = competing.end;
        entry_ = list;
        left_ = length;
        next_ = after(competing.begin - 1, lists, added);
    }
    __device__ int next() const { return next_; }
    __device__ void leave(int block, std::int32_t const* lists, int added) { next_ = after(block, lists, added); }

private:
    __device__ int after(int block, std::int32_t const* lists, int added)
    {
        int entry = no_block;
        for (; left_ > 0; advance())
        {
            entry = lists[entry_];
            if (entry > block && entry < end_) break;
            entry = no_block;
        }
        if (entry < added) return entry;
        int b = block + 1 > added ? block + 1 : added; // no selected one is left before
        for (; b < end_ && left_ > 0; advance())
        {
            entry = lists[entry_];
            if (entry == b)
                ++b;
            else if (entry > b && entry < end_)
                break;
        }
        return b < end_ ? b : no_block;
    }
    __device__ void advance() { ++entry_, --left_; }

    int entry_, left_; ///< the entries that are left
    int end_, next_;
};

/// Are all competing blocks in the list?
inline __device__ bool selects_all(basic_block_range<int> const& competing, std::int32_t const* list, int length)
{
    if (length < competing.count()) return false;
    int valid = 0, last = -1;
#pragma unroll 4
    for (int i = 0; i < length; ++i)
    {
        int const entry = list[i];
        if (entry <= last || !competing.contains(entry)) continue;
        ++valid;
        last = entry;
    }
    return valid == competing.count();
}

/// Up to 32 N tokens, token t in lane t % 32. All of a warp call each function.
template <int N>
class selected_union
{
public:
    /// added: as above. Tokens outside the call, and those whose residual is zero by construction, see nothing.
    __device__ void open(basic_window<int> const& bounds, tile_place const& t, detail::list_tensor const& list,
                         int added)
    {
        added_ = added;
        int const first_list = floor_divide(t.first_position, bounds.tile);
        int const first_tile = (t.begin > 0 ? t.begin : 0) / bounds.tile - first_list;
        lists_ = list && t.sees_keys() ? list.list(t.sequence, first_tile, t.head) : nullptr;
        bool most = false;
#pragma unroll
        for (int i = 0; i < N; ++i)
        {
            int const position = t.first + i * 32 + static_cast<int>(threadIdx.x % 32);
            walk_[i].close();
            bool works = position >= 0 && position >= t.begin && position < t.end;
            if (works)
            {
                auto const competing = bounds.competing(position);
                int first = 0, length = 0;
                if (list)
                {
                    int const tile = position / bounds.tile - first_list;
                    first = static_cast<int>((tile - first_tile) * list.stride[1]);
                    std::int64_t const held = list.length(t.sequence, tile, t.head);
                    length = static_cast<int>(held < list.capacity ? held : list.capacity);
                    if (length < 0) length = 0;
                }
                works = !selects_all(competing, lists_ + first, length);
                if (works)
                {
                    walk_[i].open(competing, lists_, first, length, added);
                    most = most || length > competing.count() / 2;
                }
            }
            working_[i] = __ballot_sync(0xffffffffu, works);
        }
        most_ = __any_sync(0xffffffffu, most);
    }
    /// Tokens that have a residual: bits as below.
    __device__ std::uint32_t working(int i) const
    {
        return working_[i];
    }
    /// May more than half of what competes for some such token be selected?
    __device__ bool selects_most() const
    {
        return most_;
    }
    /// The lowest block that any token still visits; no_block at the end.
    __device__ int next() const
    {
        int lowest = walk_[0].next();
#pragma unroll
        for (int i = 1; i < N; ++i) lowest = walk_[i].next() < lowest ? walk_[i].next() : lowest;
        return __reduce_min_sync(0xffffffffu, lowest);
    }
    /// Leaves the block behind. Bit t % 32 of tokens[t / 32]: it concerns token t.
    __device__ void visit(int block, std::uint32_t* tokens)
    {
#pragma unroll
        for (int i = 0; i < N; ++i)
        {
            bool const here = walk_[i].next() == block;
            tokens[i] = __ballot_sync(0xffffffffu, here);
            if (here) walk_[i].leave(block, lists_, added_);
        }
    }

private:
    selected_walk walk_[N];
    std::uint32_t working_[N];
    std::int32_t const* lists_; ///< of the tile's tokens; null where nothing is selected
    int added_;
    bool most_;
};

} // namespace spla::cuda
