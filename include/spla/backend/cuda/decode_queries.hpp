// SPDX-FileCopyrightText: The spla authors
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once
#include "decode_ring.hpp"

/// The queries of a decoded token's group, and their features, to shared memory as the lanes of a warp want them for
/// products: lane 4 g + t has row g's pieces of lane t of a quad. Where columns are shared, rows of features are 4
/// to 7.
namespace spla::cuda
{

template <class FeatureMap, int Width, int Columns>
struct decode_queries
{
    using features = quad_features<FeatureMap, Width>;
    using memory = decode_memory<features::halves, Width, Columns>;

    /// By four warps, a warp eight rows and a half of their features.
    __device__ static void load(decode_arguments const& a, decode_run const& run, typename memory::worker& to)
    {
        constexpr int tasks = memory::groups * features::halves;
        int const task = threadIdx.x % 128 / 32, lane = threadIdx.x % 32, t = lane % 4;
        static_assert(tasks <= 4);
        if (task >= tasks) return;
        int const group = task / features::halves, place = lane / 4;
        int const row = shares_columns<Columns> ? place % 4 : 8 * group + place;
        bool const there = row < a.shape.rows && run.part * a.shape.rows + row < a.shape.group;
        bfloat16 const* const from = run.query + row * a.query.stride[2];
        std::uint32_t x[features::words];
#pragma unroll
        for (int i = 0; i < features::pieces; ++i)
        {
            int const piece = features::piece_of(t, i);
            uint4 found{0, 0, 0, 0};
            if (there && piece * piece_numbers < a.shape.width) found = reinterpret_cast<uint4 const*>(from)[piece];
            x[4 * i] = found.x, x[4 * i + 1] = found.y, x[4 * i + 2] = found.z, x[4 * i + 3] = found.w;
        }
        bool const second = task % features::halves == 1;
        bool const upper = shares_columns<Columns> && place >= 4;
        if (!second) store(x, !upper, to.query[group]);
        if (!a.shape.residual) return;
        std::uint32_t made[features::words];
        if constexpr (is_softmax<FeatureMap>)
        {
            features::template make_softmax<true>(x, features::template edges<true>(x, a.shape.width), second,
                                                  a.shape.width, made);
        }
        else
        {
            if (second)
                features::template make<features::halves - 1, true>(x, a.shape.width, made);
            else
                features::template make<0, true>(x, a.shape.width, made);
        }
        store(made, there && (upper || !shares_columns<Columns>),
              to.features[second ? features::halves - 1 : 0][group]);
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
