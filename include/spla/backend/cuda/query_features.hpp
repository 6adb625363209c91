// SPDX-FileCopyrightText: The spla authors
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once
#include "matrix_product.hpp"
#include "row_features.hpp"

/// phi of a warpgroup's 64 query rows (spec section 4), made where matrix units want it: in registers, as the first
/// operand of products.
///
/// A row lies in the four threads of a quad: thread t has numbers 8 j + t % 4 * 2 and the next. Features are counted
/// half by half, each padded with zeros to Width; word 2 j + i of a half is row i's pair.
namespace spla::cuda
{

/// A pair of bfloat16 as two numbers.
inline __device__ float low_number(std::uint32_t pair)
{
    return __uint_as_float(pair << 16);
}
inline __device__ float high_number(std::uint32_t pair)
{
    return __uint_as_float(pair & 0xffff0000u);
}

template <class FeatureMap, int Width>
struct query_features
{
    static constexpr int halves = feature_halves<FeatureMap>;
    static constexpr int numbers = Width / 4;      ///< of a row, in one thread
    static constexpr int words = halves * numbers; ///< of two rows

    /// Row i of this thread's two; null: zeros. `width` is a multiple of 8. All of a warp call it.
    __device__ static void load(bfloat16 const* row, int width, int i, std::uint32_t (&operand)[words])
    {
        float x[numbers], negated[numbers];
        int const column = threadIdx.x % 4 * 2;
#pragma unroll
        for (int j = 0; j < numbers / 2; ++j)
        {
            std::uint32_t const pair =
                row && 8 * j < width ? *reinterpret_cast<std::uint32_t const*>(row + 8 * j + column) : 0;
            x[2 * j] = low_number(pair), x[2 * j + 1] = high_number(pair);
        }
        map_features<FeatureMap>::template apply<4>(x, negated, width / 4);
#pragma unroll
        for (int j = 0; j < numbers / 2; ++j)
        {
            operand[2 * j + i] = row ? pack<bfloat16>(x[2 * j], x[2 * j + 1]) : 0;
            if constexpr (halves == 2)
                operand[numbers + 2 * j + i] = row ? pack<bfloat16>(negated[2 * j], negated[2 * j + 1]) : 0;
        }
    }
};

} // namespace spla::cuda
