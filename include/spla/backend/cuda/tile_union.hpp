// SPDX-FileCopyrightText: The spla authors
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once
#include "exact_shape.hpp"

#include <climits>

/// The blocks that the tokens of a tile visit: ascending, each with its tokens. Merged once for a tile, in memory, so
/// that whoever loads its keys reads 32 of them at a time.
namespace spla::cuda
{

inline constexpr int no_block = INT_MAX;

/// Of one tile and key head.
struct union_note
{
    int blocks;
    std::uint32_t working[4]; ///< bit t % 32 of word t / 32: token t has a residual
    int most;                 ///< may some such token have selected more than half of what competes for it?
};

/// Those of a call, in workspace. Null where it has none.
struct union_table
{
    union_note* notes = nullptr;      ///< [sequence, tile, key_head]
    std::uint32_t* entries = nullptr; ///< [sequence, tile, key_head, 1 + words, capacity]: blocks, then bits as above
    std::int64_t key_heads = 0;
    int capacity = 0, words = 1;
    int all_compete = 0; ///< blocks that compete and that no token visits are entries too

    KOKKOS_FUNCTION explicit operator bool() const { return entries != nullptr; }
    /// Number of a tile, among those of all sequences and heads.
    __device__ std::int64_t number(exact_shape const& tiles, tile_place const& t) const
    {
        int const tile = floor_divide(t.first, tiles.tokens) - floor_divide(t.first_position, tiles.tokens);
        return (tiles.items.begin(t.sequence) + tile) * key_heads + t.head;
    }
    __device__ std::uint32_t* of(std::int64_t number) const { return entries + number * capacity * (1 + words); }
};

/// Walks a tile's union. All of a warp call each function.
template <int Words>
class union_walk
{
public:
    /// places: in shared memory, of this warp.
    __device__ explicit union_walk(block_places& places) : places_(places) {}

    __device__ void open(union_table const& table, std::int64_t number)
    {
        entries_ = table.of(number);
        capacity_ = table.capacity;
        count_ = table.notes[number].blocks;
        first_ = 0;
        kept_ = 0;
    }
    /// The next block that still has tokens after filter(block, tokens), which may take some away; no_block at the end.
    /// place: the number of its place, find(block), which is asked for 32 blocks at a time.
    template <class Find, class Filter>
    __device__ int next(std::uint32_t (&tokens)[Words], int& place, Find const& find, Filter const& filter)
    {
        while (kept_ == 0)
        {
            if (first_ >= count_) return no_block;
            int const i = first_ + static_cast<int>(threadIdx.x % 32);
            bool const here = i < count_;
            block_ = here ? static_cast<int>(entries_[i]) : no_block;
            std::uint32_t any = 0;
#pragma unroll
            for (int w = 0; w < Words; ++w) tokens_[w] = here ? entries_[(1 + w) * capacity_ + i] : 0;
            if (here) filter(block_, tokens_);
#pragma unroll
            for (int w = 0; w < Words; ++w) any |= tokens_[w];
            kept_ = __ballot_sync(0xffffffffu, any != 0);
            first_ += 32;
            if (kept_ == 0) continue;
            half_ ^= 32;
            if (any != 0) places_[half_ + threadIdx.x % 32] = find(block_);
            __syncwarp();
        }
        int const lane = __ffs(static_cast<int>(kept_)) - 1;
        kept_ &= kept_ - 1;
#pragma unroll
        for (int w = 0; w < Words; ++w) tokens[w] = __shfl_sync(0xffffffffu, tokens_[w], lane);
        place = half_ + lane;
        return __shfl_sync(0xffffffffu, block_, lane);
    }
    template <class Find>
    __device__ int next(std::uint32_t (&tokens)[Words], int& place, Find const& find)
    {
        return next(tokens, place, find, [](int, std::uint32_t(&)[Words]) {});
    }

private:
    std::uint32_t const* entries_;
    int capacity_, count_, first_; ///< first_: of the next 32
    std::uint32_t kept_;           ///< lanes whose entries are left
    int block_;
    std::uint32_t tokens_[Words];
    block_places& places_;
    int half_ = 0;
};

/// The first position for which a block competes: that of a tile that starts local_blocks behind it. `end` where that
/// is later. Without a sign 32 bits are enough: positions are below 2^30, and no more blocks are local than there are.
inline __device__ int competes_from(basic_window<int> const& bounds, int block, int end)
{
    auto const tile = static_cast<std::uint32_t>(bounds.tile);
    std::uint32_t const behind = static_cast<std::uint32_t>(block + 1 + bounds.local_blocks) * block_tokens;
    std::uint32_t const start = (behind - 1) / tile * tile + tile;
    return start < static_cast<std::uint32_t>(end) ? static_cast<int>(start) : end;
}

/// What of a union changes the residuals of a tile's tokens. All of them read one state, that of the blocks before
/// `added`. Of those, a token subtracts what it selected; of the blocks from `added` to the end of what competes for
/// it, it adds what it did not select.
template <int Words>
class residual_filter
{
public:
    /// based: blocks before `added` that all working tokens selected are not in the state that they start from.
    __device__ residual_filter(basic_window<int> const& bounds, tile_place const& t, union_note const& note, int added,
                               bool based)
        : bounds_(bounds), first_(t.first), added_(added), based_(based)
    {
#pragma unroll
        for (int w = 0; w < Words; ++w) working_[w] = note.working[w];
    }
    __device__ void operator()(int block, std::uint32_t (&tokens)[Words]) const
    {
        bool common = based_ && block < added_;
#pragma unroll
        for (int w = 0; w < Words; ++w)
        {
            tokens[w] = working_[w] & (block < added_ ? tokens[w] : competes(block, w) & ~tokens[w]);
            common = common && tokens[w] == working_[w];
        }
        if (common || block < bounds_.sink_blocks)
        {
#pragma unroll
            for (int w = 0; w < Words; ++w) tokens[w] = 0;
        }
    }

private:
    /// Tokens of a word for which the block competes: those from the tile on that starts local_blocks behind it.
    __device__ std::uint32_t competes(int block, int word) const
    {
        int const start = competes_from(bounds_, block, first_ + 128) - first_ - 32 * word;
        return start <= 0 ? ~0u : (start >= 32 ? 0u : ~0u << start);
    }

    basic_window<int> const& bounds_;
    int first_, added_;
    bool based_;
    std::uint32_t working_[Words];
};

} // namespace spla::cuda
