// SPDX-FileCopyrightText: The spla authors
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once
#include "../portable/decoded_lists.hpp"
#include "instructions.hpp"

#include <algorithm>

/// Sizes of the selection for decoded tokens on Hopper.
///
/// A row is (list, head of the group): a query that scores. An item is all rows of some lists of one sequence and
/// key head; its blocks are scored by panels of 8, by any warp anywhere, and who finishes the last panel selects. What
/// a panel gives depends on nothing but the panel: who scores it does not matter.
namespace spla::cuda
{

inline constexpr int decode_panel_blocks = 8; ///< columns of a warp's product
inline constexpr int decode_threads = 256;
inline constexpr int decode_warps = decode_threads / 32;
inline constexpr int decode_blocks_each = 2; ///< blocks of threads of a multiprocessor: one selects while another reads
inline constexpr int product_queries = 16; ///< rows of a warp's product; lists are scored together up to so many
inline constexpr int most_queries = 64;    ///< of one list
inline constexpr int most_decode_width = 128;
inline constexpr int width_steps = most_decode_width / 32; ///< a lane reads 8 numbers of 32: for two products
inline constexpr int query_words = 2 * width_steps * 32;   ///< of 16 bytes, of a product's rows

/// Of a panel and row: masses are relative to 2^reference; sum of those that are finite.
struct alignas(8) panel_sum
{
    float reference, sum;
};

struct decode_selection_sizes
{
    detail::sequence_table sequences;
    detail::item_table panels;      ///< of each sequence, of one key head
    detail::item_table list_panels; ///< the same for each list
    int key_heads, group, width;
    basic_window<int> bounds;
    bool resumes;    ///< the list of a tile under way is not made here
    int lists_each;  ///< of an item
    int rows;        ///< of an item, at most
    int items_each;  ///< of a sequence and key head, at most
    int most_blocks; ///< that compete for a list, in whole panels
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

/// Some lists of a sequence and key head.
struct decode_item
{
    portable::decoded_lists<int> lists;
    int sequence, head;
    int first_list, list_count;
    int number; ///< of its counter
    int begin;  ///< number of its first panel
    int rows;   ///< that score
    int first_row; ///< number of its first panel's first row; the next panel's come next
};

/// Shared memory of one block of threads; what follows has sizes known at run time.
struct alignas(16) decode_selection_memory
{
    static constexpr int bins = 2048;
    std::uint32_t count[bins];
    ranked_block candidate[decode_threads];
    float top[most_queries], inverse[most_queries]; ///< of each head: largest reference, one over the sum
    int blocks[most_queries];                       ///< that compete, of each row
    int warp_sum[decode_warps];
    double warp_mass[decode_warps];
    int candidates, bin, above, in_bin;
    ranked_block last; ///< that is taken
    bool selects;
    decode_item item; ///< at work

    static std::int64_t bytes(decode_selection_sizes const& s)
    {
        return static_cast<std::int64_t>(sizeof(decode_selection_memory)) +
               s.row_groups() * 2 * query_words * 16 + 8 * s.mask_words() + 4 * std::int64_t{s.most_blocks};
    }
};

/// The parts of it.
struct decode_selection_places
{
    decode_selection_memory& fixed;
    uint4* query;         ///< [16 rows][q, q*q][step][product][lane]
    std::uint32_t* taken; ///< bits of blocks
    std::uint32_t* kept;  ///< those that top_p leaves
    std::uint32_t* rank;  ///< of each block's mass

    __device__ decode_selection_places(unsigned char* raw, decode_selection_sizes const& s)
        : fixed(*reinterpret_cast<decode_selection_memory*>(raw)), query(reinterpret_cast<uint4*>(&fixed + 1)),
          taken(reinterpret_cast<std::uint32_t*>(query + s.row_groups() * 2 * query_words)),
          kept(taken + s.mask_words()), rank(kept + s.mask_words())
    {
    }
    __device__ uint4* queries(int group, int square) const { return query + (group * 2 + square) * query_words; }
};

/// Sequence of a panel of one key head. All of a warp call it.
inline __device__ int find_sequence(detail::item_table const& panels, int panel)
{
    if (!panels.first) return panel / static_cast<int>(panels.each);
    int const lane = threadIdx.x % 32;
    int low = 0, count = static_cast<int>(panels.sequences);
    while (count > 1)
    {
        int const step = (count + 31) / 32, at = lane * step;
        bool const reached = at < count && panels.first[low + at] <= panel;
        int const last = 31 - __clz(static_cast<int>(__ballot_sync(0xffffffffu, reached)));
        low += last * step;
        count = ::min(step, count - last * step);
    }
    return low;
}

inline __device__ int panels_here(decode_selection_sizes const& s)
{
    int const n = static_cast<int>(s.panels.sequences);
    return (s.panels.first ? s.panels.first[n] : n * static_cast<int>(s.panels.each)) * s.key_heads;
}

/// The item of a panel that there is. All of a warp call it.
inline __device__ decode_item find_item(decode_selection_sizes const& s, int panel)
{
    int const sequence = find_sequence(s.panels, panel / s.key_heads);
    detail::sequence const of = s.sequences.at_work(sequence);
    decode_item item{{s.bounds, static_cast<int>(of.queries), static_cast<int>(of.keys), s.resumes, s.top_k, s.cuts,
                      decode_panel_blocks}};
    item.sequence = sequence;
    int const begin = static_cast<int>(s.panels.begin(sequence)) * s.key_heads;
    int const number = (panel - begin) / item.lists.panels, part = number / s.key_heads;
    item.head = number % s.key_heads;
    item.first_list = item.lists.first + part * s.lists_each;
    item.list_count = ::min(s.lists_each, item.lists.count - part * s.lists_each);
    item.number = sequence * s.items_each * s.key_heads + number;
    item.begin = begin + number * item.lists.panels;
    item.rows = item.list_count * s.group;
    int const lists_before = static_cast<int>(s.list_panels.begin(sequence)) * s.key_heads +
                             (part * s.lists_each * s.key_heads + item.head * item.list_count) * item.lists.panels;
    item.first_row = lists_before * s.group;
    return item;
}

} // namespace spla::cuda
