// SPDX-FileCopyrightText: The spla authors
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once
#include "attention_kernel.hpp"
#include "cleared_counters.hpp"
#include "selection_kernel.hpp"

namespace spla::portable
{

/// Sequences with many new tokens may have kernels of their own, which want to know where their work begins.
struct tuned_work
{
    std::int64_t context_tokens = 0; ///< room for so many tokens of such sequences, in whole blocks: those that fit
    int tile_tokens = 0;             ///< of a tile; 0: there are no such kernels
    int base_tokens = 0, chain_tokens = 0; ///< other tiles, or 0
    int lists_per_item = 0;                ///< of their selection; 0: they have none
};

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
        decoded,   ///< tokens that the portable kernel decodes: where the unmerged rows of a sequence begin
        tuned,     ///< sequences that have kernels of their own, and their work (see tuned_work)
        tuned_tiles,
        tuned_bases,
        tuned_chains,
        tuned_choices,
        context,           ///< tokens of their blocks that may be in a linear state
        counted,           ///< parts up to here are work; those below say whose it is
        reached = counted, ///< blocks of context of all that may be tuned, one too many for what has no room
        falls,             ///< offsets that fall
        parts
    };
    std::int32_t* counts = nullptr; ///< [parts][sequences + 1]
    std::int64_t sequences = 0;

    KOKKOS_FUNCTION std::int32_t* first(int which) const { return counts + which * (sequences + 1); }
    detail::item_table table(part which) const { return {sequences, 1, sequences > 0 ? first(which) : nullptr}; }
    /// Work items to launch where a step has `most` at most: as many as there are, where launches wait for their work
    /// and this is made when they have; elsewhere the rest finds nothing to do.
    template <class Exec>
    std::int64_t items(part which, std::int64_t most) const
    {
        if constexpr (launches_wait<Exec>)
            if (sequences > 0) return first(which)[sequences];
        return most;
    }
    /// The step's sequences as they are once this is made.
    KOKKOS_FUNCTION detail::sequence_table trusted(detail::sequence_table made_of) const
    {
        made_of.falls = made_of.offsets ? first(falls) : nullptr;
        return made_of;
    }
};

/// One work item makes them all, and says of each slot how far its sequence is with the step.
template <class Exec>
struct schedule_kernel
{
    schedule made;
    attention_shape attention;
    selection_shape selection;
    int lists_per_item;
    tuned_work tuned;
    cleared_counters decoded_panels, decoded_runs; ///< of selection and attention of decoded tokens by other kernels
    bool opens_decoded; ///< statistics and states of decoded sequences are not the kernels' that this is made for
    std::int32_t* held; ///< [slot, 2] tokens of a slot's sequence now, and most so far; null: they stay as they are

