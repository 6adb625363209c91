// SPDX-FileCopyrightText: The spla authors
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once
#include "launch.hpp"

#include <cstdint>

namespace spla::portable
{

/// Counters of kernels that follow, to be set to zero: by a step's schedule, or by clear_counters. Without any there is
/// no such kernel.
struct cleared_counters
{
    std::int32_t* first = nullptr;
    std::int64_t count = 0;
};

/// One work item.
template <class Exec>
struct clear_counters
{
    cleared_counters panels, runs;

    KOKKOS_FUNCTION void operator()(team_of<Exec> const& team, std::int64_t) const
    {
        for (cleared_counters const& c : {panels, runs})
            Kokkos::parallel_for(Kokkos::TeamVectorRange(team, c.count), [&](std::int64_t i) { c.first[i] = 0; });
    }
};

} // namespace spla::portable
