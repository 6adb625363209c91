// SPDX-FileCopyrightText: The spla authors
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once
#include "../catch.hpp"

#include <Kokkos_Core.hpp>

#include <cstdint>
#include <string>

/// Allocations, fences and launches of Kokkos, counted through its tools.
namespace spla_test
{

/// What Kokkos did, as its tools see it; the name of the last is for the message.
struct seen_events
{
    int allocations = 0, fences = 0;
    std::string last;
};
inline seen_events seen;

inline void see_allocation(Kokkos_Profiling_SpaceHandle, char const* label, void const*, std::uint64_t)
{
    ++seen.allocations;
    seen.last = label;
}
inline void see_fence(char const* label, std::uint32_t, std::uint64_t*)
{
    ++seen.fences;
    seen.last = label;
}

template <class Work>
seen_events events_of(Work const& work)
{
    seen = {};
    Kokkos::Tools::Experimental::set_allocate_data_callback(see_allocation);
    Kokkos::Tools::Experimental::set_begin_fence_callback(see_fence);
    work();
    Kokkos::Tools::Experimental::set_allocate_data_callback(nullptr);
    Kokkos::Tools::Experimental::set_begin_fence_callback(nullptr);
    return seen;
}

inline std::string counted_launch;
inline int counted_launches;
inline void see_launch(char const* label, std::uint32_t, std::uint64_t*)
{
    counted_launches += label == counted_launch ? 1 : 0;
}
/// Kokkos' launches of this name; kernels that are launched without Kokkos are not among them.
template <class Work>
int launches_of(char const* label, Work const& work)
{
    counted_launch = label, counted_launches = 0;
    Kokkos::Tools::Experimental::set_begin_parallel_for_callback(see_launch);
    work();
    Kokkos::Tools::Experimental::set_begin_parallel_for_callback(nullptr);
    return counted_launches;
}

template <class Work>
void expect_none(char const* call, Work const& work)
{
    seen_events const all = events_of(work);
    INFO(call << ": the last event is " << all.last);
    CHECK(all.allocations == 0);
    CHECK(all.fences == 0);
}

} // namespace spla_test
