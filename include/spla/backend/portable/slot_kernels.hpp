// SPDX-FileCopyrightText: The spla authors
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once
#include "selection_kernel.hpp"

/// What a step takes from the slots of a pool and leaves in them, beside the linear state: lists of tiles that are
/// under way.
namespace spla::portable
{

/// One work item a sequence and key head: the list of a tile that began in an earlier step.
template <class Exec>
struct resume_list
{
    selection_shape shape;
    detail::list_tensor slot, list; ///< slot: [slot, kept tile, key head]
    std::int64_t kept;

    KOKKOS_FUNCTION void operator()(team_of<Exec> const& team, std::int64_t item) const
    {
        std::int64_t const head = item % shape.key_heads;
        detail::sequence const s = shape.sequences[item / shape.key_heads];
        if (s.queries <= 0 || !shape.resumes(s)) return;
        detail::copy(team, slot, s.number, shape.first_tile(s) % kept, list, s.number, 0, head);
    }
};

/// One work item a sequence and key head: the lists of its last tiles.
template <class Exec>
struct keep_lists
{
    selection_shape shape;
    detail::list_tensor list, slot; ///< slot: [slot, kept tile, key head]
    std::int64_t kept;

    KOKKOS_FUNCTION void operator()(team_of<Exec> const& team, std::int64_t item) const
    {
        std::int64_t const head = item % shape.key_heads;
        detail::sequence const s = shape.sequences[item / shape.key_heads];
        if (s.queries <= 0) return;
        std::int64_t const lists = shape.lists(s), first = shape.first_tile(s);
        for (std::int64_t t = Kokkos::max<std::int64_t>(0, lists - kept); t < lists; ++t)
            detail::copy(team, list, s.number, t, slot, s.number, (first + t) % kept, head);
    }
};

/// Bytes of a slot to those of another, for one part of the pool: one work item a pair and strip.
template <class Exec>
struct copy_slots
{
    unsigned char* part;
    std::int64_t bytes; ///< of one slot
    std::int32_t const *from, *to;
    std::int64_t pairs, slots;

    static constexpr std::int64_t strip = 8192;
    KOKKOS_FUNCTION std::int64_t strips() const { return ceil_divide(bytes, strip); }
    KOKKOS_FUNCTION void operator()(team_of<Exec> const& team, std::int64_t item) const
    {
        std::int64_t const pair = item / strips(), first = item % strips() * strip;
        if (pair >= pairs) return;
        std::int64_t const source = from[pair], target = to[pair];
        if (source < 0 || source >= slots || target < 0 || target >= slots) return;
        std::int64_t const width = bytes - first < strip ? bytes - first : strip;
        unsigned char const* const a = part + source * bytes + first;
        unsigned char* const b = part + target * bytes + first;
        Kokkos::parallel_for(Kokkos::TeamVectorRange(team, width), [&](std::int64_t i) { b[i] = a[i]; });
    }
};

} // namespace spla::portable
