// SPDX-FileCopyrightText: The spla authors
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once
#include "attention_shape.hpp"

namespace spla::portable
{

/// Joins the runs of every row, ascending: by log-sum-exp for the exact branch, by sums for the residual.
template <class Exec, class Element>
struct merge_kernel
{
    using T = accumulator_t<Element>;
    using team_type = team_of<Exec>;

    partial_tensor<T> partial;
    attention_outputs<Element> out;
    attention_shape shape;

    /// One work item a decoded token and query head.
    KOKKOS_FUNCTION void operator()(team_type const& team, std::int64_t item) const
    {
        std::int64_t const head = item % partial.heads;
        auto const place = partial.tokens.find(item / partial.heads);
        if (place.sequence >= shape.sequences.count) return;
        detail::sequence const s = shape.sequences[place.sequence];
        std::int64_t const runs = shape.runs_of(s);
        if (runs == 1) return; // stored already
        Kokkos::parallel_for(Kokkos::TeamThreadRange(team, 1), [&](int) {
            T* const first = partial.row(s, place.item, head, 0);
            T* const o = first + 4;
            T* const r = o + shape.value_dim;
            T largest = first[0];
            for (std::int64_t run = 1; run < runs; ++run)
            {
                T const other = partial.row(s, place.item, head, run)[0];
                largest = other > largest ? other : largest;
            }
            T sum = T(0), denominator = T(0), magnitude = T(0);
            for (std::int64_t run = 0; run < runs; ++run)
            {
                T* const row = partial.row(s, place.item, head, run);
                // An empty run has sum 0 and largest -infinity; a NaN logit shows in the sum.
                T const factor = row[1] == T(0) ? T(0) : exp(row[0] - largest);
                sum += row[1] * factor;
                denominator += row[2];
                magnitude += row[3];
                Kokkos::parallel_for(Kokkos::ThreadVectorRange(team, shape.value_dim), [&](int d) {
                    T const x = factor == T(0) ? T(0) : row[4 + d] * factor;
                    T const y = row[4 + shape.value_dim + d];
                    o[d] = run == 0 ? x : o[d] + x;
                    r[d] = run == 0 ? y : r[d] + y;
                });
            }
            T const inverse = sum == T(0) ? T(0) : T(1) / sum;
            T const factor = residual_factor(shape.normalised, denominator, magnitude);
            Kokkos::parallel_for(Kokkos::ThreadVectorRange(team, shape.value_dim), [&](int d) {
                o[d] *= inverse;
                r[d] *= factor;
            });
            out.store(team, shape.exact, shape.residual, s.number, place.item, head, shape.value_dim, o, r,
                      largest + Kokkos::log(sum));
        });
    }
};

} // namespace spla::portable
