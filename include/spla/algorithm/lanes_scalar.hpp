// SPDX-FileCopyrightText: The spla authors
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once
#include "../element_types.hpp"

#include <type_traits>
#include <utility>

/// The functions that feature maps and kernels need, for scalars; lanes.hpp has the same for packs.
namespace spla
{

namespace detail
{
/// One element as the accumulation type; exact.
template <class T, class Element>
KOKKOS_INLINE_FUNCTION T widen(Element x)
{
    if constexpr (std::is_same_v<Element, double>)
        return static_cast<T>(x);
    else
        return static_cast<T>(static_cast<float>(x));
}

#if defined(__AVX512F__)
inline constexpr int vector_bytes = 64;
#elif defined(__AVX__)
inline constexpr int vector_bytes = 32;
#else
inline constexpr int vector_bytes = 16;
#endif
} // namespace detail

/// A number that is a constant also where it is an argument: std::integral_constant for devices.
template <int I>
struct constant_index
{
    KOKKOS_FUNCTION constexpr operator int() const { return I; }
};

/// f(0), f(1) ... f(N - 1), each number a constant: a loop that must not stay one.
template <int N, class Function>
KOKKOS_FUNCTION void unrolled(Function const& f)
{
    [&]<int... I>(std::integer_sequence<int, I...>)
    {
        (f(constant_index<I>{}), ...);
    }
    (std::make_integer_sequence<int, N>{});
}

/// Lanes of the widest vector register of the target, for float or double.
template <class T>
inline constexpr int native_lanes = detail::vector_bytes / static_cast<int>(sizeof(T));

KOKKOS_INLINE_FUNCTION float exp(float x)
{
    return Kokkos::exp(x);
}
KOKKOS_INLINE_FUNCTION double exp(double x)
{
    return Kokkos::exp(x);
}
/// exp(x), and exp(-x) in `inverse`, for |x| up to 86; cheaper for packs than two calls.
KOKKOS_INLINE_FUNCTION float exp_with_inverse(float x, float& inverse)
{
    float const e = Kokkos::exp(x);
    inverse = 1.0f / e;
    return e;
}
KOKKOS_INLINE_FUNCTION double exp_with_inverse(double x, double& inverse)
{
    double const e = Kokkos::exp(x);
    inverse = 1.0 / e;
    return e;
}
KOKKOS_INLINE_FUNCTION float max(float a, float b)
{
    return a > b ? a : b;
}
KOKKOS_INLINE_FUNCTION double max(double a, double b)
{
    return a > b ? a : b;
}
KOKKOS_INLINE_FUNCTION float min(float a, float b)
{
    return a < b ? a : b;
}
KOKKOS_INLINE_FUNCTION double min(double a, double b)
{
    return a < b ? a : b;
}
KOKKOS_INLINE_FUNCTION float where_positive(float condition, float x, float other)
{
    return condition > 0.0f ? x : other;
}
KOKKOS_INLINE_FUNCTION double where_positive(double condition, double x, double other)
{
    return condition > 0.0 ? x : other;
}

/// Is x > 0, in every lane where x is a pack? False for NaN.
KOKKOS_INLINE_FUNCTION bool all_positive(float x)
{
    return x > 0.0f;
}
KOKKOS_INLINE_FUNCTION bool all_positive(double x)
{
    return x > 0.0;
}

/// x where x is finite, otherwise the other.
KOKKOS_INLINE_FUNCTION float finite_or(float x, float other)
{
    return x - x == 0.0f ? x : other;
}
KOKKOS_INLINE_FUNCTION double finite_or(double x, double other)
{
    return x - x == 0.0 ? x : other;
}

} // namespace spla
