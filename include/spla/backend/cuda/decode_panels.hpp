// SPDX-FileCopyrightText: The spla authors
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once
#include "decode_selection_shape.hpp"
#include "decode_sequences.hpp"

/// The panels of blocks that decoded tokens are selected from, found where the lengths stand.
namespace spla::cuda
{

/// The lists of one decoded sequence, and the panels they take.
struct decode_lists
{
    int first_position, first_tile; ///< of the sequence's first query, and that of its tile
    int first, count;               ///< first list that is made, and those that are
    int panels;                     ///< of what competes for the last list; one where nothing is scored

    __device__ decode_lists(decode_selection_sizes const& s, int queries, int keys)
        : first_position(keys - queries), first_tile(floor_divide(keys - queries, s.bounds.tile))
    {
        first = s.resumes && first_position > 0 && first_tile * s.bounds.tile != first_position ? 1 : 0;
        int const lists = queries > 0 ? floor_divide(keys - 1, s.bounds.tile) - first_tile + 1 : 0;
        count = lists - first;
        // Later lists have no fewer competing blocks.
        int const blocks = lists > 0 ? s.bounds.competing(position(s, lists - 1)).count() : 0;
        panels = s.scores(blocks) ? (blocks + decode_panel_blocks - 1) / decode_panel_blocks : 1;
    }
    /// Position of the list's first query that the call holds.
    __device__ int position(decode_selection_sizes const& s, int list) const
    {
        int const start = (first_tile + list) * s.bounds.tile;
        return start > first_position ? start : first_position;
    }
};

/// Where a panel of one key head lies.
struct panel_place
{
    int sequence, queries, keys;
    int panel;        ///< of those of the sequence
    int lists_before; ///< panels of sequences before, each as often as lists are scored with it
};

/// Panels of one key head, counted sequence after sequence; 32 neighbouring ones are kept. All of a warp call each
/// function.
class panel_cursor
{
public:
    __device__ explicit panel_cursor(decode_selection_sizes const& s) : s_(s), sequences_(s.sequences, s.few_queries)
    {
        for (int base = 0; base < sequences_.count(); base += 32) panels_ += number_of_lane(at(base).panel_end, 31);
    }

    /// All there are.
    __device__ int panels() const { return panels_; }
    /// Panel `number`, which there is; the cursor goes back where it falls.
    __device__ panel_place find(int number)
    {
        if (number < panels_before_) base_ = panels_before_ = lists_before_ = 0;
        for (;; base_ += 32)
        {
            neighbours const& here = at(base_);
            int const all = number_of_lane(here.panel_end, 31);
            if (number >= panels_before_ + all)
            {
                panels_before_ += all, lists_before_ += number_of_lane(here.list_end, 31);
                continue;
            }
            int const in_all = number - panels_before_;
            int const lane = __ffs(__ballot_sync(0xffffffffu, here.panel_end > in_all)) - 1;
            auto const of = [&](int x) { return number_of_lane(x, lane); };
            return {base_ + lane, of(here.queries), of(here.keys), in_all - of(here.panel_end - here.panels),
                    lists_before_ + of(here.list_end - here.lists)};
        }
    }

private:
    /// A lane's sequence of 32 neighbouring ones.
    struct neighbours
    {
        int queries, keys, panels, lists; ///< lists: panels of each list
        int panel_end, list_end;          ///< of the 32, up to its last
    };
    __device__ neighbours const& at(int base)
    {
        if (base == kept_) return here_;
        detail::sequence const s = sequences_.of_lane(base);
        here_ = {static_cast<int>(s.queries), static_cast<int>(s.keys), 0, 0, 0, 0};
        if (here_.queries > 0)
        {
            decode_lists const lists(s_, here_.queries, here_.keys);
            here_.panels = (lists.count + s_.lists_each - 1) / s_.lists_each * lists.panels;
            here_.lists = lists.count * lists.panels;
        }
        here_.panel_end = sum_to_lane(here_.panels), here_.list_end = sum_to_lane(here_.lists);
        kept_ = base;
        return here_;
    }

    decode_selection_sizes const& s_;
    decode_sequences sequences_;
    neighbours here_;
    int kept_ = -1; ///< first of those that are here
    int panels_ = 0;
    int base_ = 0, panels_before_ = 0, lists_before_ = 0; ///< the first of 32 sequences, and what is before it
};

} // namespace spla::cuda
