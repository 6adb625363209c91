// SPDX-FileCopyrightText: The spla authors
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once
#include "matrix_product.hpp"
#include "row_features.hpp"
#include "row_pieces.hpp"

/// phi of a warpgroup's 64 query rows (spec section 4), made where matrix units want it: in registers, as the first
/// operand of products.
///
/// A row lies in the four threads of a quad: thread t has numbers 8 j + t % 4 * 2 and the next. Features are counted
/// half by half, each padded with zeros to Width; word 2 j + i of a half is row i's pair.
namespace spla::cuda
{

template <class FeatureMap, int Width>
struct query_features
{
    static constexpr int halves = feature_halves<FeatureMap>;
    static constexpr int numbers = Width / 4;      ///< of a row, in one thread
    static constexpr int words = halves * numbers; ///< of two rows

    static constexpr int pairs = numbers / 2; ///< of neighbouring numbers of a row, in one thread

    /// Row i of this thread's two; null: zeros. `width` is a multiple of 8. All of a warp call it.
    __device__ static void load(bfloat16 const* row, int width, int i, std::uint32_t (&operand)[words])
    {
        std::uint32_t fetched[pairs];
        fetch(row, width, fetched);
        make(row != nullptr, fetched, width, i, operand);
    }
    /// The same in two steps: what memory has of a row, and its features.
    __device__ static void fetch(bfloat16 const* row, int width, std::uint32_t (&fetched)[pairs])
    {
        int const column = threadIdx.x % 4 * 2;
#pragma unroll
        for (int j = 0; j < pairs; ++j)
            fetched[j] = row && 8 * j < width ? *reinterpret_cast<std::uint32_t const*>(row + 8 * j + column) : 0;
    }
    __device__ static void make(bool there, std::uint32_t const (&fetched)[pairs], int width, int i,
                                std::uint32_t (&operand)[words])
    {
        float x[numbers], negated[numbers];
#pragma unroll
        for (int j = 0; j < pairs; ++j) x[2 * j] = low_number(fetched[j]), x[2 * j + 1] = high_number(fetched[j]);
        map_features<FeatureMap>::template apply<4>(x, negated, width / 4);
#pragma unroll
        for (int j = 0; j < pairs; ++j)
        {
            operand[2 * j + i] = there ? pack<bfloat16>(x[2 * j], x[2 * j + 1]) : 0;
            if constexpr (halves == 2)
            {
                operand[numbers + 2 * j + i] = there ? pack<bfloat16>(negated[2 * j], negated[2 * j + 1]) : 0;
            }
        }
    }
};

} // namespace spla::cuda
