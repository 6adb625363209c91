// SPDX-FileCopyrightText: The spla authors
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once
#include "lanes_scalar.hpp"

#include <cstring>
#include <utility>

/// Packs as GCC's and Clang's vector extensions. Included by lanes.hpp where these are to be had.
namespace spla
{

template <class T, int N>
struct lanes
{
    static_assert(std::is_same_v<T, float> || std::is_same_v<T, double>);
    static constexpr int width = N;
    typedef T vector __attribute__((vector_size(N * sizeof(T))));
    vector v;

    lanes() = default;
    lanes(vector x) : v(x) {}
    template <class Number, std::enable_if_t<std::is_arithmetic_v<Number>, int> = 0>
    explicit lanes(Number x) : v(static_cast<T>(x) - vector{})
    {
    }

    static lanes load(T const* from)
    {
        lanes r;
        std::memcpy(&r.v, from, sizeof(vector));
        return r;
    }
    void store(T* to) const { std::memcpy(to, &v, sizeof(vector)); }
    T operator[](int i) const { return v[i]; }

    friend lanes operator+(lanes a, lanes b) { return a.v + b.v; }
    friend lanes operator-(lanes a, lanes b) { return a.v - b.v; }
    friend lanes operator*(lanes a, lanes b) { return a.v * b.v; }
    friend lanes operator/(lanes a, lanes b) { return a.v / b.v; }
    friend lanes max(lanes a, lanes b) { return a.v > b.v ? a.v : b.v; }
    friend lanes min(lanes a, lanes b) { return a.v < b.v ? a.v : b.v; }
    friend lanes finite_or(lanes x, lanes other) { return x.v - x.v == vector{} ? x.v : other.v; }
    /// x where condition > 0, otherwise the other.
    friend lanes where_positive(lanes condition, lanes x, lanes other)
    {
        return condition.v > vector{} ? x.v : other.v;
    }
};

namespace detail
{
template <class T, int N>
struct vector_type
{
    typedef T type __attribute__((vector_size(N * sizeof(T))));
};
template <class T, int N>
using vector_t = typename vector_type<T, N>::type;

template <class To, class From>
To bits_as(From const& from)
{
    static_assert(sizeof(To) == sizeof(From));
    To to;
    std::memcpy(&to, &from, sizeof(To));
    return to;
}

template <class V, std::size_t... I>
V interleave_low(V a, V b, std::index_sequence<I...>)
{
    constexpr int n = sizeof...(I);
    return __builtin_shufflevector(a, b, (static_cast<int>(I) / 2 + (I % 2 ? n : 0))...);
}
template <class V, std::size_t... I>
V interleave_high(V a, V b, std::index_sequence<I...>)
{
    constexpr int n = sizeof...(I);
    return __builtin_shufflevector(a, b, (static_cast<int>(I) / 2 + n / 2 + (I % 2 ? n : 0))...);
}
} // namespace detail

/// Says that x is used often: GCC 12 otherwise reads a loaded pack from memory again at each use.
template <class T, int N>
void keep_in_register([[maybe_unused]] lanes<T, N>& x)
{
#if defined(__x86_64__)
    __asm__("" : "+v"(x.v));
#elif defined(__aarch64__)
    __asm__("" : "+w"(x.v));
#endif
}

template <class T, int N>
bool all_positive(lanes<T, N> x)
{
    bool all = true;
    for (int i = 0; i < N; ++i) all = all && x.v[i] > T(0);
    return all;
}

/// N packs of N lanes as an N x N matrix, transposed in registers: log2(N) rounds of perfect shuffles.
template <class T, int N>
void transpose(lanes<T, N> (&rows)[N])
{
    constexpr auto sequence = std::make_index_sequence<N>{};
    for (int round = 1; round < N; round *= 2)
    {
        lanes<T, N> next[N];
        for (int i = 0; i < N / 2; ++i)
        {
            next[2 * i] = detail::interleave_low(rows[i].v, rows[i + N / 2].v, sequence);
            next[2 * i + 1] = detail::interleave_high(rows[i].v, rows[i + N / 2].v, sequence);
        }
        for (int i = 0; i < N; ++i) rows[i] = next[i];
    }
}

/// exp for x in [-86.9, 88.72] (or NaN, which stays): relative error below 2e-7. Range reduction by ln 2 in two parts
/// and the degree-6 polynomial of Cephes' expf.
template <int N>
lanes<float, N> exp_in_range(lanes<float, N> x)
{
    using vector = typename lanes<float, N>::vector;
    using integers = detail::vector_t<std::int32_t, N>;
    constexpr float magic = 12582912.0f; // 1.5 * 2^23: adding it rounds to an integer kept in the low bits
    vector const shifted = x.v * 1.44269504088896341f + magic;
    vector const n = shifted - magic;
    vector r = x.v - n * 0.693359375f;
    r = r - n * -2.12194440e-4f;
    vector p = r * 1.9875691500e-4f + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * (r * r) + r + 1.0f;
    // 2^(n-1), then doubled: n reaches 128, whose exponent has no float.
    integers const exponent = (detail::bits_as<integers>(shifted) - 0x4b400000 + 126) << 23;
    return p * detail::bits_as<vector>(exponent) * 2.0f;
}

/// exp in float: relative error below 2e-7, 0 below -86.9 (where the result would be under 1.9e-38), infinity above
/// 88.72; NaN stays NaN.
template <int N>
lanes<float, N> exp(lanes<float, N> x)
{
    using vector = typename lanes<float, N>::vector;
    vector const low = -86.9f - vector{};
    vector const high = 88.72f - vector{};
    vector const value = exp_in_range(lanes<float, N>(x.v < low ? low : (x.v > high ? high : x.v))).v;
    vector const zero = vector{};
    vector const infinity = __builtin_inff() - vector{};
    return x.v < low ? zero : (x.v > high ? infinity : value);
}

template <int N>
lanes<double, N> exp(lanes<double, N> x)
{
    lanes<double, N> r;
    for (int i = 0; i < N; ++i) r.v[i] = Kokkos::exp(x.v[i]);
    return r;
}
template <int N>
lanes<double, N> exp_in_range(lanes<double, N> x)
{
    return exp(x);
}

namespace detail
{
/// N consecutive elements, converted to the accumulation type.
template <class T, int N, class Element>
lanes<T, N> load_lanes(Element const* from)
{
    if constexpr (std::is_same_v<Element, T>)
        return lanes<T, N>::load(from);
    else if constexpr (std::is_same_v<Element, float>)
    {
        vector_t<float, N> narrow;
        std::memcpy(&narrow, from, sizeof(narrow));
        return __builtin_convertvector(narrow, vector_t<T, N>);
    }
    else if constexpr (std::is_same_v<Element, std::int8_t>)
    {
        vector_t<std::int8_t, N> narrow;
        std::memcpy(&narrow, from, sizeof(narrow));
        return __builtin_convertvector(__builtin_convertvector(narrow, vector_t<std::int32_t, N>), vector_t<T, N>);
    }
    else
    {
        vector_t<std::uint16_t, N> half;
        std::memcpy(&half, from, sizeof(half));
        vector_t<std::uint32_t, N> const bits = __builtin_convertvector(half, vector_t<std::uint32_t, N>);
        vector_t<float, N> value;
        if constexpr (std::is_same_v<Element, bfloat16>)
            value = bits_as<vector_t<float, N>>(bits << 16);
        else
        {
            auto const magnitude = (bits & 0x7fffu) << 13;
            auto const finite = bits_as<vector_t<std::uint32_t, N>>(bits_as<vector_t<float, N>>(magnitude) * 0x1p112f);
            auto const special = magnitude | 0x7f800000u;
            auto const limit = 0x0f800000u - vector_t<std::uint32_t, N>{};
            value = bits_as<vector_t<float, N>>(((bits & 0x8000u) << 16) | (magnitude >= limit ? special : finite));
        }
        if constexpr (std::is_same_v<T, float>)
            return value;
        else
            return __builtin_convertvector(value, vector_t<T, N>);
    }
}
} // namespace detail

} // namespace spla
