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
    int first, keys; ///< positions of the sequence's first query, and behind its last key
    int first_list;  ///< counted from the sequence's first tile
};

inline __device__ int items_here(selection_sizes const& s)
{
    return (s.items.first ? s.items.first[s.items.sequences] : s.most_items) * s.key_heads;
}

/// First lists of a sequence that are not made here.
inline __device__ int skipped_lists(selection_sizes const& s, int first)
{
    return s.resumes && first > 0 && first % s.bounds.tile != 0 ? 1 : 0;
}

/// item: less than items_here().
inline __device__ selection_item find_item(selection_sizes const& s, int item)
{
    // The longest first, head after head: those at work at one time share summaries in the second-level cache. Lengths
    // fall along a sequence's items of a head: every other time they are taken from behind, so that lengths have no leap
    // that one block of threads would meet again and again.
    int const all = items_here(s) / s.key_heads, number = all - 1 - item % all;
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
    detail::sequence const of = s.sequences[found.sequence];
    found.keys = static_cast<int>(of.keys), found.first = found.keys - static_cast<int>(of.queries);
    found.first_list = skipped_lists(s, found.first) + of_sequence * scoring_groups * s.lists_each;
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

/// Number of a sequence's last list.
inline __device__ int last_list(selection_sizes const& s, selection_item const& item)
{
    return floor_divide(item.keys - 1, s.bounds.tile) - floor_divide(item.first, s.bounds.tile);
}

inline __device__ list_place find_list(selection_sizes const& s, selection_item const& item, int list)
{
    list_place p{0, 0, 0, 0};
    if (list > last_list(s, item)) return p;
    int const first = item.first;
    int const start = (floor_divide(first, s.bounds.tile) + list) * s.bounds.tile;
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

/// What is known of a list while blocks stream by.
struct list_progress
{
    std::int32_t threshold; ///< rank that a candidate must reach
    int count;              ///< candidates
    float total;            ///< mass of everything that competes; for top_p alone
    int blocks, rows;       ///< that compete; that score, 0: there is no such list
};

inline constexpr int multiplying_turn = 1; ///< hardware barriers of the warpgroups that score: whose matrix units are
inline constexpr int turn_threads = scoring_groups * 128;
inline constexpr int selecting_warps = 2; ///< for each warpgroup that scores

/// Which columns of a list's masses trade places, by 16: two lists that a warp reads at one time lie in other banks.
inline __device__ int exchanged_columns(selection_sizes const& s, int slot)
{
    return s.rows_per_list % 2 == 0 ? slot / 2 % 2 * 16 : 0;
}

/// Shared memory of one block of threads; what follows has sizes known at run time.
template <int Width>
struct alignas(16) selection_memory
{
    static constexpr int panels = Width / 64;
    static constexpr int mass_stride = panel_blocks + 8; ///< rows apart by 8 banks
    using vector_panel = std::uint16_t[panels][panel_blocks][64];

    barrier full[most_vector_places], free[most_vector_places];
    barrier masses_full[scoring_groups], masses_free[scoring_groups]; ///< a panel's masses are there; have been read
    list_progress progress[scoring_groups][most_lists_each];
    float mass[scoring_groups][score_rows_each][mass_stride];

    static constexpr std::int64_t vector_bytes = sizeof(vector_panel);
    /// With all that lies beside it: vectors before it, then candidates and sums of chunks.
    static std::int64_t bytes(selection_sizes const& s)
    {
        std::int64_t const lists = static_cast<std::int64_t>(scoring_groups) * s.lists_each;
        return 1024 + s.places * vector_bytes + static_cast<std::int64_t>(sizeof(selection_memory)) +
               lists * s.candidates * 8 + (s.chunks > 1 ? std::int64_t{4} * scoring_groups * s.most_blocks : 0);
    }
};

/// The parts of it.
template <int Width>
struct selection_places
{
    using memory = selection_memory<Width>;
    typename memory::vector_panel* vector;
    memory& fixed;
    std::int32_t* candidates; ///< [warpgroup][list][ranks, blocks][candidates]
    float* sum;               ///< [warpgroup][most_blocks], of several chunks

    __device__ selection_places(unsigned char* raw, selection_sizes const& s)
        : vector(reinterpret_cast<typename memory::vector_panel*>(raw)),
          fixed(*reinterpret_cast<memory*>(vector + s.places)), candidates(reinterpret_cast<std::int32_t*>(&fixed + 1)),
          sum(reinterpret_cast<float*>(candidates + scoring_groups * s.lists_each * s.candidates * 2))
    {
    }
};

} // namespace spla::cuda
