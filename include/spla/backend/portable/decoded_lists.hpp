// SPDX-FileCopyrightText: The spla authors
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once
#include "selection_kernel.hpp"

/// Decoded sequences may have a selection of their own. Its work items are panels of blocks: a panel is scored for
/// several lists of a sequence at a time, which then share what is read.
namespace spla::portable
{

/// The lists of one decoded sequence, and the panels they take. Integer: kernels count in int.
template <class Integer>
struct decoded_lists
{
    Integer first_position, first_tile; ///< of the sequence's first query, and that of its tile
    Integer first, count;               ///< first list that is made, and those that are
    Integer panels;                     ///< of what competes for the last list; one where nothing is scored

    KOKKOS_FUNCTION decoded_lists(basic_window<Integer> const& bounds, Integer queries, Integer keys, bool resumes,
                                  int top_k, bool cuts, int panel_blocks)
        : first_position(keys - queries), first_tile(floor_divide(keys - queries, bounds.tile))
    {
        first = resumes && first_position > 0 && first_tile * bounds.tile != first_position ? 1 : 0;
        Integer const lists = queries > 0 ? floor_divide(keys - 1, bounds.tile) - first_tile + 1 : 0;
        count = lists - first;
        // Later lists have no fewer competing blocks.
        Integer const blocks = lists > 0 ? bounds.competing(position(bounds, lists - 1)).count() : 0;
        bool const scored = top_k > 0 && (blocks > top_k || (cuts && blocks > 0));
        panels = scored ? (blocks + panel_blocks - 1) / panel_blocks : 1;
    }
    /// Position of the list's first query that the call holds.
    KOKKOS_FUNCTION Integer position(basic_window<Integer> const& bounds, Integer list) const
    {
        Integer const start = (first_tile + list) * bounds.tile;
        return start > first_position ? start : first_position;
    }
};

/// Counters of kernels that follow, which a step's schedule sets to zero.
struct cleared_counters
{
    std::int32_t* first = nullptr;
    std::int64_t count = 0;
};

/// What such a selection asks of a step's schedule.
struct decoded_work
{
    int lists_each = 0; ///< scored together; 0: there is no such selection
    int panel_blocks = 0;
    cleared_counters finished; ///< panels of each item that are scored

    KOKKOS_FUNCTION decoded_lists<std::int64_t> lists(selection_shape const& shape, detail::sequence const& s) const
    {
        return {shape.bounds, s.queries,         s.keys,      shape.share.kind == sharing_kind::first_query,
                shape.top_k,  shape.top_p < 1.0, panel_blocks};
    }
    /// Work items of one key head.
    KOKKOS_FUNCTION std::int64_t panels(selection_shape const& shape, detail::sequence const& s) const
    {
        auto const l = lists(shape, s);
        return ceil_divide(l.count, lists_each) * l.panels;
    }
    /// Each times the lists that it is scored for: what its results need room for.
    KOKKOS_FUNCTION std::int64_t list_panels(selection_shape const& shape, detail::sequence const& s) const
    {
        auto const l = lists(shape, s);
        return l.count * l.panels;
    }
};

} // namespace spla::portable
