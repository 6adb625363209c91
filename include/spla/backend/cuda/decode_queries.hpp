// SPDX-FileCopyrightText: The spla authors
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once
#include "decode_shape.hpp"

/// The queries of a decoded token's group, and their features, to shared memory as the lanes of a warp want them for
/// products: of queries, lane 4 g + t has row g's words t and 4 + t of each 16 numbers; of features, row g's pieces of
/// lane t of a quad. Where columns are shared, rows of features are 4 to 7.
namespace spla::cuda
{

template <class FeatureMap, int Width, int Columns>
struct decode_queries
{
    using features = quad_features<FeatureMap, Width>;
    using memory = decode_memory<features::halves, Width>;

    /// By the last two warps of the block, each with one half of the features.
    __device__ static void load(decode_arguments const& a, decode_item const& item, memory& to)
    {
        int const half = static_cast<int>(threadIdx.x) / 32 - (decode_warps - 2), lane = threadIdx.x % 32, t = lane % 4;
        if (half < 0 || half >= features::halves) return;
        int const place = lane / 4, row = shares_columns<Columns> ? place % 4 : place;
        int const first = item.part * a.shape.rows;
        bool const there = row < a.shape.rows && first + row < a.shape.group;
        bfloat16 const* const from =
            a.query.row(item.sequence, item.token, item.head * a.shape.group + first) + row * a.query.stride[2];
        std::uint32_t x[features::words];
#pragma unroll
        for (int i = 0; i < features::pieces; ++i)
        {
            int const piece = features::piece_of(t, i);
            uint4 found{0, 0, 0, 0};
            if (there && piece * piece_numbers < a.shape.width) found = reinterpret_cast<uint4 const*>(from)[piece];
            x[4 * i] = found.x, x[4 * i + 1] = found.y, x[4 * i + 2] = found.z, x[4 * i + 3] = found.w;
        }
        bool const second = half == 1, upper = shares_columns<Columns> && place >= 4;
        if (!second)
        {
            auto const* const pairs = reinterpret_cast<std::uint32_t const*>(from);
#pragma unroll
            for (int i = 0; i < memory::steps; ++i)
            {
                auto const pair = [&](int word) {
                    int const at = 16 * i + t + word;
                    return there && !upper && 2 * at < a.shape.width ? pairs[at] : 0;
                };
                to.query[i][lane] = {pair(0), pair(4), pair(8), pair(12)};
            }
        }
        if (!a.shape.residual) return;
        std::uint32_t made[features::words];
        features::template make_half<true>(x, second, a.shape.width, made);
        store(made, there && (upper || !shares_columns<Columns>), to.features[half]);
    }

private:
    __device__ static void store(std::uint32_t const (&x)[features::words], bool there,
                                 uint4 (&to)[features::pieces][32])
    {
#pragma unroll
        for (int i = 0; i < features::pieces; ++i)
            to[i][threadIdx.x % 32] =
                there ? uint4{x[4 * i], x[4 * i + 1], x[4 * i + 2], x[4 * i + 3]} : uint4{0, 0, 0, 0};
    }
};

} // namespace spla::cuda
