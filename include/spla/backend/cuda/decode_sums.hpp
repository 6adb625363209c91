// SPDX-FileCopyrightText: The spla authors
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once
#include "decode_product.hpp"
#include "decode_shape.hpp"

/// What a warp sums over a run: values by weights of the exact branch, and by products of the residual, each from its
/// own keys; and how a block's warps become a run's unmerged rows.
namespace spla::cuda
{

/// Over a warp's 16 keys, of columns that lane / 4 and what lies 4, 8 and 16 lanes on have in common.
template <class Combine>
__device__ float over_keys(float x, Combine combine)
{
#pragma unroll
    for (int far = 4; far < 32; far *= 2) x = combine(x, __shfl_xor_sync(0xffffffffu, x, far));
    return x;
}

/// Heads are the columns: a lane has heads lane % 4 * 2 and the next (where columns are shared, the upper two lanes of
/// four have the residual's), and of values columns 16 m + lane / 4 (d[0], d[1]) and 8 more (d[2], d[3]).
template <class Memory, int Width, int Columns>
struct decode_sums
{
    static constexpr bool shares = shares_columns<Columns>;
    static constexpr int steps = Width / 16, tiles = shares ? 1 : 2, residual = tiles - 1;
    static constexpr float infinity = __builtin_huge_valf();

    float sum[tiles][steps][4];   ///< of the exact branch, then of the other
    float largest[2], weights[2]; ///< logit; sum of weights over this lane's keys

    /// Has this lane columns of the exact branch?
    __device__ static bool is_exact() { return !shares || threadIdx.x % 4 < 2; }

    __device__ void clear()
    {
        largest[0] = largest[1] = -infinity, weights[0] = weights[1] = 0.0f;
#pragma unroll
        for (int r = 0; r < tiles; ++r)
#pragma unroll
            for (int m = 0; m < steps; ++m)
#pragma unroll
                for (int i = 0; i < 4; ++i) sum[r][m][i] = 0.0f;
    }

    /// Logits of 16 keys become weights exp2(scale (x - largest)), the largest of each head so far in this warp, whose
    /// weight is exactly 1; what is summed shrinks with it.
    __device__ void weigh(float (&x)[4], float scale)
    {
        float now[2];
        bool grows = false;
#pragma unroll
        for (int e = 0; e < 2; ++e)
        {
            now[e] = over_keys(fmaxf(x[e], x[e + 2]), [](float a, float b) { return fmaxf(a, b); });
            grows = grows || (is_exact() && now[e] > largest[e]);
        }
        if (__any_sync(0xffffffffu, grows)) grow(now, scale);
#pragma unroll
        for (int e = 0; e < 2; ++e)
        {
            float const offset = largest[e] == -infinity ? 0.0f : largest[e] * scale;
            x[e] = exp2_fast(x[e] * scale - offset), x[e + 2] = exp2_fast(x[e + 2] * scale - offset);
            weights[e] += x[e] + x[e + 2];
        }
    }

    /// All that the block's warps have summed, to the run's rows in memory, by way of each warp's last place, m.last;
    /// own is this warp's. has_residual: this warp has something of it; where none has it is zero, whatever values were
    /// met with weight zero. When it returns, all have read all places.
    __device__ void store(decode_arguments const& a, Memory& m, unmerged_run const& to, bool has_residual,
                          typename Memory::slice& own)
    {
        int const warp = threadIdx.x / 32, lane = threadIdx.x % 32;
        int const rows = a.shape.rows, width = a.shape.value_dim;
#pragma unroll
        for (int e = 0; e < 2; ++e)
        {
            float const all = over_keys(weights[e], [](float a, float b) { return a + b; });
            int const head = 2 * lane + e;
            if (lane < 4 && is_exact()) m.largest[warp][head] = largest[e], m.weights[warp][head] = all;
        }
        if (lane == 0) m.residual[warp] = has_residual;
        __syncwarp(); // all have read what is written over
#pragma unroll
        for (int r = 0; r < tiles; ++r)
#pragma unroll
            for (int i = 0; i < 4; ++i)
            {
                int const column = lane % 4 * 2 + i % 2;
#pragma unroll
                for (int s = 0; s < steps; ++s)
                    own.sums[8 * r + column][place_of(column, 16 * s + lane / 4 + i / 2 * 8)] = sum[r][s][i];
            }
        fence_shared_writes(); // the copy engine comes next
        __syncthreads();

        bool const subtracted = (m.residual[0] | m.residual[1] | m.residual[2] | m.residual[3]) != 0;
        // A head a warp, neighbouring numbers a lane.
        constexpr int numbers = Width / 32;
        struct alignas(sizeof(float) * numbers) lane_numbers
        {
            float x[numbers];
        };
        int const d = lane * numbers;
        auto const sums_of = [&](int w, int column) {
            return *reinterpret_cast<lane_numbers const*>(&m.last[w]->sums[column][place_of(column, d)]);
        };
        auto const keep = [&](lane_numbers const& row, float* at) {
            if (d < width) *reinterpret_cast<lane_numbers*>(at + d) = row;
        };
        for (int head = warp; head < rows; head += decode_warps)
        {
            // Warps that saw no key have zeros, and no largest.
            lane_numbers part[decode_warps], row{};
            float top = -infinity, all = 0.0f;
#pragma unroll
            for (int w = 0; w < decode_warps; ++w) top = fmaxf(top, m.largest[w][head]), part[w] = sums_of(w, head);
#pragma unroll
            for (int w = 0; w < decode_warps; ++w)
            {
                float const largest = m.largest[w][head];
                float const factor = largest == -infinity ? 0.0f : exp2_fast((largest - top) * a.shape.scale);
                all += m.weights[w][head] * factor;
#pragma unroll
                for (int i = 0; i < numbers; ++i) row.x[i] += part[w].x[i] * factor;
            }
            if (lane == 0) to.largest()[head] = top, to.sum()[head] = all;
            keep(row, to.exact() + head * width);
            if (!a.shape.residual) continue;
#pragma unroll
            for (int w = 0; w < decode_warps; ++w) part[w] = sums_of(w, head + (shares ? 4 : 8));
#pragma unroll
            for (int i = 0; i < numbers; ++i)
                row.x[i] = subtracted ? (part[0].x[i] + part[1].x[i]) + (part[2].x[i] + part[3].x[i]) : 0.0f;
            keep(row, to.residual(rows, width) + head * width);
        }
        __syncthreads();
    }

private:
    __device__ void grow(float const (&now)[2], float scale)
    {
#pragma unroll
        for (int e = 0; e < 2; ++e)
        {
            if (!(now[e] > largest[e]) || !is_exact()) continue;
            float const shrink = exp2_fast((largest[e] - now[e]) * scale); // 0 of what is zero
            largest[e] = now[e];
            weights[e] *= shrink;
#pragma unroll
            for (int m = 0; m < steps; ++m) sum[0][m][e] *= shrink, sum[0][m][e + 2] *= shrink;
        }
    }
    /// Of a row's numbers: lanes of a warp meet no bank twice.
    __device__ static int place_of(int column, int d)
    {
        return d ^ column / 2 % 4 * 8;
    }
};

} // namespace spla::cuda
