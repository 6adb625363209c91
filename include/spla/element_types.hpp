// SPDX-FileCopyrightText: The spla authors
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once
#include <Kokkos_Core.hpp>

#include <cstdint>
#include <type_traits>

/// Element types of queries, keys, values and outputs, and the types in which spla computes with them.
///
/// | element                                  | accumulation, statistics, states | default summaries |
/// |------------------------------------------|----------------------------------|-------------------|
/// | bfloat16, float16 (and Kokkos' or vendors' own 16-bit types) | float        | bfloat16          |
/// | float                                    | float                            | float             |
/// | double                                   | double                           | float             |
namespace spla
{

/// The upper half of a float; round to nearest even, NaN stays NaN.
struct bfloat16
{
    std::uint16_t bits;

    bfloat16() = default;
    KOKKOS_FUNCTION explicit bfloat16(float x)
    {
        std::uint32_t const u = Kokkos::bit_cast<std::uint32_t>(x);
        bool const is_nan = (u & 0x7fffffffu) > 0x7f800000u;
        bits = static_cast<std::uint16_t>(is_nan ? ((u >> 16) | 0x40u) : ((u + 0x7fffu + ((u >> 16) & 1u)) >> 16));
    }
    KOKKOS_FUNCTION explicit operator float() const
    {
        return Kokkos::bit_cast<float>(static_cast<std::uint32_t>(bits) << 16);
    }
};

/// IEEE binary16; round to nearest even, subnormals kept, overflow to infinity.
struct float16
{
    std::uint16_t bits;

    float16() = default;
    KOKKOS_FUNCTION explicit float16(float x)
    {
        std::uint32_t const u = Kokkos::bit_cast<std::uint32_t>(x);
        std::uint32_t const sign = (u >> 16) & 0x8000u;
        std::uint32_t const magnitude = u & 0x7fffffffu;
        std::uint32_t half = 0;
        if (magnitude > 0x7f800000u)
            half = 0x7e00u;
        else if (magnitude >= 0x477ff000u) // rounds to 65520 or above
            half = 0x7c00u;
        else if (magnitude >= 0x38800000u) // normal: drop 13 bits, rebias by 112
            half = (magnitude - 0x38000000u + 0xfffu + ((magnitude >> 13) & 1u)) >> 13;
        else // subnormal: the float adder rounds at 2^-24
            half = Kokkos::bit_cast<std::uint32_t>(Kokkos::bit_cast<float>(magnitude) + 0.5f) - 0x3f000000u;
        bits = static_cast<std::uint16_t>(sign | half);
    }
    KOKKOS_FUNCTION explicit operator float() const
    {
        std::uint32_t const sign = (bits & 0x8000u) << 16;
        std::uint32_t const magnitude = (bits & 0x7fffu) << 13;
        // 2^112 moves binary16's exponent to float's, subnormals included; infinities and NaN keep all exponent bits.
        std::uint32_t const finite = Kokkos::bit_cast<std::uint32_t>(Kokkos::bit_cast<float>(magnitude) * 0x1p112f);
        std::uint32_t const special = magnitude | 0x7f800000u;
        return Kokkos::bit_cast<float>(sign | (magnitude >= 0x0f800000u ? special : finite));
    }
};

/// How the bits of an element are read. Specialise for a 16-bit type of your own: `using type = spla::bfloat16;`.
template <class T>
struct element
{
    using type = void; // unsupported
};
template <>
struct element<float>
{
    using type = float;
};
template <>
struct element<double>
{
    using type = double;
};
template <>
struct element<bfloat16>
{
    using type = bfloat16;
};
template <>
struct element<float16>
{
    using type = float16;
};
#if !KOKKOS_BHALF_T_IS_FLOAT
template <>
struct element<Kokkos::Experimental::bhalf_t>
{
    using type = bfloat16;
};
#endif
#if !KOKKOS_HALF_T_IS_FLOAT
template <>
struct element<Kokkos::Experimental::half_t>
{
    using type = float16;
};
#endif

template <class T>
using element_t = typename element<std::remove_cv_t<T>>::type;

/// Accumulation type: double for double, float for all others.
template <class Element>
using accumulator_t = std::conditional_t<std::is_same_v<Element, double>, double, float>;

/// Run-time name of an element type, for problem sizes, plans and messages.
enum class element_kind
{
    bfloat16,
    float16,
    float32,
    float64
};

template <class Element>
constexpr element_kind kind_of()
{
    if constexpr (std::is_same_v<Element, bfloat16>)
        return element_kind::bfloat16;
    else if constexpr (std::is_same_v<Element, float16>)
        return element_kind::float16;
    else if constexpr (std::is_same_v<Element, float>)
        return element_kind::float32;
    else
        return element_kind::float64;
}

constexpr char const* name(element_kind kind)
{
    switch (kind)
    {
    case element_kind::bfloat16:
        return "bf16";
    case element_kind::float16:
        return "fp16";
    case element_kind::float32:
        return "fp32";
    case element_kind::float64:
        break;
    }
    return "fp64";
}

} // namespace spla
