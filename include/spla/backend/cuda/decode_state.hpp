// SPDX-FileCopyrightText: The spla authors
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once
#include "decode_features.hpp"
#include "decode_product.hpp"
#include "decode_sums.hpp"

/// A run's share of R = phi(q) S for a group's queries (spec section 4): rows of the state, which is fp32, as two bf16,
/// in the same sums as what is subtracted from it.
namespace spla::cuda
{

/// So many rows from the first on, 16 at a time; each warp has a quarter of the columns.
template <class FeatureMap, int Width, class Memory, class Sums>
__device__ void add_state(decode_arguments const& a, float const* state, int first_row, int rows, Memory const& m,
                          Sums& sums)
{
    using features = quad_features<FeatureMap, Width>;
    static_assert(decode_warps == 4);
    constexpr int tiles = Width / 64; // of 16 columns, every fourth
    int const lane = threadIdx.x % 32, t = lane % 4, warp = threadIdx.x / 32;
    for (int first = 0; first < rows; first += state_chunk)
    {
        // A lane has rows t, 4 + t, 8 + t, 12 + t; those that are not there count as zero.
        float x[tiles][2][4];
        std::uint32_t query[4];
#pragma unroll
        for (int j = 0; j < 4; ++j)
        {
            int const row = first + 4 * j + t;
            bool const there = row < rows;
            float const* const from = state + (first_row + row) * a.state.leading;
#pragma unroll
            for (int i = 0; i < tiles; ++i)
#pragma unroll
                for (int e = 0; e < 2; ++e)
                {
                    int const column = 64 * i + 16 * warp + lane / 4 + 8 * e;
                    x[i][e][j] = there && column < a.shape.value_dim ? from[column] : 0.0f;
                }
            int const feature = first_row + row, half = feature >= a.shape.width ? 1 : 0;
            int const d = feature - half * a.shape.width, piece = d / piece_numbers;
            auto const* const row_of_query = reinterpret_cast<std::uint16_t const*>(
                &m.features[features::halves == 2 ? half : 0][features::number_of(piece)]
                           [lane / 4 * 4 + features::lane_of(piece)]);
            query[j] = there ? row_of_query[d % piece_numbers] : 0;
        }
        std::uint32_t const columns[2] = {query[0] | query[1] << 16, query[2] | query[3] << 16};
#pragma unroll
        for (int i = 0; i < tiles; ++i)
        {
            std::uint32_t whole[4], rest[4];
#pragma unroll
            for (int n = 0; n < 4; ++n)
            {
                float const low = x[i][n % 2][n / 2 * 2], high = x[i][n % 2][n / 2 * 2 + 1];
                whole[n] = pack<bfloat16>(low, high);
                rest[n] = pack<bfloat16>(low - low_number(whole[n]), high - high_number(whole[n]));
            }
            // Registers are not indexed by a warp's number.
#pragma unroll
            for (int w = 0; w < decode_warps; ++w)
                if (warp == w)
                {
                    add_warp_product<bfloat16>(sums.sum[Sums::residual][4 * i + w], whole, columns);
                    add_warp_product<bfloat16>(sums.sum[Sums::residual][4 * i + w], rest, columns);
                }
        }
    }
}

} // namespace spla::cuda
