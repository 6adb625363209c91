// SPDX-FileCopyrightText: The spla authors
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once
#include "decode_selection_shape.hpp"

/// From panels that were scored to the masses of one list: normalised over its competing blocks, summed over the heads
/// of the group (spec section 2, steps 1 and 2). By the warps that select; every sum has one order, which depends on
/// the number of blocks alone.
namespace spla::cuda
{

class decode_masses
{
    static constexpr float infinity = __builtin_huge_valf();

public:
    __device__ decode_masses(decode_selection_arguments const& a, decode_selection_places const& m)
        : a_(a), s_(a.sizes), m_(m)
    {
    }

    /// Ranks of the masses of n blocks, larger masses having larger ranks, and how many have each first digit. row:
    /// number of the list's first in the first panel; rows: from panel to panel. Returns the sum of masses, where top_p
    /// wants it. Needs a barrier after it.
    __device__ double rank(int row, int rows, int n) const
    {
        for (int i = threadIdx.x; i < decode_selection_memory::bins; i += decode_selector_threads)
            m_.fixed.count[i] = 0;
        find_normalisers(row, rows, n);
        double total = 0;
#pragma unroll 1
        for (int first = threadIdx.x; 4 * first < n; first += at_once * decode_selector_threads)
        {
            float sum[at_once][4] = {};
            add_heads(row, rows, n, first, sum);
#pragma unroll
            for (int i = 0; i < at_once; ++i)
            {
                int const block = 4 * (first + i * decode_selector_threads);
#pragma unroll
                for (int e = 0; e < 4; ++e)
                {
                    if (block + e >= n) break;
                    float const x = sum[i][e];
                    std::uint32_t const rank = fabsf(x) < infinity ? __float_as_uint(x) + 1u : 0u;
                    m_.rank[block + e] = rank;
                    atomicAdd(&m_.fixed.count[rank >> first_shift], 1u);
                    if (s_.cuts && fabsf(x) < infinity) total += static_cast<double>(x);
                }
            }
        }
        return s_.cuts ? sum_threads(total) : 0.0;
    }

    static constexpr int first_shift = 20; ///< ranks have 31 bits, of which 2048 bins take the upper ones

private:
    static constexpr int at_once = 2; ///< four blocks of a thread, whose masses are on their way together

    /// Each head's largest reference and one over its sum. A warp has a head, or a part of its panels.
    __device__ void find_normalisers(int row, int rows, int n) const
    {
        int const lane = threadIdx.x % 32, warp = threadIdx.x / 32;
        int const panels = (n + decode_panel_blocks - 1) / decode_panel_blocks;
        int const parts = s_.group < decode_selectors ? decode_selectors / s_.group : 1;
#pragma unroll 1
        for (int h = warp / parts; h < s_.group; h += decode_selectors)
        {
            panel_sum all{-infinity, 0.0f};
#pragma unroll 1
            for (int first = warp % parts * 32 + lane; first < panels; first += 4 * 32 * parts)
            {
                panel_sum four[4];
#pragma unroll
                for (int i = 0; i < 4; ++i)
                {
                    int const p = first + 32 * parts * i;
                    four[i] = p < panels ? read(a_.sum + row + p * rows + h) : panel_sum{-infinity, 0.0f};
                }
                all = together(all, together(together(four[0], four[1]), together(four[2], four[3])));
            }
            float top = all.reference;
#pragma unroll
            for (int far = 1; far < 32; far *= 2) top = fmaxf(top, __shfl_xor_sync(0xffffffffu, top, far));
            float sum = all.sum > 0.0f ? all.sum * exp2_fast(all.reference - top) : 0.0f;
#pragma unroll
            for (int far = 1; far < 32; far *= 2) sum += __shfl_xor_sync(0xffffffffu, sum, far);
            all = {top, sum};
            if (lane == 0 && parts > 1) m_.fixed.part[warp] = all;
            if (lane == 0 && parts == 1) normalise(h, all);
        }
        if (parts > 1)
        {
            sync_threads(1, decode_selector_threads);
            int const h = threadIdx.x;
            if (h < s_.group)
            {
                panel_sum all = m_.fixed.part[h * parts];
#pragma unroll 1
                for (int i = 1; i < parts; ++i) all = together(all, m_.fixed.part[h * parts + i]);
                normalise(h, all);
            }
        }
        sync_threads(1, decode_selector_threads);
    }
    __device__ void normalise(int h, panel_sum const& all) const
    {
        m_.fixed.top[h] = all.reference;
        m_.fixed.inverse[h] = all.sum > 0.0f ? 1.0f / all.sum : 0.0f;
    }
    /// Four neighbouring blocks at 4 first, and so on; not finite where a head's score is not.
    __device__ void add_heads(int row, int rows, int n, int first, float (&sum)[at_once][4]) const
    {
        int at[at_once];
#pragma unroll
        for (int i = 0; i < at_once; ++i)
        {
            int const four = first + i * decode_selector_threads;
            at[i] = 4 * four < n ? row + four / 4 * rows : row;
        }
        static_assert(decode_selector_threads % 4 == 0);
#pragma unroll 4
        for (int h = 0; h < s_.group; ++h)
        {
            float4 mass[at_once];
            float reference[at_once];
#pragma unroll
            for (int i = 0; i < at_once; ++i)
            {
                mass[i] = __ldcg(reinterpret_cast<float4 const*>(a_.mass) + 4 * (at[i] + h) + first % 4);
                reference[i] = __ldcg(&a_.sum[at[i] + h].reference);
            }
            float const top = m_.fixed.top[h], inverse = m_.fixed.inverse[h];
#pragma unroll
            for (int i = 0; i < at_once; ++i)
            {
                float const factor = inverse > 0.0f ? exp2_fast(reference[i] - top) * inverse : 0.0f;
                add_share(sum[i][0], mass[i].x, factor), add_share(sum[i][1], mass[i].y, factor);
                add_share(sum[i][2], mass[i].z, factor), add_share(sum[i][3], mass[i].w, factor);
            }
        }
    }
    /// A score that is not finite makes the sum so; such a block ranks last.
    __device__ static void add_share(float& sum, float mass, float factor)
    {
        float const share = mass * factor;
        sum += share < 0x1p-100f ? 0.0f : share;
    }
    __device__ double sum_threads(double x) const
    {
#pragma unroll 1
        for (int far = 1; far < 32; far *= 2) x += __shfl_down_sync(0xffffffffu, x, far);
        if (threadIdx.x % 32 == 0) m_.fixed.warp_mass[threadIdx.x / 32] = x;
        sync_threads(1, decode_selector_threads);
        double all = 0;
#pragma unroll 1
        for (int w = 0; w < decode_selectors; ++w) all += m_.fixed.warp_mass[w];
        return all;
    }

    /// What other multiprocessors wrote.
    static __device__ panel_sum read(panel_sum const* from)
    {
        float2 const both = __ldcg(reinterpret_cast<float2 const*>(from));
        return {both.x, both.y};
    }
    static __device__ panel_sum together(panel_sum const& a, panel_sum const& b)
    {
        float const top = fmaxf(a.reference, b.reference);
        auto const part = [&](panel_sum const& x) {
            return x.sum > 0.0f ? x.sum * exp2_fast(x.reference - top) : 0.0f;
        };
        return {top, part(a) + part(b)};
    }

    decode_selection_arguments const& a_;
    decode_selection_sizes const& s_;
    decode_selection_places const& m_;
};

} // namespace spla::cuda
