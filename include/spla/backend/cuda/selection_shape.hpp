// SPDX-FileCopyrightText: The spla authors
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once
#include "../portable/selection_kernel.hpp"
#include "instructions.hpp"

#include <cuda.h>

/// Sizes of the selection on Hopper: which rows a warpgroup scores, and what a block of threads keeps in shared memory.
///
/// A row is (scoring query, head of the group). A warpgroup has 64 of them: several lists together, or one list in
/// several chunks where it alone has more rows.
namespace spla::cuda
{

inline constexpr int score_rows_each = 64;    ///< of a warpgroup
inline constexpr int most_lists_each = 32;    ///< of a warpgroup: more would leave no room for candidates
inline constexpr int panel_blocks = 64;       ///< scored together
inline constexpr int scoring_groups = 2;      ///< warpgroups
inline constexpr int selection_threads = 512; ///< a warpgroup that loads, one that selects, and those that score
inline constexpr int most_vector_places = 12; ///< of the ring of summary vectors

struct selection_sizes
{
    detail::sequence_table sequences;
    int key_heads, group, width;
    basic_window<int> bounds;
    bool sums_tile; ///< tile_sum: all queries of a tile, every n-th of them, make its list
    bool resumes;   ///< the list of a tile under way is not made here
    int score_every;
    int rows_per_list;         ///< at most
    int lists_each;            ///< of a warpgroup
    int chunks;                ///< of a list
    detail::item_table items;  ///< of each sequence, of one head
    int most_items;            ///< of all sequences together; of a fixed batch there are so many
    bool gathered;             ///< summaries of all sequences lie in one row
    detail::item_table tokens; ///< then: those of each sequence, in whole blocks
    float const* scales;       ///< and where they are not null, sums of a vector are multiplied by its scale
    std::int64_t scale_stride; ///< from vector to vector; [key head, sub-block, vector, block]
    int top_k;
    double top_p;
    bool cuts; ///< top_p does
    int sub_blocks, kept, vectors_of_block;
    float scale;       ///< of logits, times log2(e)
    float half_square; ///< s^2 / 2, of variances
    float others;      ///< keys that a mean stands for
    int places;        ///< vectors of summaries in shared memory
    int candidates;    ///< places of them, of a list: an odd number of times 8
    int rows_together; ///< whose masses are summed before they are handed over: 1, 2, 4 or 8 of a list
    int panel_rows;    ///< of masses that are handed over
    int panels_ahead;  ///< panels of masses in shared memory, of a warpgroup
    int most_blocks;   ///< most competing blocks, in whole panels
};

/// Lists that a block of threads makes at a time.
inline int lists_of_item(selection_sizes const& s)
{
    return scoring_groups * s.lists_each;
}

/// A list: who scores for it, and what competes.
struct list_place
{
    int begin;   ///< position of the tile's first query that the call holds
    int scoring; ///< position of the first that scores
    int queries; ///< that score; 0: no such list
    int end;     ///< of the competing blocks

