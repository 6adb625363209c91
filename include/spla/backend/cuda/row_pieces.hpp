// SPDX-FileCopyrightText: The spla authors
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once
#include "../../element_types.hpp"

#include <cstdint>
#include <type_traits>

/// Rows of 16-bit numbers by pieces of 16 bytes: what a thread loads at once.
namespace spla::cuda
{

inline constexpr int piece_numbers = 8;

/// A pair of bfloat16 as two numbers.
inline __device__ float low_number(std::uint32_t pair)
{
    return __uint_as_float(pair << 16);
}
inline __device__ float high_number(std::uint32_t pair)
{
    return __uint_as_float(pair & 0xffff0000u);
}

/// The numbers of a piece, exactly.
template <class Element>
__device__ void unpack(uint4 const& piece, float (&x)[piece_numbers])
{
    std::uint32_t const words[4] = {piece.x, piece.y, piece.z, piece.w};
#pragma unroll
    for (int i = 0; i < 4; ++i)
        if constexpr (std::is_same_v<Element, bfloat16>)
        {
            x[2 * i] = low_number(words[i]);
            x[2 * i + 1] = high_number(words[i]);
        }
        else
            asm("{\n.reg .b16 low, high;\nmov.b32 {low, high}, %2;\ncvt.f32.f16 %0, low;\ncvt.f32.f16 %1, high;\n}\n"
                : "=f"(x[2 * i]), "=f"(x[2 * i + 1])
                : "r"(words[i]));
}

} // namespace spla::cuda
