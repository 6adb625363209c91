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

    /// Logits of 16 keys become weights exp2(scale (x - largest)), the largest of each head so far in this warp; what
    /// is summed shrinks with it, seldom.
    __device__ void weigh(float (&x)[4], float scale)
    {
        float now[2];
        bool grows = false;
#pragma unroll
        for (int e = 0; e < 2; ++e)
        {
            now[e] = over_keys(fmaxf(x[e], x[e + 2]), [](float a, float b) { return fmaxf(a, b); });
            grows = grows || now[e] > largest[e];
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
    /// own is this warp's. branches: what this warp has of the run. When it returns, all have read all places.
    __device__ void store(decode_arguments const& a, Memory& m, unmerged_run const& to, int branches,
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
        if (lane == 0) m.branches[warp] = branches;
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

        int has = 0;
#pragma unroll
        for (int w = 0; w < decode_warps; ++w) has |= m.branches[w];
        if (threadIdx.x == 0) *to.branches() = has;
        int const d = static_cast<int>(threadIdx.x) % Width;
        float const* from[decode_warps];
#pragma unroll
        for (int w = 0; w < decode_warps; ++w) from[w] = m.last[w]->sums[0];
        constexpr int at_once = 32 * decode_warps / Width;
        if ((has & has_exact) != 0)
        {
#pragma unroll 2
            for (int head = static_cast<int>(threadIdx.x) / Width; head < rows; head += at_once)
            {
                // Warps that saw no key have nothing, and no largest.
                float top = -infinity, all = 0.0f, x = 0.0f;
#pragma unroll
                for (int w = 0; w < decode_warps; ++w) top = fmaxf(top, m.largest[w][head]);
#pragma unroll
                for (int w = 0; w < decode_warps; ++w)
                {
                    float const largest = m.largest[w][head];
                    float const factor = largest == -infinity ? 0.0f : exp2_fast((largest - top) * a.shape.scale);
                    all += m.weights[w][head] * factor;
                    x += from[w][head * Width + place_of(head, d)] * factor;
                }
                if (d == 0) to.largest()[head] = top, to.sum()[head] = all;
                if (d < width) to.exact()[head * width + d] = x;
            }
        }
        if ((has & has_residual) != 0 && d < width)
        {
#pragma unroll 2
            for (int head = static_cast<int>(threadIdx.x) / Width; head < rows; head += at_once)
            {
                int const at = (head + (shares ? 4 : 8)) * Width + place_of(shares ? head + 4 : head, d);
                to.residual(rows, width)[head * width + d] = (from[0][at] + from[1][at]) + (from[2][at] + from[3][at]);
            }
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
