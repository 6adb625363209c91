// SPDX-FileCopyrightText: The spla authors
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once
#include "matrix_product.hpp"
#include "row_features.hpp"
#include "row_pieces.hpp"

/// phi of rows that lie in quads of lanes by whole pieces of 16 bytes (spec section 4). Which feature stands where
/// along a product does not matter to it, as long as both operands agree; so a lane takes neighbouring pieces as they
/// lie in memory, and sums them in the order of key_feature_kernel: the same bits.
namespace spla::cuda
{

/// Lane t of a quad has pieces pieces * t to pieces * (t + 1). Step k of a product has, in lane t, words 2 k and 2 k +
/// 1 of its row: numbers 4 k to 4 k + 3 of what the lane has.
template <class FeatureMap, int Width>
struct quad_features
{
    static constexpr int halves = feature_halves<FeatureMap>;
    static constexpr int pieces = Width / 32;              ///< of a lane
    static constexpr int numbers = pieces * piece_numbers; ///< of a lane
    static constexpr int words = numbers / 2;              ///< of a lane

    /// The i-th piece of lane t. The upper lanes of a wide row begin with the other two pieces, or they would meet the
    /// lower ones in the same banks of shared memory; a sum of pairs of pieces is the same either way.
    __device__ static int piece_of(int t, int i) { return pieces * t + (pieces == 4 ? i ^ t / 2 * 2 : i); }
    /// Of a piece: which lane of a quad has it, as which.
    __device__ static int lane_of(int piece) { return piece / pieces; }
    __device__ static int number_of(int piece)
    {
        return pieces == 4 ? piece % pieces ^ piece / (2 * pieces) * 2 : piece % pieces;
    }

    /// The largest of a row, and the largest of its negative, as a pair: of what a quad of lanes has of it.
    class edges_of_row
    {
    public:
        __device__ void add(std::uint32_t pair, bool there)
        {
            top_ = larger_pair(top_, there ? pair : lowest);
            bottom_ = smaller_pair(bottom_, there ? pair : lowest ^ signs);
        }
        /// All of a warp call it.
        __device__ std::uint32_t edges() const
        {
            std::uint32_t const bottom = bottom_ ^ signs;
            std::uint32_t both = larger_pair(__byte_perm(top_, bottom, 0x5410), __byte_perm(top_, bottom, 0x7632));
#pragma unroll
            for (int far = 1; far < 4; far *= 2) both = larger_pair(both, __shfl_xor_sync(0xffffffffu, both, far));
            return both;
        }

    private:
        std::uint32_t top_ = lowest, bottom_ = lowest ^ signs;
    };
    /// Of a row's pieces; Padded: what lies from `width` on is not of the row. All of a warp call it.
    template <bool Padded>
    static __device__ std::uint32_t edges(std::uint32_t const (&row)[words], int width)
    {
        edges_of_row made;
#pragma unroll
        for (int i = 0; i < words; ++i) made.add(row[i], !Padded || has(i / 4, width));
        return made.edges();
    }

    /// One half of a row's features, of a map that is a softmax: of its edges. All of a warp call it.
    template <bool Padded>
    __device__ static void make_softmax(std::uint32_t const (&row)[words], std::uint32_t edges, int half, int width,
                                        std::uint32_t (&made)[words])
    {
        float const edge = half == 0 ? low_number(edges) : -high_number(edges);
        float const slope = half == 0 ? softmax_slope : -softmax_slope;
        float y[numbers], sum[pieces];
#pragma unroll
        for (int i = 0; i < pieces; ++i)
        {
            // What is not of the row is as far from its edge as can be: its exponential is zero.
            float const from = !Padded || has(i, width) ? edge : slope * __builtin_huge_valf();
            sum[i] = 0.0f;
#pragma unroll
            for (int j = 0; j < piece_numbers; ++j)
            {
                std::uint32_t const pair = row[4 * i + j / 2];
                float const e = softmax_exponential(j % 2 == 0 ? low_number(pair) : high_number(pair), slope, from);
                y[i * piece_numbers + j] = e;
                sum[i] += e;
            }
        }
#pragma unroll
        for (int far = 1; far < pieces; far *= 2)
#pragma unroll
            for (int i = 0; i < pieces; i += 2 * far) sum[i] += sum[i + far];
        float const inverse = inverse_of(over_lanes<4>(sum[0], [](float a, float b) { return a + b; }));
#pragma unroll
        for (int i = 0; i < words; ++i) made[i] = pack<bfloat16>(y[2 * i] * inverse, y[2 * i + 1] * inverse);
    }

    /// The same of any map, whose edges are not known yet. All of a warp call it.
    template <bool Padded>
    __device__ static void make_half(std::uint32_t const (&row)[words], int half, int width,
                                     std::uint32_t (&made)[words])
    {
        if constexpr (is_softmax<FeatureMap>)
        {
            make_softmax<Padded>(row, edges<Padded>(row, width), half, width, made);
        }
        else
        {
            if (half == 1)
                make<halves - 1, Padded>(row, width, made);
            else
                make<0, Padded>(row, width, made);
        }
    }

    /// One half of any other map's.
    template <int Half, bool Padded>
    __device__ static void make(std::uint32_t const (&row)[words], int width, std::uint32_t (&made)[words])
    {
        float y[numbers];
#pragma unroll
        for (int i = 0; i < words; ++i) y[2 * i] = low_number(row[i]), y[2 * i + 1] = high_number(row[i]);
        half_features<FeatureMap>::template apply<Half, 4>(y, numbers);
#pragma unroll
        for (int i = 0; i < words; ++i)
            made[i] = !Padded || has(i / 4, width) ? pack<bfloat16>(y[2 * i], y[2 * i + 1]) : 0;
    }

private:
    static constexpr std::uint32_t lowest = 0xff80ff80, signs = 0x80008000;

    /// Is this lane's i-th piece of the row?
    __device__ static bool has(int i, int width)
    {
        return piece_of(threadIdx.x % 4, i) * piece_numbers < width;
    }
    static __device__ std::uint32_t larger_pair(std::uint32_t a, std::uint32_t b)
    {
        std::uint32_t r;
        asm("max.bf16x2 %0, %1, %2;" : "=r"(r) : "r"(a), "r"(b));
        return r;
    }
    static __device__ std::uint32_t smaller_pair(std::uint32_t a, std::uint32_t b)
    {
        std::uint32_t r;
        asm("min.bf16x2 %0, %1, %2;" : "=r"(r) : "r"(a), "r"(b));
        return r;
    }
};

} // namespace spla::cuda
