// SPDX-FileCopyrightText: The spla authors
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once
#include "../../algorithm/panel_product.hpp"

#include <cstddef>
#include <cstdint>
#include <limits>

/// How the portable kernels run on a space: team shape, where a team's scratch lies, and how it is carved.
namespace spla::portable
{

/// Rows (tokens x heads of a group) that one work item handles together: a loaded block, its features and its state
/// serve them all. What 256 rows of D = Dv = 64 keep (query, features, logits and both branches: 384 KiB) still fits a
/// core's second-level cache.
template <class Exec>
inline constexpr int rows_per_item = detail::runs_on_host<Exec> ? 256 : 32;

/// Teams: one thread with vector registers on a CPU; warps of threads on a GPU.
template <class Exec>
inline constexpr int team_threads = detail::runs_on_host<Exec> ? 1 : 8;
template <class Exec>
inline constexpr int team_lanes = detail::runs_on_host<Exec> ? 1 : 32;

template <class Exec>
using team_policy = Kokkos::TeamPolicy<Exec, Kokkos::Schedule<Kokkos::Dynamic>, Kokkos::IndexType<std::int64_t>>;
template <class Exec>
using team_of = typename team_policy<Exec>::member_type;

/// Carves arrays from a team's scratch, each 64-byte aligned. With a null base it only counts.
class scratch_carver
{
public:
    KOKKOS_FUNCTION explicit scratch_carver(void* base) : base_(reinterpret_cast<std::uintptr_t>(base)) {}

    template <class T>
    KOKKOS_FUNCTION T* take(std::int64_t count)
    {
        T* const here = reinterpret_cast<T*>(base_ + static_cast<std::uintptr_t>(used_));
        used_ += (count * static_cast<std::int64_t>(sizeof(T)) + 63) / 64 * 64;
        return here;
    }
    KOKKOS_FUNCTION std::int64_t used() const { return used_; }

private:
    std::uintptr_t base_;
    std::int64_t used_ = 0;
};

/// Aligned start of a team's scratch of `bytes` (which launch() asked for with room to align). The same at each call.
template <class Team>
KOKKOS_FUNCTION void* team_base(Team const& team, std::int64_t bytes)
{
    auto const all = team.team_scratch(1);
    auto const raw = reinterpret_cast<std::uintptr_t>(all.get_shmem(static_cast<int>(bytes) + 64));
    return reinterpret_cast<void*>((raw + 63) / 64 * 64);
}

/// True where a launch returns after its last work item: a functor may then refer to what the caller holds.
template <class Exec>
inline constexpr bool launches_wait = false;
#if defined(KOKKOS_ENABLE_SERIAL)
template <>
inline constexpr bool launches_wait<Kokkos::Serial> = true;
#endif
#if defined(KOKKOS_ENABLE_OPENMP)
template <>
inline constexpr bool launches_wait<Kokkos::OpenMP> = true;
#endif

/// Any kernel, by reference: Kokkos' own templates are then compiled once a space and not once a kernel.
template <class Exec>
struct kernel_reference
{
    void const* kernel;
    void (*run)(void const*, team_of<Exec> const&, std::int64_t);

    KOKKOS_FUNCTION void operator()(team_of<Exec> const& team, std::int64_t item) const { run(kernel, team, item); }
};

/// A kernel of work items as a functor of teams. Kokkos counts teams in int: `first` carries the rest of the number.
/// Where there are fewer teams than items, a team takes one after another.
template <class Kernel>
struct numbered_from
{
    Kernel kernel;
    std::int64_t first, end;

    template <class Team>
    KOKKOS_FUNCTION void operator()(Team const& team) const
    {
        std::int64_t const teams = team.league_size();
        std::int64_t item = first + team.league_rank(), there = end;
        if constexpr (requires { kernel.items_there(); })
        {
            if (item + teams < end) there = Kokkos::min(end, kernel.items_there());
        }
        for (; item < there; item += teams)
        {
            kernel(team, item);
            if (item + teams < there) team.team_barrier(); // who is done with the scratch
        }
    }
};

/// Not inlined: what Kokkos does at the first launch of a translation unit (a copy that no capture allows) is then done
/// at the first launch of the kernel, by warm_up(), whichever unit's instance of this function the linker keeps.
template <class Exec, class Kernel>
[[gnu::noinline]] void launch_teams(char const* label, Exec const& exec, std::int64_t items, std::int64_t scratch_bytes,
                                    Kernel const& kernel, std::int64_t most_teams)
{
    constexpr std::int64_t most = std::int64_t{1} << 30; // items of one launch
    for (std::int64_t first = 0; first < items; first += most)
    {
        std::int64_t const count = items - first < most ? items - first : most;
        team_policy<Exec> policy(exec, static_cast<int>(count < most_teams ? count : most_teams), team_threads<Exec>,
                                 team_lanes<Exec>);
        if (scratch_bytes > 0) policy.set_scratch_size(1, Kokkos::PerTeam(static_cast<int>(scratch_bytes) + 192));
        // Kernels of more than 512 bytes would go through constant memory, for which Kokkos waits on the host for the
        // last one; as arguments (below 4 KiB) they do not, and can be captured in a graph.
        using namespace Kokkos::Experimental;
        Kokkos::parallel_for(label, require(policy, WorkItemProperty::HintLightWeight),
                             numbered_from<Kernel>{kernel, first, first + count});
    }
}

/// Teams of a launch whose items may well be none, as those that tuned kernels leave: enough to keep a device busy.
inline constexpr std::int64_t few_teams = 1024;

/// Runs `kernel(team, item)` for each of `items` work items on the instance, with level-1 scratch; by `most_teams`
/// teams, or as many as there are items.
template <class Exec, class Kernel>
void launch(char const* label, Exec const& exec, std::int64_t items, std::int64_t scratch_bytes, Kernel const& kernel,
            std::int64_t most_teams = std::numeric_limits<std::int64_t>::max())
{
    if constexpr (launches_wait<Exec>)
    {
        auto const run = [](void const* k, team_of<Exec> const& team, std::int64_t item) {
            (*static_cast<Kernel const*>(k))(team, item);
        };
        launch_teams(label, exec, items, scratch_bytes, kernel_reference<Exec>{&kernel, run}, most_teams);
    }
    else
        launch_teams(label, exec, items, scratch_bytes, kernel, most_teams);
}

} // namespace spla::portable
