// SPDX-FileCopyrightText: The spla authors
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once
#include "decode_best_blocks.hpp"
#include "decode_scores.hpp"

/// Selection for decoded tokens on Hopper: every block of threads scores as many neighbouring panels as any other, of
/// whatever items they are; who finishes an item selects.
namespace spla::cuda
{

/// So many more panels of an item are scored; is that all? What the threads that met this one wrote before is seen by
/// those that meet who hears yes.
inline __device__ bool finish_panels(std::int32_t* finished, int count, int all)
{
    int before;
    asm volatile("atom.acq_rel.gpu.global.add.s32 %0, [%1], %2;"
                 : "=r"(before)
                 : "l"(__cvta_generic_to_global(finished)), "r"(count)
                 : "memory");
    return before + count == all;
}

/// An item's queries as products take them, their squares, and what competes for each row.
inline __device__ void load_queries(decode_selection_arguments const& a, decode_item const& item,
                                    decode_selection_places const& m)
{
    decode_selection_sizes const& s = a.sizes;
    int const rows = item.rows, groups = (rows + product_queries - 1) / product_queries;
    for (int i = threadIdx.x; i < groups * product_queries * width_steps * 4; i += decode_threads)
    {
        int const part = i % 4, row = i / 4 % 8 + i / (32 * width_steps) * 8, step = i / 32 % width_steps;
        int const d = 32 * step + 8 * part;
        uint4 q{0, 0, 0, 0};
        if (row < rows && d < s.width)
        {
            int const position = item.lists.position(s.bounds, item.first_list + row / s.group);
            bfloat16 const* const from =
                a.query.row(item.sequence, position - item.lists.first_position, item.head * s.group + row % s.group);
            q = *reinterpret_cast<uint4 const*>(from + d);
        }
        auto const square = [](std::uint32_t x) {
            float const low = __uint_as_float(x << 16), high = __uint_as_float(x & 0xffff0000u);
            return pack<bfloat16>(low * low, high * high);
        };
        auto const put = [&](int squared, uint4 const& x) {
            auto* const to = reinterpret_cast<std::uint32_t*>(m.queries(row / product_queries, squared) + 64 * step +
                                                              row % 8 * 4 + part) +
                             row / 8 % 2;
            to[0] = x.x, to[2] = x.y, to[128] = x.z, to[130] = x.w;
        };
        put(0, q);
        if (s.has_variance) put(1, {square(q.x), square(q.y), square(q.z), square(q.w)});
    }
    for (int r = threadIdx.x; r < rows; r += decode_threads)
        m.fixed.blocks[r] = s.bounds.competing(item.lists.position(s.bounds, item.first_list + r / s.group)).count();
}

/// Number: of summaries, as they are stored.
template <class Number>
__global__ __launch_bounds__(decode_threads, decode_blocks_each) void
decode_selection_kernel(__grid_constant__ decode_selection_arguments const a)
{
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
    extern __shared__ __align__(16) unsigned char raw[];
    decode_selection_sizes const& s = a.sizes;
    decode_selection_places const m(raw, s);
    decode_scores<Number> scores(a, m);
    std::int64_t const all = panels_here(s);
    int const end = static_cast<int>(all * (blockIdx.x + 1) / gridDim.x), warp = threadIdx.x / 32;
    for (int at = static_cast<int>(all * blockIdx.x / gridDim.x); at < end;)
    {
        decode_item const found = find_item(s, at);
        if (threadIdx.x == 0) m.fixed.item = found;
        __syncthreads();
        decode_item const& item = m.fixed.item;
        int const panels = item.lists.panels, first = at - item.begin, last = ::min(panels, first + end - at);
        int const last_position = item.lists.position(s.bounds, item.first_list + item.list_count - 1);
        int const blocks = s.bounds.competing(last_position).count();
        bool const scored = s.top_k > 0 && (blocks > s.top_k || s.cuts);
        if (scored)
        {
            if (first + warp < last) scores.load(item, first + warp, blocks);
            load_queries(a, item, m);
            __syncthreads();
            for (int n = first + warp; n < last; n += decode_warps)
            {
                if (n != first + warp) scores.load(item, n, blocks);
                scores.store(item, n);
            }
            __syncthreads();
        }
        bool selects = last - first == panels;
        if (!selects)
        {
            if (threadIdx.x == 0)
                m.fixed.selects = finish_panels(a.finished + item.number, last - first, panels);
            __syncthreads();
            selects = m.fixed.selects;
        }
        if (selects)
        {
            for (int l = 0; l < item.list_count; ++l) decode_best_blocks(a, m).select(item, l);
        }
        at = item.begin + last;
        __syncthreads();
    }
#endif
}

} // namespace spla::cuda
