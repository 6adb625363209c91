// SPDX-FileCopyrightText: The spla authors
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once
#include "lanes_scalar.hpp"

/// Packs as plain arrays, usable on a device too. Included by lanes.hpp where there are no vector extensions.
namespace spla
{

template <class T, int N>
struct lanes
{
    static constexpr int width = N;
    T v[N];

    lanes() = default;
    KOKKOS_FUNCTION explicit lanes(T x)
    {
        for (int i = 0; i < N; ++i) v[i] = x;
    }
    KOKKOS_FUNCTION explicit lanes(int x) : lanes(static_cast<T>(x)) {}

    KOKKOS_FUNCTION static lanes load(T const* from)
    {
        lanes r;
        for (int i = 0; i < N; ++i) r.v[i] = from[i];
        return r;
    }
    KOKKOS_FUNCTION void store(T* to) const
    {
        for (int i = 0; i < N; ++i) to[i] = v[i];
    }
    KOKKOS_FUNCTION T operator[](int i) const { return v[i]; }

    friend KOKKOS_FUNCTION lanes operator+(lanes a, lanes b)
    {
        for (int i = 0; i < N; ++i) a.v[i] += b.v[i];
        return a;
    }
    friend KOKKOS_FUNCTION lanes operator-(lanes a, lanes b)
    {
        for (int i = 0; i < N; ++i) a.v[i] -= b.v[i];
        return a;
    }
    friend KOKKOS_FUNCTION lanes operator*(lanes a, lanes b)
    {
        for (int i = 0; i < N; ++i) a.v[i] *= b.v[i];
        return a;
    }
    friend KOKKOS_FUNCTION lanes operator/(lanes a, lanes b)
    {
        for (int i = 0; i < N; ++i) a.v[i] /= b.v[i];
        return a;
    }
    friend KOKKOS_FUNCTION lanes max(lanes a, lanes b)
    {
        for (int i = 0; i < N; ++i) a.v[i] = a.v[i] > b.v[i] ? a.v[i] : b.v[i];
        return a;
    }
    friend KOKKOS_FUNCTION lanes min(lanes a, lanes b)
    {
        for (int i = 0; i < N; ++i) a.v[i] = a.v[i] < b.v[i] ? a.v[i] : b.v[i];
        return a;
    }
    friend KOKKOS_FUNCTION lanes finite_or(lanes x, lanes other)
    {
        for (int i = 0; i < N; ++i) x.v[i] = finite_or(x.v[i], other.v[i]);
        return x;
    }
    friend KOKKOS_FUNCTION lanes where_positive(lanes condition, lanes x, lanes other)
    {
        for (int i = 0; i < N; ++i) x.v[i] = condition.v[i] > T(0) ? x.v[i] : other.v[i];
        return x;
    }
};

template <class T, int N>
KOKKOS_FUNCTION lanes<T, N> exp(lanes<T, N> x)
{
    for (int i = 0; i < N; ++i) x.v[i] = exp(x.v[i]);
    return x;
}
template <class T, int N>
KOKKOS_FUNCTION lanes<T, N> exp_with_inverse(lanes<T, N> x, lanes<T, N>& inverse)
{
    x = exp(x);
    inverse = lanes<T, N>(T(1)) / x;
    return x;
}

template <class T, int N>
KOKKOS_FUNCTION void keep_in_register(lanes<T, N>&)
{
}

template <class T, int N>
KOKKOS_FUNCTION bool all_positive(lanes<T, N> x)
{
    bool all = true;
    for (int i = 0; i < N; ++i) all = all && x.v[i] > T(0);
    return all;
}

template <class T, int N>
KOKKOS_FUNCTION void transpose(lanes<T, N> (&rows)[N])
{
    for (int i = 0; i < N; ++i)
        for (int j = 0; j < i; ++j) Kokkos::kokkos_swap(rows[i].v[j], rows[j].v[i]);
}

namespace detail
{
template <class T, int N, class Element>
KOKKOS_FUNCTION lanes<T, N> load_lanes(Element const* from)
{
    lanes<T, N> r;
    for (int i = 0; i < N; ++i) r.v[i] = widen<T>(from[i]);
    return r;
}
} // namespace detail

} // namespace spla
