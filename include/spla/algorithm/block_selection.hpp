// SPDX-FileCopyrightText: The spla authors
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once
#include "panel_load.hpp"

/// The best blocks of a row of masses: deterministic, ties to the lower index, without sorting the row.
namespace spla::detail
{

/// Order of a mass as an unsigned number: larger mass, larger number; not finite (marked negative) is 0 and ranks last.
KOKKOS_INLINE_FUNCTION std::uint32_t rank_of(float mass)
{
    return mass >= 0.0f ? Kokkos::bit_cast<std::uint32_t>(mass) + 1u : 0u;
}

/// Largest threshold that at least k of the n ranks reach, by bisection over the bits: 32 counts of the row.
template <class Team>
KOKKOS_FUNCTION std::uint32_t kth_rank(Team const& team, float const* mass, int n, int k)
{
    std::uint32_t threshold = 0;
    for (int bit = 31; bit >= 0; --bit)
    {
        std::uint32_t const candidate = threshold | (1u << bit);
        int count = 0;
        if constexpr (runs_on_host<space_of<Team>>)
            for (int j = 0; j < n; ++j) count += rank_of(mass[j]) >= candidate;
        else
            Kokkos::parallel_reduce(
                Kokkos::ThreadVectorRange(team, n), [&](int j, int& sum) { sum += rank_of(mass[j]) >= candidate; },
                count);
        if (count >= k) threshold = candidate;
    }
    return threshold;
}

/// Writes the selected blocks of one list (spec section 2): the top_k largest masses, cut by top_p, ascending, padded
/// with -1. mass[j] belongs to block first + j; negative means "not finite". Returns the length. By one thread
/// (vector).
template <class Team>
KOKKOS_FUNCTION int select_blocks(Team const& team, float const* mass, int n, int top_k, double top_p,
                                  std::int64_t first, std::int32_t* list, int capacity)
{
    int const k = n < top_k ? n : top_k;
    std::uint32_t const threshold = n > k && k > 0 ? kth_rank(team, mass, n, k) : 0u;
    int length = 0;
    Kokkos::single(
        Kokkos::PerThread(team),
        [&](int& result) {
            int above = 0;
            if (n > k && k > 0)
                for (int j = 0; j < n; ++j) above += rank_of(mass[j]) > threshold;
            int ties = k - above; // how many of those on the threshold, lowest first
            int taken = 0;
            for (int j = 0; j < n && taken < k; ++j)
            {
                bool take = n <= k; // everything: no mass was made, and none is read
                if (!take)
                {
                    std::uint32_t const rank = rank_of(mass[j]);
                    take = rank > threshold || (rank == threshold && ties-- > 0);
                }
                if (take) list[taken++] = j;
            }
            if (top_p < 1.0)
            {
                // Sort the taken by mass, largest first (few: insertion), cut, and sort the rest by index again.
                for (int i = 1; i < taken; ++i)
                    for (int m = i; m > 0; --m)
                    {
                        auto const a = list[m - 1], b = list[m];
                        auto const ra = rank_of(mass[a]), rb = rank_of(mass[b]);
                        if (ra > rb || (ra == rb && a < b)) break;
                        list[m - 1] = b, list[m] = a;
                    }
                double total = 0;
                for (int j = 0; j < n; ++j) total += mass[j] > 0.0f ? static_cast<double>(mass[j]) : 0.0;
                double const goal = top_p * total;
                double sum = 0;
                int keep = 0;
                while (keep < taken && sum < goal)
                    sum += mass[list[keep]] > 0.0f ? static_cast<double>(mass[list[keep]]) : 0.0, ++keep;
                taken = keep;
                for (int i = 1; i < taken; ++i)
                    for (int m = i; m > 0 && list[m - 1] > list[m]; --m) Kokkos::kokkos_swap(list[m - 1], list[m]);
            }
            for (int i = 0; i < taken; ++i) list[i] += static_cast<std::int32_t>(first);
            for (int i = taken; i < capacity; ++i) list[i] = -1;
            result = taken;
        },
        length);
    return length;
}

} // namespace spla::detail
