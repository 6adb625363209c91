// SPDX-FileCopyrightText: The spla authors
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once
#include "decode_product.hpp"
#include "decode_ring.hpp"

/// What a warp sums over a run: values by weights of the exact branch, and by products of the residual, each from its
/// own keys; and how the four warps of a quad become a run's unmerged rows.
namespace spla::cuda
{

/// Heads are the columns: of group r, a lane has heads 8 r + lane % 4 * 2 and the next (where columns are shared, the
/// upper two lanes of four have the residual's), and of values columns 16 m + lane / 4 (d[0], d[1]) and 8 more (d[2],
/// d[3]).
template <class Memory, int Width, int Columns>
struct decode_sums
{
    static constexpr bool shares = shares_columns<Columns>;
    static constexpr int groups = Memory::groups, steps = Width / 16;
    static constexpr int tiles = shares ? groups : 2 * groups, residual = shares ? 0 : groups;
    static constexpr float infinity = __builtin_huge_valf();

    float sum[tiles][steps][4]; ///< groups of the exact branch, then, from `residual` on, of the other
    float largest[groups][2], weights[groups][2]; ///< logit; sum of weights over this lane's keys
    bool attends, subtracts;                      ///< some block was visited; there is something of the residual

    /// Has this lane columns of the exact branch?
    __device__ static bool is_exact() { return !shares || threadIdx.x % 4 < 2; }

    __device__ void clear()
    {
#pragma unroll
        for (int r = 0; r < groups; ++r)
            largest[r][0] = largest[r][1] = -infinity, weights[r][0] = weights[r][1] = 0.0f;
#pragma unroll
        for (int r = 0; r < tiles; ++r)
#pragma unroll
            for (int m = 0; m < steps; ++m)
#pragma unroll
                for (int i = 0; i < 4; ++i) sum[r][m][i] = 0.0f;
        attends = subtracts = false;
    }

    /// Logits of 16 keys become weights exp2(scale (x - largest)), the largest of each head so far in this warp; what
    /// is summed shrinks with it, seldom.
    __device__ void weigh(float (&x)[groups][4], float scale)
    {
        float now[groups][2];
        bool grows = false;
#pragma unroll
        for (int r = 0; r < groups; ++r)
#pragma unroll
            for (int e = 0; e < 2; ++e)
            {
                now[r][e] = fmaxf(x[r][e], x[r][e + 2]);
#pragma unroll
                for (int far = 4; far < 32; far *= 2)
                    now[r][e] = fmaxf(now[r][e], __shfl_xor_sync(0xffffffffu, now[r][e], far));
                grows = grows || now[r][e] > largest[r][e];
            }
        if (__any_sync(0xffffffffu, grows)) grow(now, scale);
#pragma unroll
        for (int r = 0; r < groups; ++r)
#pragma unroll
            for (int e = 0; e < 2; ++e)
            {
                float const offset = largest[r][e] == -infinity ? 0.0f : largest[r][e] * scale;
                x[r][e] = exp2_fast(x[r][e] * scale - offset), x[r][e + 2] = exp2_fast(x[r][e + 2] * scale - offset);
                weights[r][e] += x[r][e] + x[r][e + 2];
            }
    }