    KOKKOS_FUNCTION bool may_be_tuned(detail::sequence const& s) const
    {
        return tuned.tile_tokens > 0 && s.queries > 0 && !attention.decodes(s);
    }
    KOKKOS_FUNCTION bool selects_decoded(detail::sequence const& s) const
    {
        return decoded_panels.count > 0 && attention.decodes(s);
    }
    KOKKOS_FUNCTION bool attends_decoded(detail::sequence const& s) const
    {
        return decoded_runs.count > 0 && attention.decodes(s);
    }
    /// Tokens of blocks that may be in the state, none of which the sequence is too short for: it may end in a sink.
    KOKKOS_FUNCTION std::int64_t context_of(detail::sequence const& s) const
    {
        window const& bounds = attention.bounds;
        return may_be_tuned(s) ? Kokkos::min(end_after(bounds, s), s.keys / bounds.block) * bounds.block : 0;
    }
    KOKKOS_FUNCTION static std::int64_t tiles_of(detail::sequence const& s, int tokens)
    {
        return tokens > 0 ? tile_count(s.queries, s.keys, tokens) : 0;
    }
    KOKKOS_FUNCTION std::int64_t count(detail::sequence const& s, int which, bool is_tuned) const
    {
        window const& bounds = attention.bounds;
        if (s.queries <= 0) return 0;
        std::int64_t const choices = selection.lists(s) - (selection.resumes(s) ? 1 : 0);
        switch (which)
        {
        case schedule::tiles:
            return is_tuned || attends_decoded(s) ? 0 : attention.tiles(s) * attention.runs_of(s);
        case schedule::choices:
            if (selects_decoded(s) || (is_tuned && tuned.lists_per_item > 0)) return 0;
            return ceil_divide(choices, lists_per_item);
        case schedule::tuned:
            return is_tuned;
        case schedule::tuned_tiles:
            return is_tuned ? tiles_of(s, tuned.tile_tokens) : 0;
        case schedule::tuned_bases:
            return is_tuned ? tiles_of(s, tuned.base_tokens) : 0;
        case schedule::tuned_chains:
            return is_tuned ? tiles_of(s, tuned.chain_tokens) : 0;
        case schedule::tuned_choices:
            return is_tuned && tuned.lists_per_item > 0 ? ceil_divide(choices, tuned.lists_per_item) : 0;
        case schedule::context:
            return is_tuned ? context_of(s) : 0;
        case schedule::lists:
            return selection.lists(s);
        case schedule::completed:
            if (opens_decoded && attention.decodes(s)) return 0;
            return s.keys / bounds.block - s.first_position() / bounds.block;
        case schedule::entering:
            return end_after(bounds, s) - end_before(bounds, s);
        default:
            return attention.decodes(s) && !attends_decoded(s) ? s.queries : 0;
        }
    }
    KOKKOS_FUNCTION void operator()(team_of<Exec> const& team, std::int64_t) const
    {
        int const n = static_cast<int>(made.sequences);
        if (n == 0) return;
        detail::sequence_table const sequences = made.trusted(attention.sequences);
        // Those whose context fits, in the order of the batch.
        std::int64_t const block = attention.bounds.block, room = tuned.context_tokens / block;
        Kokkos::parallel_for(Kokkos::TeamThreadRange(team, 1), [&](int) {
            std::int32_t const* const offsets = attention.sequences.offsets;
            sum(team, schedule::falls, [&](int b) { return offsets[b + 1] < offsets[b] ? 1 : 0; });
            sum(team, schedule::reached,
                [&](int b) { return Kokkos::min(context_of(sequences[b]) / block, room + 1); });
        });
        clear_counters<Exec>{decoded_panels, decoded_runs}(team, 0);
        team.team_barrier();
        std::int32_t const* const reached = made.first(schedule::reached);
        Kokkos::parallel_for(Kokkos::TeamThreadRange(team, static_cast<int>(schedule::counted)), [&](int which) {
            sum(team, which, [&](int b) {
                detail::sequence const s = sequences[b];
                return count(s, which, may_be_tuned(s) && reached[b + 1] <= room);
            });
        });
        if (held) Kokkos::parallel_for(Kokkos::TeamVectorRange(team, n), [&](int b) { hold(sequences[b]); });
    }

    /// How far a sequence is with this step, for its slot.
    KOKKOS_FUNCTION void hold(detail::sequence const& s) const
    {
        if (s.queries <= 0) return;
        std::int32_t* const now = held + 2 * std::int64_t{attention.sequences.slots[s.number]};
        auto const keys = static_cast<std::int32_t>(s.keys);
        now[1] = s.first_position() > 0 && now[1] > keys ? now[1] : keys;
        now[0] = keys;
    }

private:
    /// The running counts of a part, from zero, by one thread of the team and its vector lanes.
    template <class Count>
    KOKKOS_FUNCTION void sum(team_of<Exec> const& team, int which, Count const& count_of) const
    {
        std::int32_t* const first = made.first(which);
        int const n = static_cast<int>(made.sequences);
        Kokkos::single(Kokkos::PerThread(team), [&] { first[0] = 0; });
        Kokkos::parallel_for(Kokkos::ThreadVectorRange(team, n),
                             [&](int b) { first[b + 1] = static_cast<std::int32_t>(count_of(b)); });
        Kokkos::parallel_scan(Kokkos::ThreadVectorRange(team, n), [&](int b, std::int32_t& before, bool const final) {
            before += first[b + 1];
            if (final) first[b + 1] = before;
        });
    }
};

} // namespace spla::portable
