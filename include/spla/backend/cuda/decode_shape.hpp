// SPDX-FileCopyrightText: The spla authors
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once
#include "../portable/attention_shape.hpp"
#include "decode_features.hpp"
#include "exact_shape.hpp"

/// Sizes of decode on Hopper, how its work is counted, and what a block of threads keeps in shared memory.
///
/// An item is one decoded token and key head (of a large group, a part of its query heads). Its blocks are walked in
/// runs of run_blocks, and each run reads its share of the state; a run is one quad of warps' (a warpgroup's), from its
/// first load to its unmerged rows in memory. The last run of an item to finish merges them all, ascending. Which runs
/// there are depends on lengths and the lists' capacity alone, and no sum on who made it: the same bits in any batch.
namespace spla::cuda
{

inline constexpr int run_blocks = 4;
inline constexpr int most_neighbours = 4; ///< runs of an item that one quad takes together
/// Of four query heads both branches are one product's columns: 0 to 3 the exact one's, 4 to 7 the residual's.
template <int Columns>
inline constexpr bool shares_columns = Columns == 4;
inline constexpr int state_chunk = 16; ///< rows of a state in one product
inline constexpr int state_rows = 48;  ///< that are read at once, at most

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
    std::int32_t* finished; ///< [items] runs that are; zeros before and after a launch
    std::int32_t* drawn;    ///< tickets for runs that were drawn; zero before and after a launch
    decode_shape shape;
};

/// A run, known before any of its bytes.
struct decode_run
{
    int sequence, token, head, part; ///< of the item; no more runs: sequence is negative
    int item, run, first_run, runs;  ///< numbers of the item, of this run, and of the item's first; how many it has
    bfloat16 const* query;           ///< the item's first head
    int fresh;                       ///< not of the item of the run before, whose queries are there
    int finished;                    ///< runs of this item that are finished with this one; 0: they are counted later
};

/// What a place holds.
struct decode_note
{
    enum kind_of : int
    {
        block,
        state,
        nothing, ///< of a run that nothing is left for
        end      ///< of all runs
    };
    int kind;
    int numbers;   ///< keys that the token sees, or rows of the state
    int first;     ///< the first of those rows
    int subtracts; ///< the block competes, and is subtracted from the residual
    int fine;      ///< its products are not rounded to 16 bits: most of what competes is selected
    int last;      ///< of the run
    int place;     ///< among all
};

/// What is to be copied to a place.
struct decode_copy
{
    decode_note note;
    int head, key_token, key_batch, value_token, value_batch;
    float const* state; ///< its first row
};

/// Unmerged rows of a run: which branches they have (bits), then the largest logit and the sum of each of Columns rows,
/// then O [rows][value], R [rows][value].
inline constexpr int has_exact = 1, has_residual = 2;
constexpr int unmerged_numbers(int columns, int rows, int value_dim)
{
    return 4 + 2 * columns + 2 * rows * value_dim;
}
template <int Columns>
struct unmerged_run
{
    float* data;

    __device__ int* branches() const { return reinterpret_cast<int*>(data); }
    __device__ float* largest() const { return data + 4; }
    __device__ float* sum() const { return data + 4 + Columns; }
    __device__ float* exact() const { return data + 4 + 2 * Columns; }
    __device__ float* residual(int rows, int value_dim) const { return exact() + rows * value_dim; }
};

template <int Columns>
__device__ unmerged_run<Columns> run_of(decode_arguments const& a, decode_run const& run)
{
    return {a.unmerged + static_cast<std::int64_t>(run.first_run + run.run) * a.shape.run_numbers};
}

/// A block of threads: quads of warps that multiply, and for each a warp that finds what is next; one more has it
/// copied. Registers of their threads, together no more than the block starts with.
template <int Width, int Columns>
struct decode_team
{
    static constexpr int workers = Width * Columns > 1024 ? 2 : 3, threads = 128 * (workers + 1);
    static constexpr int at_start = 65536 / threads / 8 * 8;
    static constexpr int loading = workers == 2 ? 72 : Columns == 4 ? 80 : 56;
    static constexpr int multiplying = ((workers + 1) * at_start - loading) / workers / 8 * 8;
};

/// A count in shared memory that one warp raises and others watch, with what was written before.
inline __device__ int load_count(int const& count)
{
    int x;
    asm volatile("ld.acquire.cta.shared::cta.s32 %0, [%1];" : "=r"(x) : "r"(shared_address(&count)) : "memory");
    return x;
}
inline __device__ void store_count(int& count, int x)
{
    asm volatile("st.release.cta.shared::cta.s32 [%0], %1;" ::"r"(shared_address(&count)), "r"(x) : "memory");
}

template <int Halves, int Width, int Columns>
struct decode_memory
{
    static constexpr int workers = decode_team<Width, Columns>::workers;
    static constexpr int panels = Width / panel_width;
    static constexpr int places = 6 * (128 / Width);
    static constexpr int groups = (Columns + 7) / 8; ///< of 8 query heads
    static constexpr int runs = 2;                   ///< of a quad, that are found before they are done with
    static constexpr int copies = 16;                ///< of a quad, that are found before they are under way
    static constexpr int steps = Width / 32;         ///< of pairs of products of 16 numbers
    static constexpr int state_pitch = Width + 8;    ///< numbers from row to row: four rows meet no bank twice

    /// Keys and values of a block.
    struct block
    {
        std::uint16_t key[panels][block_tokens][panel_width];
        std::uint16_t value[panels][block_tokens][panel_width];
    };
    union place
    {
        block of_block;
        float state[state_rows][state_pitch];
        float sums[sizeof(block) / 4]; ///< of a run that ends here: its four warps', on their way to each other
    };
    static_assert(sizeof(place) == sizeof(block));

    struct worker
    {
        uint4 query[groups][steps][32]; ///< of a warp's lanes, as products read them
        uint4 features[Halves][groups][steps][32];
    };

    place at[places];
    worker of[workers];
    decode_run run[workers][runs];
    decode_copy copy[workers][copies];
    decode_note note[workers][places];
    int found_copies[workers], started_copies[workers];               ///< so far
    int blocks[workers][most_neighbours * run_blocks];                ///< of the runs that are found
    float largest[workers][4][Columns], weights[workers][4][Columns]; ///< of each warp
    int merges[workers];
    barrier full[workers][places]; ///< of a quad's copies in order
    barrier free[places], found[workers][runs], done[workers][runs];
};

} // namespace spla::cuda