    __device__ int competing(int sink_blocks) const { return queries > 0 && end > sink_blocks ? end - sink_blocks : 0; }
};

struct selection_item
{
    int sequence, head;
    int first, keys;           ///< positions of the sequence's first query, and behind its last key
    int first_tile;            ///< of the sequence; its lists are counted from there
    int first_list, last_list; ///< the item's first; the sequence's last
};

/// Items that there are of one head, and of all.
inline __device__ int items_of_head(selection_sizes const& s)
{
    return s.items.first ? s.items.first[s.items.sequences] : s.most_items;
}
inline __device__ int items_here(selection_sizes const& s)
{
    return items_of_head(s) * s.key_heads;
}

/// item: less than items_here().
inline __device__ selection_item find_item(selection_sizes const& s, int item)
{
    // The longest first, head after head: those at work at one time share summaries in the second-level cache. Lengths
    // fall along a sequence's items of a head: every other time they are taken from behind, so that lengths have no
    // leap that one block of threads would meet again and again.
    int const all = items_of_head(s), number = all - 1 - item % all;
    int const sequences = static_cast<int>(s.sequences.count);
    selection_item found;
    int of_sequence, each;
    if (s.items.first)
    {
        auto const place = s.items.find(number);
        found.sequence = static_cast<int>(place.sequence), of_sequence = static_cast<int>(place.item);
        each = s.items.first[found.sequence + 1] - s.items.first[found.sequence];
    }
    else
    {
        each = static_cast<int>(s.items.each);
        found.sequence = number / each, of_sequence = number % each;
    }
    found.head = item / all;
    if (((s.key_heads - 1 - found.head) * sequences + found.sequence) % 2 != 0) of_sequence = each - 1 - of_sequence;
    detail::sequence const of = s.sequences.at_work(found.sequence);
    found.keys = static_cast<int>(of.keys), found.first = found.keys - static_cast<int>(of.queries);
    // Divided once an item: find_list() is called for each list.
    found.first_tile = floor_divide(found.first, s.bounds.tile);
    found.last_list = floor_divide(found.keys - 1, s.bounds.tile) - found.first_tile;
    bool const skips = s.resumes && found.first > 0 && found.first_tile * s.bounds.tile != found.first;
    found.first_list = skips + of_sequence * scoring_groups * s.lists_each;
    return found;
}

/// Row and first block of a sequence's summaries.
struct summary_place
{
    int row, first;
};
inline __device__ summary_place find_summaries(selection_sizes const& s, selection_item const& item)
{
    if (!s.gathered) return {item.sequence, 0};
    return {0, static_cast<int>(s.tokens.begin(item.sequence)) / s.bounds.block};
}

inline __device__ list_place find_list(selection_sizes const& s, selection_item const& item, int list)
{
    list_place p{0, 0, 0, 0};
    if (list > item.last_list) return p;
    int const first = item.first, start = (item.first_tile + list) * s.bounds.tile;
    p.begin = p.scoring = start > first ? start : first;
    p.end = s.bounds.competing(p.begin).end;
    p.queries = 1;
    if (!s.sums_tile || p.begin < 0) return p;
    int const end = start + s.bounds.tile < item.keys ? start + s.bounds.tile : item.keys;
    p.scoring = start + (p.begin - start + s.score_every - 1) / s.score_every * s.score_every;
    if (p.scoring >= end)
        p.scoring = p.begin;
    else
        p.queries = (end - p.scoring + s.score_every - 1) / s.score_every;
    return p;
}

/// A block that may be among a list's best.
struct alignas(8) candidate
{
    std::int32_t rank; ///< larger mass, larger rank
    std::int32_t block;
};

/// What is known of a list while blocks stream by.
struct list_progress
{
    std::int32_t threshold; ///< rank that a candidate must reach
    int count;              ///< candidates
    float total;            ///< mass of everything that competes; for top_p alone
    int blocks, rows;       ///< that compete; that score, 0: there is no such list
};

inline constexpr int most_panels_ahead = 8;
inline constexpr int selecting_warps = 2; ///< for each warpgroup that scores

/// Where a column's mass lies in its row: what four lanes read together, the same few of each one's sixteen columns,
/// lies together.
inline __device__ constexpr int mass_place(int column)
{
    return column % 16 / 4 * 16 + column / 16 * 4 + column % 4;
}
/// Which places of a list's masses are exchanged, by 16: two lists that a warp reads at one time lie in other banks.
inline __device__ int exchanged_places(selection_sizes const& s, int slot)
{
    return s.rows_per_list % 4 == 0 ? slot / 2 % 2 * 16 : 0;
}

/// Shared memory of one block of threads; what follows has sizes known at run time.
template <int Width>
struct alignas(16) selection_memory
{
    static constexpr int panels = Width / 64;
    static constexpr int mass_stride = panel_blocks + 4; ///< rows apart by 4 banks
    using vector_panel = std::uint16_t[panels][panel_blocks][64];

    barrier full[most_vector_places], free[most_vector_places];
    barrier masses_full[scoring_groups][most_panels_ahead]; ///< a panel's masses are there
    barrier masses_free[scoring_groups][most_panels_ahead]; ///< have been read
    list_progress progress[scoring_groups][most_lists_each];

    static constexpr std::int64_t vector_bytes = sizeof(vector_panel);
    /// With all that lies beside it: vectors before it, then candidates and sums of chunks.
    static std::int64_t bytes(selection_sizes const& s)
    {
        std::int64_t const lists = static_cast<std::int64_t>(scoring_groups) * s.lists_each;
        return 1024 + s.places * vector_bytes + static_cast<std::int64_t>(sizeof(selection_memory)) +
               lists * s.candidates * static_cast<std::int64_t>(sizeof(candidate)) +
               4 * scoring_groups * s.panels_ahead * s.panel_rows * mass_stride +
               (s.chunks > 1 ? std::int64_t{4} * scoring_groups * s.most_blocks : 0);
    }
};

/// The parts of it.
template <int Width>
struct selection_places
{
    using memory = selection_memory<Width>;
    typename memory::vector_panel* vector;
    memory& fixed;
    candidate* candidates; ///< [warpgroup][list][candidates]
    float* mass;           ///< [warpgroup][panel][rows][mass_stride]
    float* sum;            ///< [warpgroup][most_blocks], of several chunks

    __device__ selection_places(unsigned char* raw, selection_sizes const& s)
        : vector(reinterpret_cast<typename memory::vector_panel*>(raw)),
          fixed(*reinterpret_cast<memory*>(vector + s.places)), candidates(reinterpret_cast<candidate*>(&fixed + 1)),
          mass(reinterpret_cast<float*>(candidates + scoring_groups * s.lists_each * s.candidates)),
          sum(mass + scoring_groups * s.panels_ahead * s.panel_rows * memory::mass_stride)
    {
    }
};

} // namespace spla::cuda
