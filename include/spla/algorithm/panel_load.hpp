// SPDX-FileCopyrightText: The spla authors
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once
#include "../feature_map.hpp"

#include <Kokkos_Core.hpp>

#include <cstdint>
#include <type_traits>

/// Panels: small matrices in a team's scratch, converted to the accumulation type, with padded rows of zeros.
/// A panel's leading dimension is a multiple of the lanes of the space, so that kernels have no column tails.
namespace spla::detail
{

/// True where a team is one thread with vector registers; false where it is many threads in lockstep.
template <class Exec>
inline constexpr bool runs_on_host = Kokkos::SpaceAccessibility<Exec, Kokkos::HostSpace>::accessible&&
    Kokkos::SpaceAccessibility<Kokkos::DefaultHostExecutionSpace, typename Exec::memory_space>::accessible;

template <class Exec, class T>
KOKKOS_FUNCTION constexpr std::int64_t padded(std::int64_t n)
{
    constexpr std::int64_t w = runs_on_host<Exec> ? native_lanes<T> : 4;
    return (n + w - 1) / w * w;
}

template <class Team>
using space_of = typename Team::execution_space;

inline constexpr int cache_line = 64; ///< bytes

/// Which cache of a core a line is asked into: the first level is small, for what is read in a moment.
enum class cache_level
{
    first,
    second
};

/// Asks for a line. Not __builtin_prefetch on x86: GCC 12 takes a function that does nothing else for one without
/// effect, and drops its calls.
template <cache_level Level = cache_level::second>
inline void prefetch_line([[maybe_unused]] void const* address)
{
#if defined(__x86_64__) && defined(__GNUC__)
    if constexpr (Level == cache_level::first)
        __asm__ volatile("prefetcht0 %0" : : "m"(*static_cast<char const*>(address)));
    else
        __asm__ volatile("prefetcht1 %0" : : "m"(*static_cast<char const*>(address)));
#elif defined(__GNUC__)
    __builtin_prefetch(address, 0, Level == cache_level::first ? 3 : 2);
#endif
}

/// Asks for rows that will be loaded soon. Nothing on a GPU, whose other teams hide the wait.
template <cache_level Level = cache_level::second, class Team, class Row>
KOKKOS_FUNCTION void prefetch_rows([[maybe_unused]] Team const& team, [[maybe_unused]] int rows,
                                   [[maybe_unused]] int width, [[maybe_unused]] Row const& row)
{
    if constexpr (runs_on_host<space_of<Team>>)
    {
        KOKKOS_IF_ON_HOST((for (int r = 0; r < rows; ++r) {
            auto const* const from = row(r);
            constexpr int line = cache_line / static_cast<int>(sizeof(*from));
            for (int d = 0; d < width; d += line) prefetch_line<Level>(from + d);
        }))
    }
}

/// to[r][0, leading) = row(r)[0, width) * factor, zeros behind. `row` maps a row number to a pointer.
template <class T, class Team, class Row>
KOKKOS_FUNCTION void load_panel(Team const& team, int rows, int width, Row const& row, T factor, T* to, int leading)
{
    Kokkos::parallel_for(Kokkos::TeamThreadRange(team, rows), [&](int r) {
        auto const* from = row(r);
        T* into = to + static_cast<std::int64_t>(r) * leading;
        if constexpr (runs_on_host<space_of<Team>>)
        {
            constexpr int w = native_lanes<T>;
            int d = 0;
            for (; d + w <= width; d += w) (load_lanes<T, w>(from + d) * lanes<T, w>(factor)).store(into + d);
            for (; d < width; ++d) into[d] = widen<T>(from[d]) * factor;
            for (; d < leading; ++d) into[d] = T(0);
        }
        else
            Kokkos::parallel_for(Kokkos::ThreadVectorRange(team, leading),
                                 [&](int d) { into[d] = d < width ? widen<T>(from[d]) * factor : T(0); });
    });
    team.team_barrier();
}

// What load_transposed() asks of a row: here a pointer to its elements; block_summary.hpp has another kind.

template <class T, int N, class Element>
KOKKOS_FUNCTION void load_tile(Element const* const (&rows)[N], int d, lanes<T, N> (&tile)[N])
{
    unrolled<N>([&](auto r) { tile[r] = load_lanes<T, N>(rows[r] + d); });
}
template <class T, class Element>
KOKKOS_FUNCTION T load_number(Element const* row, int d)
{
    return widen<T>(row[d]);
}
template <class Element>
KOKKOS_FUNCTION void const* address_of(Element const* row, int d)
{
    return row + d;
}

/// to[d][r] = row(r)[d] for d in [0, width), r in [0, rows); zeros for r in [rows, columns); columns are `leading`
/// apart. On a CPU, rows ahead(r), r below ahead_rows, are asked for meanwhile, a few lines at a time: more at once
/// than a core has places for outstanding lines are dropped.
template <class T, class Team, class Row>
KOKKOS_FUNCTION void load_transposed(Team const& team, int rows, int columns, int width, Row const& row, T* to,
                                     int leading, [[maybe_unused]] Row const& ahead, [[maybe_unused]] int ahead_rows)
{
    if constexpr (runs_on_host<space_of<Team>>)
    {
        constexpr int w = native_lanes<T>;
        for (int r0 = 0; r0 < columns; r0 += w)
        {
            bool const whole = r0 + w <= rows;
            decltype(row(0)) from[w], next[w];
            int const asked = ahead_rows - r0 < w ? ahead_rows - r0 : w;
            for (int r = 0; whole && r < w; ++r) from[r] = row(r0 + r);
            for (int r = 0; r < asked; ++r) next[r] = ahead(r0 + r);
            int d0 = 0;
            for (; whole && d0 + w <= width; d0 += w)
            {
                [[maybe_unused]] bool const new_line = d0 % (cache_line / static_cast<int>(sizeof(T))) == 0;
                KOKKOS_IF_ON_HOST((for (int r = 0; new_line && r < asked; ++r) prefetch_line(address_of(next[r], d0));))
                lanes<T, w> tile[w];
                load_tile(from, d0, tile);
                transpose(tile);
                T* const into = to + static_cast<std::int64_t>(d0) * leading + r0;
                unrolled<w>([&](auto d) { tile[d].store(into + static_cast<std::int64_t>(d) * leading); });
            }
            for (int r = r0; r < r0 + w; ++r)
            {
                bool const there = r < rows && d0 < width;
                auto const one = there ? row(r) : decltype(row(r))();
                for (int d = d0; d < width; ++d)
                    to[static_cast<std::int64_t>(d) * leading + r] = there ? load_number<T>(one, d) : T(0);
            }
        }
    }
    else
    {
        Kokkos::parallel_for(Kokkos::TeamThreadRange(team, columns), [&](int r) {
            auto const from = row(r < rows ? r : 0);
            Kokkos::parallel_for(Kokkos::ThreadVectorRange(team, width), [&](int d) {
                to[static_cast<std::int64_t>(d) * leading + r] = r < rows ? load_number<T>(from, d) : T(0);
            });
        });
        team.team_barrier();
    }
}

/// The same with `leading` columns and nothing ahead.
template <class T, class Team, class Row>
KOKKOS_FUNCTION void load_transposed(Team const& team, int rows, int width, Row const& row, T* to, int leading)
{
    load_transposed(team, rows, leading, width, row, to, leading, row, 0);
}

/// features[f][r] = phi of the r-th column of a transposed panel vectors[d][r]; both [*, leading]. rounds: to bf16, as
/// kernels of matrix units have them; no state on a host asks for it.
template <class T, class Team, class FeatureMap>
KOKKOS_FUNCTION void apply_feature_map(Team const& team, FeatureMap const& phi, int columns, int width,
                                       T const* vectors, T* features, int leading, [[maybe_unused]] bool rounds)
{
    T* const from = const_cast<T*>(vectors);
    if constexpr (runs_on_host<space_of<Team>>)
    {
        constexpr int w = native_lanes<T>;
        using pack = lanes<T, w>;
        for (int r = 0; r < columns; r += w)
            phi.template operator()<pack>(width, vector_of<pack>{from + r, leading},
                                          vector_of<pack>{features + r, leading});
    }
    else
    {
        Kokkos::parallel_for(Kokkos::TeamVectorRange(team, columns), [&](int r) {
            phi.template operator()<T>(width, vector_of<T>{from + r, leading}, vector_of<T>{features + r, leading});
            if constexpr (std::is_same_v<T, float>)
                for (int f = 0; rounds && f < phi.features(width); ++f)
                    features[f * leading + r] = static_cast<float>(bfloat16(features[f * leading + r]));
        });
        team.team_barrier();
    }
}

template <class T, class Team>
KOKKOS_FUNCTION void fill(Team const& team, std::int64_t count, T* to, T value)
{
    if constexpr (runs_on_host<space_of<Team>>)
        for (std::int64_t i = 0; i < count; ++i) to[i] = value;
    else
    {
        Kokkos::parallel_for(Kokkos::TeamVectorRange(team, count), [&](std::int64_t i) { to[i] = value; });
        team.team_barrier();
    }
}

} // namespace spla::detail
