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

/// Blocks 0, 2, 4 ... of a, each followed by the one of b; odd_blocks: blocks 1, 3, 5 ... of both.
template <int Block, class V, std::size_t... I>
V even_blocks(V a, V b, std::index_sequence<I...>)
{
    constexpr int n = sizeof...(I), bit = Block;
    return __builtin_shufflevector(
        a, b, (static_cast<int>(I) & bit ? n + (static_cast<int>(I) & ~bit) : static_cast<int>(I))...);
}
template <int Block, class V, std::size_t... I>
V odd_blocks(V a, V b, std::index_sequence<I...>)
{
    constexpr int n = sizeof...(I), bit = Block;
    return __builtin_shufflevector(
        a, b, (static_cast<int>(I) & bit ? n + static_cast<int>(I) : (static_cast<int>(I) | bit))...);
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

/// N packs of N lanes as an N x N matrix, transposed in registers: log2(N) rounds exchange the off-diagonal blocks of
/// 1, 2, 4 ... numbers, the small ones inside the 16 bytes that a shuffle reaches cheaply.
template <int Block, class T, int N>
void exchange_blocks(lanes<T, N> (&rows)[N])
{
    constexpr auto sequence = std::make_index_sequence<N>{};
    unrolled<N / 2>([&](auto k) {
        constexpr int i = k / Block * 2 * Block + k % Block;
        auto const a = rows[i].v, b = rows[i + Block].v;
        rows[i].v = detail::even_blocks<Block>(a, b, sequence);
        rows[i + Block].v = detail::odd_blocks<Block>(a, b, sequence);
    });
}
template <class T, int N>
void transpose(lanes<T, N> (&rows)[N])
{
    if constexpr (N > 1) exchange_blocks<1>(rows);
    if constexpr (N > 2) exchange_blocks<2>(rows);
    if constexpr (N > 4) exchange_blocks<4>(rows);
    if constexpr (N > 8) exchange_blocks<8>(rows);
    static_assert(N <= 16);
}

namespace detail
{
/// x = n ln 2 + rest with |rest| <= ln 2 / 2; exp(rest) = even + rest * odd, exp(-rest) = even - rest * odd.
/// Cephes' expf: ln 2 in two parts, and its polynomial of degree 7.
template <int N>
struct exp_parts
{
    using vector = typename lanes<float, N>::vector;
    using integers = vector_t<std::int32_t, N>;
    integers exponent; ///< n where a float has its exponent
    vector rest, even, odd;

    explicit exp_parts(vector x)
    {
        constexpr float magic = 12582912.0f; // 1.5 * 2^23: adding it rounds to an integer kept in the low bits
        vector const shifted = x * 1.44269504088896341f + magic;
        vector const number = shifted - magic;
        exponent = bits_as<integers>(shifted) << 23;
        rest = x - number * 0.693359375f;
        rest = rest - number * -2.12194440e-4f;
        vector const square = rest * rest;
        even = ((square * 1.3981999507e-3f + 4.1665795894e-2f) * square + 5.0000001201e-1f) * square + 1.0f;
        odd = ((square * 1.9875691500e-4f + 8.3334519073e-3f) * square + 1.6666665459e-1f) * square + 1.0f;
    }
};
inline constexpr std::int32_t bits_of_half = 0x3f000000, bits_of_one = 0x3f800000;
} // namespace detail

/// exp for x in [-86.9, 88.72] (or NaN, which stays): relative error below 2e-7.
template <int N>
lanes<float, N> exp_in_range(lanes<float, N> x)
{
    detail::exp_parts<N> const e(x.v);
    using vector = typename lanes<float, N>::vector;
    // 2^(n-1), then doubled: n reaches 128, whose power has no float.
    return (e.rest * e.odd + e.even) * detail::bits_as<vector>(e.exponent + detail::bits_of_half) * 2.0f;
}

/// exp(x), and exp(-x) in `inverse`, for |x| up to 86: relative errors below 2e-7.
template <int N>
lanes<float, N> exp_with_inverse(lanes<float, N> x, lanes<float, N>& inverse)
{
    detail::exp_parts<N> const e(x.v);
    using vector = typename lanes<float, N>::vector;
    inverse = (e.even - e.rest * e.odd) * detail::bits_as<vector>(detail::bits_of_one - e.exponent);
    return (e.rest * e.odd + e.even) * detail::bits_as<vector>(e.exponent + detail::bits_of_one);
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
lanes<double, N> exp_with_inverse(lanes<double, N> x, lanes<double, N>& inverse)
{
    lanes<double, N> const e = exp(x);
    inverse = lanes<double, N>(1.0) / e;
    return e;
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
