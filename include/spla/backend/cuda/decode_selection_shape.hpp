// SPDX-FileCopyrightText: The spla authors
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once
#include "../portable/selection_kernel.hpp"
#include "instructions.hpp"

#include <algorithm>

/// Sizes of the selection for decoded tokens on Hopper.
///
/// A row is (list, head of the group): a query that scores. An item is all rows of some lists of one sequence and key
/// head; its blocks are scored by panels of 16, by any warp anywhere, and who hears of its last panel selects. What a
/// panel gives depends on nothing but the panel: who scores it does not matter.
namespace spla::cuda
{

inline constexpr int decode_panel_blocks = 16; ///< rows of a warp's product
inline constexpr int product_queries = 8;      ///< columns of a warp's product
inline constexpr int shared_queries = 16;      ///< lists are scored together up to so many rows
inline constexpr int most_queries = 64;        ///< of one list
inline constexpr int most_decode_width = 128;
inline constexpr int width_steps = most_decode_width / 32; ///< a lane reads 8 numbers of 32: for two products
inline constexpr int query_words = width_steps * 32;       ///< of 16 bytes, of a product's queries

/// Warps of a block of threads: some select while others score, and one finds what comes next.
inline constexpr int decode_selectors = 4, decode_selector_threads = 32 * decode_selectors;
inline constexpr int decode_scorers = 7, few_scorers = 3; ///< the latter leave room for the launches before and after
constexpr int decode_threads(int scorers)
{
    return decode_selector_threads + 32 * (scorers + 1);
}
inline constexpr int decode_stages = 3; ///< parts of items at once

/// Of a panel and row: masses are relative to 2^reference; sum of those that are finite.
struct alignas(8) panel_sum
{
    float reference, sum;
};

struct decode_selection_sizes
{
    detail::sequence_table sequences;
    int few_queries; ///< sequences with no more new tokens are decoded
    int key_heads, group, width;
    basic_window<int> bounds;
    bool resumes;             ///< the list of a tile under way is not made here
    int lists_each;           ///< of an item
    int rows;                 ///< of an item, at most
    int items_each;           ///< of a sequence and key head, at most
    int most_blocks;          ///< that compete for a list, in whole panels
    std::int64_t most_panels; ///< of all sequences and key heads
    std::int64_t most_rows;   ///< and those of each list and head of the group
    int top_k;
    double top_p;
    bool cuts; ///< top_p does
    bool has_variance, cumulant, kept;
    int kept_vector;   ///< number of the last vector of a summary
    float scale;       ///< of logits, times log2(e)
    float half_square; ///< s^2 / 2, of variances
    float others;      ///< keys that a mean stands for

    /// Must so many competing blocks be scored, or are all of them selected, or none?
    __host__ __device__ bool scores(int blocks) const { return top_k > 0 && (blocks > top_k || (cuts && blocks > 0)); }
    __host__ __device__ int row_groups() const { return (rows + product_queries - 1) / product_queries; }
    __host__ __device__ int mask_words() const { return (most_blocks + 31) / 32; }
};

struct decode_selection_arguments
{
    detail::tensor<bfloat16 const> query;
    detail::summary_tensor summary;
    detail::list_tensor list;
    decode_selection_sizes sizes;
    float* mass;            ///< [panel and row][block]
    panel_sum* sum;         ///< [panel and row]
    std::int32_t* finished; ///< [sequence, item, key head]: panels that are scored; 0 before a launch
};

/// A candidate for the last place of a list: larger rank first, then the lower block.
struct alignas(8) ranked_block
{
    std::uint32_t rank;
    std::int32_t block;

    __device__ bool before(ranked_block const& o) const { return rank > o.rank || (rank == o.rank && block < o.block); }
};

/// The blocks of one list of an item.
struct decode_list
{
    int begin, blocks; ///< that compete
};

/// Neighbouring panels of one item, as one warp prepares them for the others.
struct panel_note
{
    bool ends; ///< there is nothing more
    bool scored;
    bool makes_summaries; ///< the step itself may make some that are read here
    int sequence, head;
    int first, last, panels; ///< panels of the item: here, and all
    int first_list;          ///< of its sequence
    int lists, rows;         ///< that score
    int first_row;           ///< number of its first panel's first row; the next panel's come next
    int blocks;              ///< that compete for the last list
    int number;              ///< of its counter
    std::int64_t vector;     ///< number of its first block's first vector, where summaries do not lie in pages
    decode_list list[shared_queries];
    int row_blocks[most_queries]; ///< that compete, of each row
};

/// Shared memory of one block of threads; what follows has sizes known at run time.
struct alignas(16) decode_selection_memory
{
    static constexpr int bins = 2048;
    std::uint32_t count[bins];
    ranked_block candidate[decode_selector_threads];
    panel_note note[decode_stages];
    barrier found[decode_stages], loaded[decode_stages]; ///< an item; its queries
    barrier scored[decode_stages], free[decode_stages];
    panel_sum part[decode_selectors];               ///< of a head's panels
    float top[most_queries], inverse[most_queries]; ///< of each head: largest reference, one over the sum
    int warp_sum[decode_selectors];
    double warp_mass[decode_selectors];
    int candidates, bin, above, in_bin;
    ranked_block last; ///< that is taken
    bool selects;

    static std::int64_t bytes(decode_selection_sizes const& s)
    {
        return static_cast<std::int64_t>(sizeof(decode_selection_memory)) +
               decode_stages * s.row_groups() * 2 * query_words * 16 + 8 * s.mask_words() +
               4 * std::int64_t{s.most_blocks};
    }
};

/// The parts of it.
struct decode_selection_places
{
    decode_selection_memory& fixed;
    int row_groups;
    uint4* query;         ///< [stage][8 rows][q, q*q][step][lane]
    std::uint32_t* rank;  ///< of each block's mass
    std::uint32_t* taken; ///< bits of blocks
    std::uint32_t* kept;  ///< those that top_p leaves

    __device__ decode_selection_places(unsigned char* raw, decode_selection_sizes const& s)
        : fixed(*reinterpret_cast<decode_selection_memory*>(raw)), row_groups(s.row_groups()),
          query(reinterpret_cast<uint4*>(&fixed + 1)),
          rank(reinterpret_cast<std::uint32_t*>(query + decode_stages * row_groups * 2 * query_words)),
          taken(rank + s.most_blocks), kept(taken + s.mask_words())
    {
    }
    __device__ uint4* queries(int stage, int group, int square) const
    {
        return query + ((stage * row_groups + group) * 2 + square) * query_words;
    }
};

} // namespace spla::cuda
