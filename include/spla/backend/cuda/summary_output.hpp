// SPDX-FileCopyrightText: The spla authors
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once
#include "../../algorithm/block_summary.hpp"
#include "row_pieces.hpp"

/// A summary's vectors to memory, spread over the lanes that have them.
namespace spla::cuda
{

/// Stores 8 numbers of a vector, whose other numbers the other lanes of `lanes` (`Lanes` neighbours) store: what
/// summary_tensor::store() makes of the whole, bit for bit.
template <int Lanes>
__device__ void store_piece(detail::summary_tensor const& to, std::int64_t number, int piece,
                            float const (&x)[piece_numbers], std::uint32_t lanes)
{
    bool const here = piece * piece_numbers < to.head_dim;
    std::int64_t const first = number * to.head_dim + piece * piece_numbers;
    if (to.storage == summary_storage::fp32)
    {
        float4* const at = reinterpret_cast<float4*>(static_cast<float*>(to.values) + first);
        if (here) at[0] = float4{x[0], x[1], x[2], x[3]}, at[1] = float4{x[4], x[5], x[6], x[7]};
    }
    else if (to.storage == summary_storage::bf16)
    {
        auto const two = [&](int i) { return bfloat16(x[i]).bits | std::uint32_t{bfloat16(x[i + 1]).bits} << 16; };
        uint4* const at = reinterpret_cast<uint4*>(static_cast<bfloat16*>(to.values) + first);
        if (here) *at = uint4{two(0), two(2), two(4), two(6)};
    }
    else
    {
        auto const larger = [](float a, float b) { return b > a || !(b == b) ? b : a; }; // NaN stays
        float largest = 0.0f;
#pragma unroll
        for (int i = 0; i < piece_numbers; ++i) largest = larger(largest, fabsf(x[i]));
#pragma unroll
        for (int far = 1; far < Lanes; far *= 2) largest = larger(largest, __shfl_xor_sync(lanes, largest, far));
        float const scale = largest / 127.0f;
        if (piece == 0) to.scales[number] = scale;
        std::uint32_t word[2] = {0, 0};
#pragma unroll
        for (int i = 0; i < piece_numbers; ++i)
        {
            float const q = scale > 0.0f ? x[i] / scale : 0.0f;
            float const inside = q > 127.0f ? 127.0f : (q > -127.0f ? q : (q == q ? -127.0f : 0.0f));
            auto const byte = static_cast<std::uint8_t>(static_cast<std::int8_t>(detail::round_to_even(inside)));
            word[i / 4] |= std::uint32_t{byte} << i % 4 * 8;
        }
        if (here) *reinterpret_cast<uint2*>(static_cast<std::int8_t*>(to.values) + first) = uint2{word[0], word[1]};
    }
}

} // namespace spla::cuda
