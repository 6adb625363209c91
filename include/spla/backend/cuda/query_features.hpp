// SPDX-FileCopyrightText: The spla authors
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once
#include "exact_shape.hpp"
#include "matrix_product.hpp"
#include "row_features.hpp"
#include "row_pieces.hpp"

/// phi of query rows (spec section 4), half by half, each half padded with zeros to Width.
namespace spla::cuda
{

/// Of a warpgroup's 64 rows, made where matrix units want it: in registers, as the first operand of products.
///
/// A row lies in the four threads of a quad: thread t has numbers 8 j + t % 4 * 2 and the next. Word 2 j + i of a half
/// is row i's pair.
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
            {
                operand[numbers + 2 * j + i] = row ? pack<bfloat16>(negated[2 * j], negated[2 * j + 1]) : 0;
            }
        }
    }
};

/// The same bits, made for shared memory with fewer registers: half by half, and two lanes have what a thread of a quad
/// has, pairs whose j has bit 2 clear and set. Lane t of a row's eight has columns 8 j + t / 2 * 2 and the next,
/// j = t % 2 * 4 + i % 4 + i / 4 * 8 for pair i.
template <class FeatureMap, int Width>
struct octet_features
{
    static constexpr int halves = feature_halves<FeatureMap>;
    static constexpr int pairs = Width / 16;
    using words = std::uint32_t[pairs];

    /// What memory has of a row; null: zeros. `width` is a multiple of 8.
    __device__ static void fetch(bfloat16 const* row, int width, words& fetched)
    {
        int const first = first_piece() * 8 + threadIdx.x % 8 / 2 * 2;
#pragma unroll
        for (int i = 0; i < pairs; ++i)
            fetched[i] = row && column(i) + first_piece() * 8 < width
                             ? *reinterpret_cast<std::uint32_t const*>(row + first + column(i))
                             : 0;
    }
    /// The same of a row that is there, Width wide: each lane's pairs lie at fixed distances from its first.
    __device__ static void fetch_full(bfloat16 const* row, words& fetched)
    {
        auto const* from = reinterpret_cast<std::uint32_t const*>(row + first_piece() * 8 + threadIdx.x % 8 / 2 * 2);
        asm("" : "+l"(from)); // else compilers make an address of each
#pragma unroll
        for (int i = 0; i < pairs; ++i) fetched[i] = __ldg(from + column(i) / 2);
    }
    /// What make_full() wants of a whole row, of both of its halves at once.
    static __device__ std::uint32_t edges(words const& fetched)
    {
        if constexpr (is_softmax<FeatureMap>)
            return row_edges<8>(fetched);
        else
            return 0;
    }
    __device__ static void unpack_pairs(words const& fetched, float (&x)[2 * pairs])
    {
#pragma unroll
        for (int i = 0; i < pairs; ++i) x[2 * i] = low_number(fetched[i]), x[2 * i + 1] = high_number(fetched[i]);
    }
    /// One half of the features of a row's numbers. All of a warp call it.
    template <int Half>
    __device__ static void make(float (&x)[2 * pairs], int width)
    {
        half_features<FeatureMap>::template apply<Half, 8>(x, valid(width));
    }
    /// The same bits of a row that is Width wide, faster.
    template <int Half>
    __device__ static void make_full(float (&x)[2 * pairs], std::uint32_t edges)
    {
        if constexpr (is_softmax<FeatureMap>)
            softmax_about<8>(x, Half == 0 ? softmax_slope : -softmax_slope,
                             Half == 0 ? low_number(edges) : -high_number(edges), 2 * pairs);
        else
            half_features<FeatureMap>::template apply<Half, 8>(x, 2 * pairs);
    }
    /// Where a row of panels has this lane's first pair.
    static __device__ std::uint32_t place_in_row(int row)
    {
        return row * (panel_width * 2) + (first_piece() ^ row % 8) * 16 + threadIdx.x % 8 / 2 * 4;
    }
    /// Into panels of so many bytes, from this lane's first pair on.
    template <int PanelBytes>
    __device__ static void store(float const (&x)[2 * pairs], std::uint32_t first)
    {
#pragma unroll
        for (int i = 0; i < pairs; ++i)
            asm volatile("st.shared.b32 [%0], %1;" ::"r"((first ^ i % 4 * 16) + i / 4 * PanelBytes),
                         "r"(pack<bfloat16>(x[2 * i], x[2 * i + 1]))
                         : "memory");
    }

private:
    __device__ static int first_piece()
    {
        return threadIdx.x % 2 * 4;
    }
    __device__ static constexpr int column(int i)
    {
        return (i % 4 + i / 4 * 8) * 8;
    } ///< after the first
    /// Numbers of this lane that are the row's.
    __device__ static int valid(int width)
    {
        int const last = width % 64 / 8 - first_piece(); // pieces that begin a next 64 columns
        return width / 64 * 8 + 2 * (last < 0 ? 0 : last < 4 ? last : 4);
    }
};

} // namespace spla::cuda
