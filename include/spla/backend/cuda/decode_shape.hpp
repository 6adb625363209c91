// SPDX-FileCopyrightText: The spla authors
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once
#include "../portable/attention_shape.hpp"
#include "decode_features.hpp"
#include "exact_shape.hpp"

/// Sizes of decode on Hopper, how its work is counted, and what a block of threads keeps in shared memory.
///
/// An item is one decoded token and key head (of a large group, a part of its query heads). Its blocks are walked in
/// runs of run_blocks, and each run reads its share of the state. A run is one block of threads': each of its four
/// warps has one block, by slices of slice_keys keys, copied to places of the warp's own, and its part of the state's
/// columns. The last run of an item to finish merges them all, ascending. Which runs there are depends on lengths and
/// the lists' capacity alone, and no sum on who made it: the same bits in any batch.
namespace spla::cuda
{

inline constexpr int decode_warps = 4, run_blocks = decode_warps, slice_keys = 16;
/// Of four query heads both branches are one product's columns: 0 to 3 the exact one's, 4 to 7 the residual's.
template <int Columns>
inline constexpr bool shares_columns = Columns == 4;
inline constexpr int state_chunk = 16; ///< rows of a state in one product

struct decode_shape
{
    detail::sequence_table sequences;
    basic_window<int> bounds;          ///< in blocks of block_tokens
    int few_queries;                   ///< sequences with no more new tokens are decoded here
    int key_heads, group, rows, parts; ///< a group's heads in `parts` of `rows`, the last may have fewer
    int width, value_dim, features;
    int list_capacity;
    int run_numbers; ///< of a run's unmerged rows
    float scale;     ///< of logits, times log2(e); positive
    bool residual;

    /// Runs of each token of a sequence.
    __host__ __device__ int runs(int keys) const
    {
        int const blocks = (keys + block_tokens - 1) / block_tokens;
        int const selected = list_capacity < blocks ? list_capacity : blocks;
        int const wanted =
            bounds.sink_blocks + selected + bounds.local_blocks + (bounds.tile + block_tokens - 1) / block_tokens;
        int const visited = wanted < blocks ? wanted : blocks;
        return visited > 0 ? (visited + run_blocks - 1) / run_blocks : 1;
    }
    /// Rows of the state that each of so many runs reads; the last ones may have fewer.
    __device__ int state_share(int runs) const
    {
        return (features + runs * state_chunk - 1) / (runs * state_chunk) * state_chunk;
    }
};

struct decode_arguments
{
    CUtensorMap key, value;
    detail::token_map key_map, value_map;
    detail::tensor<bfloat16 const> query;
    detail::list_tensor list;
    portable::linear_tensor<float> state;
    portable::attention_outputs<bfloat16> out;
    float* unmerged;        ///< [runs][run_numbers]
    std::int32_t* finished; ///< [items] runs that are; zeros before a launch
    int places;             ///< of each warp
    decode_shape shape;
};

/// Neighbouring runs of an item that a block of threads takes together, at most most_taken.
struct decode_item
{
    int sequence, token, head, part;
    int queries, keys;         ///< of the sequence
    int item, first_run, runs; ///< numbers of the item and of its first run; how many it has
    int run, taken;            ///< the first that is taken, how many
    float const* state;        ///< null: nothing is subtracted from one
};
inline constexpr int most_taken = 16;

/// A warp's block of a run, and where it lies.
struct decode_block
{
    int seen;      ///< keys of it that the token sees; 0: the warp has none
    int subtracts; ///< it competes, and is subtracted from the residual
    int fine;      ///< its products are not rounded to 16 bits: most of what competes is selected
    int key_token, key_batch, value_token, value_batch;
};

/// What a warp has at a place: keys of a slice that the token sees, with those that follow in the block (0: there are
/// none), and of its block and run.
struct decode_note
{
    int seen, subtracts, fine;
    int last; ///< of the run
};

inline constexpr int most_decode_rows = 8; ///< query heads that share a pass over keys and values
/// Unmerged rows of a run: the logit whose weight is 1 (-infinity where no key was seen) and the sum of weights of each
/// of most_decode_rows rows, then O [rows][value], R [rows][value].
constexpr int unmerged_numbers(int rows, int value_dim)
{
    return 2 * most_decode_rows + 2 * rows * value_dim;
}
struct unmerged_run
{
    float* data;

    __device__ float* largest() const { return data; }
    __device__ float* sum() const { return data + most_decode_rows; }
    __device__ float* exact() const { return data + 2 * most_decode_rows; }
    __device__ float* residual(int rows, int value_dim) const { return exact() + rows * value_dim; }
};

inline __device__ unmerged_run run_of(decode_arguments const& a, int number)
{
    return {a.unmerged + static_cast<std::int64_t>(number) * a.shape.run_numbers};
}

/// Blocks of threads of a multiprocessor, as many as registers are enough for; and what they keep beside the places of
/// their warps.
template <int Width, int Columns>
inline constexpr int decode_teams = Width <= 64 || shares_columns<Columns> ? 3 : 2;

template <int Halves, int Width>
struct decode_memory
{
    static constexpr int panels = Width / panel_width;
    static constexpr int steps = Width / 32; ///< of pairs of products of 16 numbers
    static constexpr int most_places = 8;

    /// Keys and values of a slice; and, of the last slice of a run, sums on their way to the other warps.
    union slice
    {
        struct
        {
            std::uint16_t key[panels][slice_keys][panel_width];
            std::uint16_t value[panels][slice_keys][panel_width];
        } rows;
        float sums[slice_keys][Width];
    };

    uint4 query[steps][32]; ///< of a warp's lanes, as products read them
    uint4 features[Halves][steps][32];
    decode_item item[decode_warps][2]; ///< whose runs each warp multiplies, and the next
    decode_note note[decode_warps][most_places];
    int selected[decode_warps][most_taken];       ///< blocks of runs that are being found
    decode_block block[decode_warps][most_taken]; ///< of the item that was located last
    float largest[decode_warps][8], weights[decode_warps][8];
    int residual[decode_warps]; ///< has each warp anything of the residual in a run?
    slice* last[decode_warps];  ///< its last place
    int merges;
    barrier full[decode_warps][most_places];

    /// Bytes of shared memory with so many places of each warp; they come first, aligned.
    static constexpr int bytes(int places)
    {
        return decode_warps * places * static_cast<int>(sizeof(slice)) + static_cast<int>(sizeof(decode_memory)) + 1024;
    }
};

} // namespace spla::cuda
