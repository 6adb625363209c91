// SPDX-FileCopyrightText: The spla authors
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once
#include "decode_sums.hpp"

/// A run's share of R = phi(q) S for a group's queries (spec section 4): rows of the state, which is fp32, as two bf16,
/// in the same sums as what is subtracted from it.
namespace spla::cuda
{

/// Rows of the state at a place, 16 at a time; each warp has a quarter of the columns.
template <class FeatureMap, int Width, int Columns, class Sums>
__device__ void add_state(decode_shape const& shape, decode_note const& note,
                          ring_reader<decode_memory<feature_halves<FeatureMap>, Width, Columns>>& ring, Sums& sums)
{
    using features = quad_features<FeatureMap, Width>;
    constexpr int groups = Sums::groups;
    int const lane = threadIdx.x % 32, t = lane % 4;
    auto const& rows = ring.place().state;
    for (int first = 0; first < note.numbers; first += state_chunk)
    {
        // A lane has rows t, 4 + t, 8 + t, 12 + t; those that are not there count as zero.
        std::uint32_t query[groups][2];
        bool there[4];
#pragma unroll
        for (int j = 0; j < 4; ++j) there[j] = first + 4 * j + t < note.numbers;
#pragma unroll
        for (int r = 0; r < groups; ++r)
        {
            std::uint32_t x[4];
#pragma unroll
            for (int j = 0; j < 4; ++j)
            {
                int const feature = note.first + first + 4 * j + t, half = feature >= shape.width ? 1 : 0;
                int const d = feature - half * shape.width, piece = d / piece_numbers;
                auto const* const from = reinterpret_cast<std::uint16_t const*>(
                    &ring.own().features[features::halves == 2 ? half : 0][r][features::number_of(piece)]
                                        [lane / 4 * 4 + features::lane_of(piece)]);
                x[j] = there[j] ? from[d % piece_numbers] : 0;
            }
            query[r][0] = x[0] | x[1] << 16, query[r][1] = x[2] | x[3] << 16;
        }
#pragma unroll
        for (int m = 0; m < Width / 16; ++m)
        {
            if (threadIdx.x / 32 % 4 != m % 4) continue;
            std::uint32_t whole[4], rest[4];
#pragma unroll
            for (int i = 0; i < 4; ++i)
            {
                int const j = i / 2 * 2, column = 16 * m + lane / 4 + i % 2 * 8;
                float const low = there[j] ? rows[first + 4 * j + t][column] : 0.0f;
                float const high = there[j + 1] ? rows[first + 4 * j + 4 + t][column] : 0.0f;
                whole[i] = pack<bfloat16>(low, high);
                rest[i] = pack<bfloat16>(low - low_number(whole[i]), high - high_number(whole[i]));
            }
#pragma unroll
            for (int r = 0; r < groups; ++r)
            {
                add_warp_product<bfloat16>(sums.sum[Sums::residual + r][m], whole, query[r]);
                add_warp_product<bfloat16>(sums.sum[Sums::residual + r][m], rest, query[r]);
            }
        }
    }
}

} // namespace spla::cuda
