// SPDX-FileCopyrightText: The spla authors
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once
#include "residual_shape.hpp"
#include "row_output.hpp"

/// Finished rows of the residual branch to memory, alone and with the exact branch's (spec section 5).
namespace spla::cuda
{

/// Which rows of a tile a thread has: two, i = 0 and 1. Their tokens are found once.
class row_place
{
public:
    __device__ row_place(exact_shape const& shape, int warpgroup) : shape_(shape)
    {
        row_ = warpgroup * 64 + threadIdx.x % 128 / 32 * 16 + threadIdx.x % 32 / 4;
#pragma unroll
        for (int i = 0; i < 2; ++i) token_[i] = (row_ + 8 * i) / shape_.group;
    }
    /// Of the call?
    __device__ bool is_in(tile_place const& t, int i) const
    {
        int const position = t.first + token_[i];
        return position >= t.begin && position < t.end && token_[i] < shape_.tokens;
    }
    __device__ int query(tile_place const& t, int i) const
    {
        return t.first + token_[i] - t.first_position;
    }
    __device__ int head(tile_place const& t, int i) const
    {
        return t.head * shape_.group + row_ + 8 * i - token_[i] * shape_.group;
    }
    /// Is the row's token in such a set?
    __device__ bool has(std::uint32_t const (&tokens)[4], int i) const
    {
        return tokens[token_[i] / 32] >> token_[i] % 32 & 1;
    }

private:
    exact_shape const& shape_;
    int row_, token_[2];
};

/// phi(q) times the sum of phi(k) over what the residual sums, for this thread's two rows.
template <bool Normalised>
class row_denominator
{
public:
    __device__ void clear() {}
    __device__ void add(int, float) {}
    __device__ float factor(int) const { return 1.0f; }
};
template <>
class row_denominator<true>
{
public:
    __device__ void clear() { sum_[0] = sum_[1] = magnitude_[0] = magnitude_[1] = 0.0f; }
    __device__ void add(int i, float x)
    {
        sum_[i] += x;
        magnitude_[i] += fabsf(x);
    }
    /// What the row is multiplied by. All of a warp call it.
    __device__ float factor(int i) const
    {
        return portable::residual_factor(true, quad_sum(sum_[i]), quad_sum(magnitude_[i]));
    }

private:
    float sum_[2], magnitude_[2]; ///< of this thread's numbers
};

/// Pair j of what another kernel made of this thread's row i; zeros behind its width, and where the row is nobody's.
struct finished_row
{
    float const* data;
    int width;

    __device__ finished_row(detail::tensor<float const> const& rows, exact_shape const& shape, tile_place const& t,
                            row_place const& place, int i, bool mine)
        : data(mine ? rows.row(t.sequence, place.query(t, i), place.head(t, i)) + threadIdx.x % 4 * 2 : nullptr),
          width(shape.value_dim)
    {
    }
    __device__ float2 operator[](int j) const
    {
        return data && 8 * j < width ? *reinterpret_cast<float2 const*>(data + 8 * j) : float2{0.0f, 0.0f};
    }
};

/// Row i of this thread: the residual in its accumulators becomes the output, with the exact branch's row.
template <int N>
__device__ void combine_row(residual_arguments const& a, tile_place const& t, row_place const& place, int i, bool mine,
                            float (&sums)[N])
{
    int const width = a.shape.tiles.value_dim, column = threadIdx.x % 4 * 2;
    int const head = mine ? place.head(t, i) : 0;
    finished_row const row(a.exact, a.shape.tiles, t, place, i, mine);
    float exact[N / 2], exact_squares = 0.0f, squares = 0.0f;
#pragma unroll
    for (int j = 0; j < N / 4; ++j)
    {
        float2 const pair = row[j];
        exact[2 * j] = pair.x, exact[2 * j + 1] = pair.y;
    }
#pragma unroll
    for (int j = 0; j < N / 4; ++j) // columns that are not there are zeros in both
#pragma unroll
        for (int e = 0; e < 2; ++e)
        {
            float const r = sums[4 * j + 2 * i + e];
            squares += r * r;
            exact_squares += exact[2 * j + e] * exact[2 * j + e];
        }
    float const scale = a.out.rule.inverse_rms_of(quad_sum(squares), width);
    float const exact_scale = a.out.rule.inverse_rms_of(quad_sum(exact_squares), width);
    auto const weights_of = [&](detail::weight_tensor<float> const& w) {
        return w.data ? w.data + head * w.stride + column : nullptr;
    };
    float const* const weights = weights_of(a.out.rule.residual_weight);
    float const* const exact_weights = weights_of(a.out.rule.sparse_weight);
#pragma unroll
    for (int j = 0; j < N / 4; ++j)
#pragma unroll
        for (int e = 0; e < 2; ++e)
        {
            bool const there = 8 * j < width;
            float& r = sums[4 * j + 2 * i + e];
            r = (exact_weights && there ? exact_weights[8 * j + e] : 1.0f) * (exact[2 * j + e] * exact_scale) +
                (weights && there ? weights[8 * j + e] : 1.0f) * (r * scale);
        }
}

/// All rows of a warp. idle: this thread's row i has no residual.
template <int N, bool Normalised>
__device__ void store_residual(residual_arguments const& a, row_place const& place, tile_place const& t,
                               bool const (&idle)[2], float (&sums)[N], row_denominator<Normalised> const& denominator)
{
    bool const mine[2] = {place.is_in(t, 0), place.is_in(t, 1)};
#pragma unroll
    for (int i = 0; i < 2; ++i)
    {
        float const factor = denominator.factor(i);
#pragma unroll
        for (int j = 0; j < N / 4; ++j)
#pragma unroll
            for (int e = 0; e < 2; ++e)
            {
                float& r = sums[4 * j + 2 * i + e];
                r = idle[i] ? 0.0f : r * factor; // zero by construction, not by rounding
            }
    }
#pragma unroll 1
    for (int what = 0; what < 3; ++what) // one copy of the code
    {
        // Each is made of the accumulators in place, the residual first. Without an output of both, the exact branch's
        // kernel has stored its rows itself.
        detail::output_tensor<bfloat16> const& out =
            what == 0 ? a.out.residual : (what == 1 ? a.out.output : a.out.sparse);
        if (!out || (what == 2 && !a.out.output)) continue;
#pragma unroll
        for (int i = 0; i < 2; ++i)
        {
            if (what == 1) combine_row(a, t, place, i, mine[i], sums);
            if (what == 2)
            {
                finished_row const row(a.exact, a.shape.tiles, t, place, i, mine[i]);
#pragma unroll
                for (int j = 0; j < N / 4; ++j) sums[4 * j + 2 * i] = row[j].x, sums[4 * j + 2 * i + 1] = row[j].y;
            }
            detail::output_row<bfloat16> to{nullptr, out.wide};
            if (mine[i]) to = out.row(t.sequence, place.query(t, i), place.head(t, i));
            if (out.wide)
                store_numbers(to, sums, i, 1.0f, a.shape.tiles.value_dim, mine[i]);
            else
                store_pieces(to, sums, i, 1.0f, a.shape.tiles.value_dim, mine[i]);
        }
    }
}

} // namespace spla::cuda
