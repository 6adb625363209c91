// SPDX-FileCopyrightText: The spla authors
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once
#include "../../view_concepts.hpp"
#include "matrix_product.hpp"

/// Accumulators of a warp to memory: a thread has columns 8 j + t % 4 * 2 and the next of two rows, i = 0 and 1 (see
/// matrix_product.hpp). All of a warp call these; `mine`: this row is stored.
namespace spla::cuda
{

/// A sum over the four threads of a row.
inline __device__ float quad_sum(float x)
{
    x += __shfl_xor_sync(0xffffffffu, x, 1);
    return x + __shfl_xor_sync(0xffffffffu, x, 2);
}

/// Number by number, in either type of an output; two by two where they are wide and lie so.
template <class Element, int N>
__device__ void store_numbers(detail::output_row<Element> const& to, float const (&sums)[N], int i, float scale,
                              int width, bool mine)
{
    int const column = threadIdx.x % 4 * 2;
    if (to.wide && reinterpret_cast<std::uintptr_t>(to.data) % 8 == 0 && width % 2 == 0)
    {
#pragma unroll
        for (int j = 0; j < N / 4; ++j)
            if (mine && 8 * j + column < width)
                *reinterpret_cast<float2*>(static_cast<float*>(to.data) + 8 * j + column) =
                    float2{sums[4 * j + 2 * i] * scale, sums[4 * j + 2 * i + 1] * scale};
        return;
    }
#pragma unroll
    for (int j = 0; j < N / 4; ++j)
#pragma unroll
        for (int e = 0; e < 2; ++e)
            if (mine && 8 * j + column + e < width) to.set(8 * j + column + e, sums[4 * j + 2 * i + e] * scale);
}

/// 16 bytes a thread, of elements: the four threads of a row exchange what they have of four pieces.
template <class Element, int N>
__device__ void store_pieces(detail::output_row<Element> const& to, float const (&sums)[N], int i, float scale,
                             int width, bool mine)
{
    int const lane = threadIdx.x % 4;
#pragma unroll
    for (int j = 0; j < N / 4; j += 4)
    {
        std::uint32_t w[4];
#pragma unroll
        for (int k = 0; k < 4; ++k)
            w[k] = pack<Element>(sums[4 * (j + k) + 2 * i] * scale, sums[4 * (j + k) + 2 * i + 1] * scale);
#pragma unroll
        for (int far = 1; far < 4; far *= 2)
#pragma unroll
            for (int k = 0; k < 4; ++k)
            {
                if (k & far) continue;
                bool const upper = lane & far;
                std::uint32_t const other = __shfl_xor_sync(0xffffffffu, upper ? w[k] : w[k + far], far);
                w[k] = upper ? other : w[k];
                w[k + far] = upper ? w[k + far] : other;
            }
        int const piece = j + lane;
        if (mine && piece * 8 < width)
            *reinterpret_cast<uint4*>(static_cast<Element*>(to.data) + piece * 8) = uint4{w[0], w[1], w[2], w[3]};
    }
}

} // namespace spla::cuda
