// SPDX-FileCopyrightText: The spla authors
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once
#include "attention_kernel.hpp"
#include "selection_kernel.hpp"

namespace spla::portable
{

/// How a step's work is laid out over work items: running counts over the sequences, made where the work runs, from the
/// lengths that stand there then.
struct schedule
{
    enum part
    {
        tiles,     ///< of attention, times the runs of decoded tokens
        choices,   ///< work items of selection
        lists,     ///< lists: where those of a sequence begin
        completed, ///< blocks that become complete
        entering,  ///< blocks that enter the linear state: where the prefix states of a sequence begin
        decoded,   ///< tokens that are decoded: where the unmerged rows of a sequence begin
        parts
    };
    std::int32_t* counts = nullptr; ///< [parts][sequences + 1]
    std::int64_t sequences = 0;

    KOKKOS_FUNCTION std::int32_t* first(int which) const { return counts + which * (sequences + 1); }
    detail::item_table table(part which) const { return {sequences, 1, sequences > 0 ? first(which) : nullptr}; }
};

/// One work item makes them all.
template <class Exec>
struct schedule_kernel
{
    schedule made;
    attention_shape attention;
    selection_shape selection;
    int lists_per_item;

    KOKKOS_FUNCTION std::int64_t count(detail::sequence const& s, int which) const
    {
        window const& bounds = attention.bounds;
        if (s.queries <= 0) return 0;
        switch (which)
        {
        case schedule::tiles:
            return attention.tiles(s) * attention.runs_of(s);
        case schedule::choices:
            return ceil_divide(selection.lists(s) - (selection.resumes(s) ? 1 : 0), lists_per_item);
        case schedule::lists:
            return selection.lists(s);
        case schedule::completed:
            return s.keys / bounds.block - s.first_position() / bounds.block;
        case schedule::entering:
            return end_after(bounds, s) - end_before(bounds, s);
        default:
            return attention.decodes(s) ? s.queries : 0;
        }
    }
    KOKKOS_FUNCTION void operator()(team_of<Exec> const& team, std::int64_t) const
    {
        int const n = static_cast<int>(made.sequences);
        if (n == 0) return;
        Kokkos::parallel_for(Kokkos::TeamVectorRange(team, n), [&](int b) {
            detail::sequence const s = attention.sequences[b];
            for (int which = 0; which < schedule::parts; ++which)
                made.first(which)[b + 1] = static_cast<std::int32_t>(count(s, which));
        });
        team.team_barrier();
        Kokkos::parallel_for(Kokkos::TeamThreadRange(team, static_cast<int>(schedule::parts)), [&](int which) {
            std::int32_t* const first = made.first(which);
            Kokkos::single(Kokkos::PerThread(team), [&] { first[0] = 0; });
            Kokkos::parallel_scan(Kokkos::ThreadVectorRange(team, n),
                                  [&](int b, std::int32_t& before, bool const final) {
                                      before += first[b + 1];
                                      if (final) first[b + 1] = before;
                                  });
        });
    }
};

} // namespace spla::portable
