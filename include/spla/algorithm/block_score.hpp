// SPDX-FileCopyrightText: The spla authors
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once
#include "../metric.hpp"
#include "block_summary.hpp"
#include "panel_product.hpp"

/// Masses of a panel of blocks for rows of queries (arXiv 2601.22379's second-order estimate, and its relatives).
///
/// A row's masses come relative to exp(reference of the row in the panel): mass_j = sum over the parts of block j of
/// n exp(x - reference) (1 + v/2), so the log score a_b = reference + log(mass) needs no logarithm to be taken.
/// NaN marks a score that is not finite.
namespace spla::detail
{

inline constexpr int score_panel = 64; ///< blocks scored together; panels start at multiples of it from the first competing block

/// Scratch of one panel. Parts of a block: per sub-block, the mean's logit and each kept key's; variances beside.
template <class T>
struct score_memory
{
    T* query;    ///< [rows][width], scaled by s
    T* squared;  ///< [rows][width], (s q)^2; diagonal covariance only
    T* panel;    ///< [width][score_panel]
    T* logits;   ///< [parts][rows][score_panel]
    T* variance; ///< [sub_blocks][rows][score_panel]
    T* product;  ///< [rows][score_panel]
};

/// Logits and variances of every part for blocks [first, first + blocks).
template <class Metric, class T, class Team>
KOKKOS_FUNCTION void score_parts(Team const& team, summary_tensor const& s, int kept, std::int64_t batch, std::int64_t head,
                                 std::int64_t first, int blocks, int rows, score_memory<T> const& m)
{
    int const width = static_cast<int>(s.head_dim);
    std::int64_t const plane = static_cast<std::int64_t>(rows) * score_panel;
    int const second = s.vectors - 1 - kept;
    auto const product_with = [&](T const* a, T* to) {
        multiply<product::set>(team, rows, width, score_panel, row_set<T const>{a, width}, static_cast<T const*>(m.panel),
                               score_panel, row_set<T>{to, score_panel});
    };
    for (int sub = 0; sub < s.sub_blocks; ++sub)
    {
        load_summary_panel(team, s, batch, first, blocks, head, sub, 0, m.panel, score_panel);
        product_with(m.query, m.logits + sub * (1 + kept) * plane);
        T* const variance = m.variance + sub * plane;
        if constexpr (Metric::covariance == covariance_kind::none)
            fill(team, plane, variance, T(0));
        else if constexpr (Metric::covariance == covariance_kind::diagonal)
        {
            load_summary_panel(team, s, batch, first, blocks, head, sub, 1, m.panel, score_panel);
            product_with(m.squared, variance);
        }
        else
        {
            fill(team, plane, variance, T(0));
            for (int v = 0; v < second; ++v)
            {
                load_summary_panel(team, s, batch, first, blocks, head, sub, 1 + v, m.panel, score_panel);
                product_with(m.query, m.product);
                Kokkos::parallel_for(Kokkos::TeamThreadRange(team, rows), [&](int r) {
                    Kokkos::parallel_for(Kokkos::ThreadVectorRange(team, score_panel), [&](int j) {
                        T const y = m.product[r * score_panel + j];
                        T const x = Metric::covariance == covariance_kind::factors ? y : m.query[r * width + v];
                        variance[r * score_panel + j] += x * y;
                    });
                });
                team.team_barrier();
            }
        }
        for (int i = 0; i < kept; ++i)
        {
            load_summary_panel(team, s, batch, first, blocks, head, sub, 1 + second + i, m.panel, score_panel);
            product_with(m.query, m.logits + (sub * (1 + kept) + 1 + i) * plane);
        }
    }
}

/// x where x is finite, otherwise minus infinity.
template <class T>
KOKKOS_FUNCTION T finite_or_low(T x)
{
    return x - x == T(0) ? x : -Kokkos::Experimental::infinity_v<T>;
}

/// Folds the parts of row r into mass[0, blocks) and returns the row's reference in this panel.
/// others: keys that the mean stands for; blocks beyond are not touched.
template <class Metric, class T, class Team>
KOKKOS_FUNCTION T fold_parts(Team const& team, int sub_blocks, int kept, T others, int rows, int r, int blocks,
                             score_memory<T> const& m, T* mass)
{
    std::int64_t const plane = static_cast<std::int64_t>(rows) * score_panel;
    std::int64_t const row = static_cast<std::int64_t>(r) * score_panel;
    int const parts = sub_blocks * (1 + kept);
    auto const logit = [&](int part, int j) {
        T x = m.logits[part * plane + row + j];
        if constexpr (Metric::expansion == expansion_kind::cumulant)
            if (part % (1 + kept) == 0) x += m.variance[part / (1 + kept) * plane + row + j] / T(2);
        return x;
    };
    T reference = -Kokkos::Experimental::infinity_v<T>;
    Kokkos::parallel_reduce(
        Kokkos::ThreadVectorRange(team, blocks),
        [&](int j, T& largest) {
            for (int part = 0; part < parts; ++part)
            {
                T const x = finite_or_low(logit(part, j));
                largest = x > largest ? x : largest;
            }
        },
        Kokkos::Max<T>(reference));
    Kokkos::parallel_for(Kokkos::ThreadVectorRange(team, blocks), [&](int j) {
        T sum = T(0);
        for (int part = 0; part < parts; ++part)
        {
            T const x = logit(part, j);
            T e = exp(x - reference) + (x - x); // NaN where x is not finite
            if (part % (1 + kept) == 0)
            {
                e *= others;
                if constexpr (Metric::expansion == expansion_kind::taylor && Metric::covariance != covariance_kind::none)
                {
                    T const factor = T(1) + m.variance[part / (1 + kept) * plane + row + j] / T(2);
                    e = factor > T(0) ? e * factor : Kokkos::Experimental::quiet_NaN_v<T>;
                }
            }
            sum += e;
        }
        mass[j] = sum;
    });
    return reference;
}

} // namespace spla::detail