    /// All that the four warps have summed, to the run's rows in memory, by way of the run's last place, which all of
    /// them have read when they meet.
    __device__ void store(decode_arguments const& a, unmerged_run<Columns> const& to, ring_reader<Memory>& ring)
    {
        int const warp = threadIdx.x % 128 / 32, lane = threadIdx.x % 32;
        int const rows = a.shape.rows, width = a.shape.value_dim;
        auto &tops = ring.largest(), &totals = ring.weights();
#pragma unroll
        for (int r = 0; r < groups; ++r)
#pragma unroll
            for (int e = 0; e < 2; ++e)
            {
#pragma unroll
                for (int far = 4; far < 32; far *= 2) weights[r][e] += __shfl_xor_sync(0xffffffffu, weights[r][e], far);
                int const head = 8 * r + 2 * lane + e;
                if (lane < 4 && is_exact()) tops[warp][head] = largest[r][e], totals[warp][head] = weights[r][e];
            }
        ring.meet();
        // Warps that saw no key have nothing, and no largest.
        auto const top_of = [&](int head) {
            return fmaxf(fmaxf(tops[0][head], tops[1][head]), fmaxf(tops[2][head], tops[3][head]));
        };
        auto const factor_of = [&](float largest, float top) {
            return largest == -infinity ? 0.0f : exp2_fast((largest - top) * a.shape.scale);
        };
        if (int const head = threadIdx.x % 128; head < Columns)
        {
            float const top = top_of(head);
            float all = 0.0f;
#pragma unroll
            for (int w = 0; w < 4; ++w) all += totals[w][head] * factor_of(tops[w][head], top);
            to.largest()[head] = top, to.sum()[head] = all;
            if (head == 0) *to.branches() = (attends ? has_exact : 0) | (subtracts ? has_residual : 0);
        }
#pragma unroll
        for (int r = 0; r < groups; ++r)
#pragma unroll
            for (int e = 0; e < 2; ++e)
            {
                if (!is_exact()) continue;
                float const factor = factor_of(largest[r][e], top_of(8 * r + lane % 4 * 2 + e));
#pragma unroll
                for (int m = 0; m < steps; ++m) sum[r][m][e] *= factor, sum[r][m][e + 2] *= factor;
            }
        float* const between = ring.place().sums;
        float *const exact = to.exact(), *const other = to.residual(rows, width);
        if constexpr (shares)
        {
            add_warps<0>(between, ring, width, [&](int column) {
                int const row = column % 4;
                bool const is = row < rows && (column < 4 ? attends : subtracts);
                return is ? (column < 4 ? exact : other) + row * width : nullptr;
            });
        }
        else
        {
            if (attends)
                add_warps<0>(between, ring, width, [&](int row) { return row < rows ? exact + row * width : nullptr; });
            if (!subtracts) return;
            constexpr int numbers = 4 * 8 * groups * Width;
            constexpr bool both_fit = 2 * numbers * 4 <= sizeof(ring.place());
            if constexpr (!both_fit)
            {
                ring.meet();
            }
            add_warps<residual>(between + (both_fit ? numbers : 0), ring, width,
                                [&](int row) { return row < rows ? other + row * width : nullptr; });
        }
    }

private:
    __device__ void grow(float const (&now)[groups][2], float scale)
    {
#pragma unroll
        for (int r = 0; r < groups; ++r)
#pragma unroll
            for (int e = 0; e < 2; ++e)
            {
                if (!(now[r][e] > largest[r][e]) || !is_exact()) continue;
                float const shrink = exp2_fast((largest[r][e] - now[r][e]) * scale); // 0 of what is zero
                largest[r][e] = now[r][e];
                weights[r][e] *= shrink;
#pragma unroll
                for (int m = 0; m < steps; ++m) sum[r][m][e] *= shrink, sum[r][m][e + 2] *= shrink;
            }
    }
    /// Columns of four warps, added in their order, to where to(column) says, or nowhere.
    template <int First, class To>
    __device__ void add_warps(float* between, ring_reader<Memory>& ring, int width, To const& to) const
    {
        constexpr int columns = 8 * groups;
        int const warp = threadIdx.x % 128 / 32, lane = threadIdx.x % 32;
#pragma unroll
        for (int r = 0; r < groups; ++r)
#pragma unroll
            for (int i = 0; i < 4; ++i)
            {
                int const column = 8 * r + lane % 4 * 2 + i % 2;
                float* const row = between + (warp * columns + column) * Width;
#pragma unroll
                for (int m = 0; m < steps; ++m)
                    row[place_of(column, 16 * m + lane / 4 + i / 2 * 8)] = sum[First + r][m][i];
            }
        ring.meet();
        int const d = threadIdx.x % Width;
        if (d >= width) return;
#pragma unroll 2
        for (int column = threadIdx.x % 128 / Width; column < columns; column += 128 / Width)
        {
            float const* const from = between + column * Width + place_of(column, d);
            constexpr int next = columns * Width;
            float const all = (from[0] + from[next]) + (from[2 * next] + from[3 * next]);
            if (float* const row = to(column)) row[d] = all;
        }
    }
    /// Of a row's numbers: lanes of a warp meet no bank twice.
    __device__ static int place_of(int head, int d)
    {
        return d ^ head / 2 % 4 * 8;
    }
};

} // namespace spla::cuda
