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

inline constexpr int score_panel =
    64; ///< blocks scored together; panels start at multiples of it from the first competing block

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

/// Logits and variances of every part for blocks [first, first + blocks); `following` blocks come next.
template <class Metric, class T, class Team>
KOKKOS_FUNCTION void score_parts(Team const& team, summary_tensor const& s, int kept, std::int64_t batch,
                                 std::int64_t head, std::int64_t first, int blocks, int following, int rows,
                                 score_memory<T> const& m)
{
    int const width = static_cast<int>(s.head_dim);
    std::int64_t const plane = static_cast<std::int64_t>(rows) * score_panel;
    int const second = s.vectors - 1 - kept;
    auto const product_with = [&](T const* a, T* to) {
        multiply<product::set>(team, rows, width, score_panel, row_set<T const>{a, width},
                               static_cast<T const*>(m.panel), score_panel, row_set<T>{to, score_panel});
    };
    for (int sub = 0; sub < s.sub_blocks; ++sub)
    {
        load_summary_panel(team, s, batch, first, blocks, following, head, sub, 0, m.panel, score_panel);
        product_with(m.query, m.logits + sub * (1 + kept) * plane);
        T* const variance = m.variance + sub * plane;
        if constexpr (Metric::covariance == covariance_kind::none)
            fill(team, plane, variance, T(0));
        else if constexpr (Metric::covariance == covariance_kind::diagonal)
        {
            load_summary_panel(team, s, batch, first, blocks, following, head, sub, 1, m.panel, score_panel);
            product_with(m.squared, variance);
        }
        else
        {
            fill(team, plane, variance, T(0));
            for (int v = 0; v < second; ++v)
            {
                load_summary_panel(team, s, batch, first, blocks, following, head, sub, 1 + v, m.panel, score_panel);
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
            load_summary_panel(team, s, batch, first, blocks, following, head, sub, 1 + second + i, m.panel,
                               score_panel);
            product_with(m.query, m.logits + (sub * (1 + kept) + 1 + i) * plane);
        }
    }
}

/// The parts of one row in a panel, as scalars or as packs of neighbouring blocks: T is a scalar type or lanes.
template <class Metric, class T, class Scalar>
struct row_parts
{
    score_memory<Scalar> const& m;
    std::int64_t plane, row;
    int sub_blocks, kept;
    Scalar others;

    KOKKOS_FUNCTION static T load(Scalar const* from)
    {
        if constexpr (std::is_same_v<T, Scalar>)
            return *from;
        else
            return T::load(from);
    }
    KOKKOS_FUNCTION T logit(int part, int j) const
    {
        T x = load(m.logits + part * plane + row + j);
        if constexpr (Metric::expansion == expansion_kind::cumulant)
            if (part % (1 + kept) == 0) x = x + load(m.variance + part / (1 + kept) * plane + row + j) * T(Scalar(0.5));
        return x;
    }
    /// Largest finite logit of block(s) j.
    KOKKOS_FUNCTION T largest(int j) const
    {
        T const low(-Kokkos::Experimental::infinity_v<Scalar>);
        T top = low;
        for (int part = 0; part < sub_blocks * (1 + kept); ++part) top = max(top, finite_or(logit(part, j), low));
        return top;
    }
    /// Mass relative to exp(reference); not finite where the score, the log-sum-exp of the parts, is not.
    KOKKOS_FUNCTION T mass(int j, T reference) const
    {
        T const low(-Kokkos::Experimental::infinity_v<Scalar>);
        T sum(Scalar(0)), top = low;
        for (int part = 0; part < sub_blocks * (1 + kept); ++part)
        {
            T const x = logit(part, j);
            T e = exp(x - reference);
            top = max(top, finite_or(x, low));
            if (part % (1 + kept) == 0)
            {
                e = e * T(others);
                if constexpr (Metric::expansion == expansion_kind::taylor &&
                              Metric::covariance != covariance_kind::none)
                {
                    T const factor =
                        T(Scalar(1)) + load(m.variance + part / (1 + kept) * plane + row + j) * T(Scalar(0.5));
                    e = where_positive(factor, e * factor, T(Kokkos::Experimental::quiet_NaN_v<Scalar>));
                }
            }
            sum = sum + e;
        }
        return sum + (top - top); // no finite part at all: the score is not finite
    }
};

/// Folds the parts of row r into mass[0, blocks) and returns the row's reference in this panel; what lies behind, up to
/// the panel's end, is overwritten. others: keys that the mean stands for.
template <class Metric, class T, class Team>
KOKKOS_FUNCTION T fold_parts(Team const& team, int sub_blocks, int kept, T others, int rows, int r, int blocks,
                             score_memory<T> const& m, T* mass)
{
    std::int64_t const plane = static_cast<std::int64_t>(rows) * score_panel;
    std::int64_t const row = static_cast<std::int64_t>(r) * score_panel;
    T reference = -Kokkos::Experimental::infinity_v<T>;
    if constexpr (runs_on_host<space_of<Team>>)
    {
        constexpr int w = native_lanes<T>;
        using pack = lanes<T, w>;
        row_parts<Metric, pack, T> const parts{m, plane, row, sub_blocks, kept, others};
        for (int part = 0; part < sub_blocks * (1 + kept); ++part)
            for (int j = blocks; j < score_panel; ++j)
                m.logits[part * plane + row + j] = -Kokkos::Experimental::infinity_v<T>;
        pack top(reference);
        for (int j = 0; j < score_panel; j += w) top = max(top, parts.largest(j));
        for (int i = 0; i < w; ++i) reference = top[i] > reference ? top[i] : reference;
        for (int j = 0; j < score_panel; j += w) parts.mass(j, pack(reference)).store(mass + j);
    }
    else
    {
        row_parts<Metric, T, T> const parts{m, plane, row, sub_blocks, kept, others};
        Kokkos::parallel_reduce(
            Kokkos::ThreadVectorRange(team, blocks), [&](int j, T& top) { top = max(top, parts.largest(j)); },
            Kokkos::Max<T>(reference));
        Kokkos::parallel_for(Kokkos::ThreadVectorRange(team, blocks),
                             [&](int j) { mass[j] = parts.mass(j, reference); });
    }
    return reference;
}

/// Sum of the finite ones of n masses.
template <class T, class Team>
KOKKOS_FUNCTION T finite_sum(Team const& team, T const* mass, int n)
{
    T sum = T(0);
    if constexpr (runs_on_host<space_of<Team>>)
    {
        constexpr int w = native_lanes<T>;
        using pack = lanes<T, w>;
        pack total(T(0));
        int j = 0;
        for (; j + w <= n; j += w) total = total + finite_or(pack::load(mass + j), pack(T(0)));
        for (int i = 0; i < w; ++i) sum += total[i];
        for (; j < n; ++j) sum += finite_or(mass[j], T(0));
    }
    else
        Kokkos::parallel_reduce(
            Kokkos::ThreadVectorRange(team, n), [&](int j, T& partial) { partial += finite_or(mass[j], T(0)); }, sum);
    return sum;
}

} // namespace spla::detail
