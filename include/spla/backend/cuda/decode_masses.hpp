// SPDX-FileCopyrightText: The spla authors
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once
#include "decode_selection_shape.hpp"

/// From panels that were scored to the masses of one list: normalised over its competing blocks, summed over the heads
/// of the group (spec section 2, steps 1 and 2). By all threads of a block; every sum has one order, which depends on
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
    /// number of the list's first in the first panel; rows: from panel to panel. Returns the sum of masses, where top_p wants it. Needs a
    /// barrier after it.
    __device__ double rank(int row, int rows, int n) const
    {
        find_normalisers(row, rows, n);
        for (int i = threadIdx.x; i < decode_selection_memory::bins; i += decode_threads) m_.fixed.count[i] = 0;
        __syncthreads();
        double total = 0;
        for (int first = threadIdx.x; first < n; first += at_once * decode_threads)
        {
            float sum[at_once];
            add_heads(row, rows, n, first, sum);
#pragma unroll
            for (int i = 0; i < at_once; ++i)
            {
                int const block = first + i * decode_threads;
                if (block >= n) break;
                std::uint32_t const rank = sum[i] >= 0.0f ? __float_as_uint(sum[i]) + 1u : 0u;
                m_.rank[block] = rank;
                atomicAdd(&m_.fixed.count[rank >> first_shift], 1u);
                if (s_.cuts && sum[i] > 0.0f) total += static_cast<double>(sum[i]);
            }
        }
        return s_.cuts ? sum_threads(total) : 0.0;
    }

    static constexpr int first_shift = 20; ///< ranks have 31 bits, of which 2048 bins take the upper ones

private:
    static constexpr int at_once = 4; ///< blocks of a thread whose masses are on their way together

    /// Each head's largest reference and one over its sum, by a warp.
    __device__ void find_normalisers(int row, int rows, int n) const
    {
        int const lane = threadIdx.x % 32, panels = (n + decode_panel_blocks - 1) / decode_panel_blocks;
        for (int h = threadIdx.x / 32; h < s_.group; h += decode_warps)
        {
            panel_sum const* const from = a_.sum + row + h;
            panel_sum all{-infinity, 0.0f};
#pragma unroll 4
            for (int p = lane; p < panels; p += 32) all = together(all, read(from + p * rows));
#pragma unroll
            for (int far = 1; far < 32; far *= 2)
                all = together(all, {__shfl_down_sync(0xffffffffu, all.reference, far),
                                     __shfl_down_sync(0xffffffffu, all.sum, far)});
            if (lane != 0) continue;
            m_.fixed.top[h] = all.reference;
            m_.fixed.inverse[h] = all.sum > 0.0f ? 1.0f / all.sum : 0.0f;
        }
    }
    /// Those of blocks first, first + decode_threads, ...; -1 where a head's score is not finite.
    __device__ void add_heads(int row, int rows, int n, int first, float (&sum)[at_once]) const
    {
        std::int64_t at[at_once];
#pragma unroll
        for (int i = 0; i < at_once; ++i)
        {
            int const block = ::min(first + i * decode_threads, n - 1);
            at[i] = row + block / decode_panel_blocks * rows;
            sum[i] = 0.0f;
        }
        int const within = first % decode_panel_blocks; // all alike, but for one that is not looked at
#pragma unroll 2
        for (int h = 0; h < s_.group; ++h)
        {
            float mass[at_once], reference[at_once];
#pragma unroll
            for (int i = 0; i < at_once; ++i)
            {
                mass[i] = __ldcg(a_.mass + (at[i] + h) * decode_panel_blocks + within);
                reference[i] = __ldcg(&a_.sum[at[i] + h].reference);
            }
            float const top = m_.fixed.top[h], inverse = m_.fixed.inverse[h];
#pragma unroll
            for (int i = 0; i < at_once; ++i)
            {
                float const factor = inverse > 0.0f ? exp2_fast(reference[i] - top) * inverse : 0.0f;
                float const share = mass[i] * factor, counted = share < 0x1p-100f ? 0.0f : share;
                // A score that is not finite marks the block for good; such a block ranks last.
                sum[i] = fabsf(mass[i]) < infinity && sum[i] >= 0.0f ? sum[i] + counted : -1.0f;
            }
        }
    }
    __device__ double sum_threads(double x) const
    {
#pragma unroll
        for (int far = 1; far < 32; far *= 2) x += __shfl_down_sync(0xffffffffu, x, far);
        if (threadIdx.x % 32 == 0) m_.fixed.warp_mass[threadIdx.x / 32] = x;
        __syncthreads();
        double all = 0;
#pragma unroll
        for (int w = 0; w < decode_warps; ++w) all += m_.fixed.warp_mass[w];
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
        auto const part = [&](panel_sum const& x) { return x.sum > 0.0f ? x.sum * exp2_fast(x.reference - top) : 0.0f; };
        return {top, part(a) + part(b)};
    }

    decode_selection_arguments const& a_;
    decode_selection_sizes const& s_;
    decode_selection_places const& m_;
};

} // namespace spla::cuda
