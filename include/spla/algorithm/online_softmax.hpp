// SPDX-FileCopyrightText: The spla authors
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once
#include "panel_load.hpp"

/// Softmax over blocks that come one after another: a row keeps its largest logit, the sum of exponentials below it,
/// and an unscaled output; a new block rescales them only where the largest grows. An empty row is (-infinity, 0,
/// zeros).
namespace spla::detail
{

template <class T>
KOKKOS_INLINE_FUNCTION T lowest()
{
    return -Kokkos::Experimental::infinity_v<T>;
}

/// Replaces the logits x[0, visible) by exp(x - largest) (zeros up to `leading`), and updates the row. By one thread
/// (vector).
template <class T, class Team>
KOKKOS_FUNCTION void absorb_logits(Team const& team, T* x, int visible, int leading, T& largest, T& sum, T* output,
                                   int columns)
{
    T before = largest, now = before;
    T block_sum = T(0);
    if constexpr (runs_on_host<space_of<Team>>)
    {
        constexpr int w = native_lanes<T>;
        using pack = lanes<T, w>;
        for (int j = visible; j < leading; ++j) x[j] = lowest<T>();
        pack top(lowest<T>());
        for (int j = 0; j < leading; j += w) top = max(top, pack::load(x + j));
        for (int i = 0; i < w; ++i) now = top[i] > now ? top[i] : now;
        pack total(T(0));
        pack const reference(now == lowest<T>() ? T(0) : now); // where every logit is -infinity, every weight is 0
        for (int j = 0; j < leading; j += w)
        {
            pack const e = exp(pack::load(x + j) - reference);
            e.store(x + j);
            total = total + e;
        }
        for (int i = 0; i < w; ++i) block_sum += total[i];
    }
    else
    {
        Kokkos::parallel_reduce(
            Kokkos::ThreadVectorRange(team, visible), [&](int j, T& m) { m = x[j] > m ? x[j] : m; },
            Kokkos::Max<T>(now));
        now = now > before ? now : before;
        Kokkos::parallel_reduce(
            Kokkos::ThreadVectorRange(team, leading),
            [&](int j, T& s) {
                T const e = j < visible ? exp(x[j] - now) : T(0);
                x[j] = e;
                s += e;
            },
            block_sum);
    }
    T const factor = now > before ? exp(before - now) : T(1);
    if (now > before)
    {
        if constexpr (runs_on_host<space_of<Team>>)
            for (int d = 0; d < columns; ++d) output[d] *= factor;
        else
            Kokkos::parallel_for(Kokkos::ThreadVectorRange(team, columns), [&](int d) { output[d] *= factor; });
    }
    Kokkos::single(Kokkos::PerThread(team), [&] {
        sum = sum * factor + block_sum;
        largest = now;
    });
}

} // namespace spla::detail
