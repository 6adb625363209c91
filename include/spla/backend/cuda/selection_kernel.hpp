// SPDX-FileCopyrightText: The spla authors
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once
#include "score_rows.hpp"

/// Selection on Hopper (spec section 2), from queries straight to lists: one thread commands the copy engine, which
/// streams a key head's summaries from the last competing block to the first, twice; two warpgroups score 64 rows each
/// against the stream. Warps sum their lists' masses over the heads of the group and keep the best blocks.
namespace spla::cuda
{

struct selection_arguments
{
    CUtensorMap summary; ///< [sequence, block, (key head, vector), dim]
    detail::tensor<bfloat16 const> query;
    detail::list_tensor list;
    selection_sizes sizes;
};

/// Panels of an item; 0 where all lists hold everything that competes.
inline __device__ int panels_of(selection_sizes const& s, selection_item const& item)
{
    int const lists = scoring_groups * s.lists_each, last = s.skipped + s.lists - 1;
    int const list = item.first_list + lists - 1 < last ? item.first_list + lists - 1 : last;
    int const blocks = find_list(s, list).competing(s.bounds.sink_blocks); // ends never fall
    bool const scored = s.top_k > 0 && (blocks > s.top_k || s.cuts);
    return scored ? (blocks + panel_blocks - 1) / panel_blocks : 0;
}

/// The thread that loads.
template <int Width>
__device__ void load_summaries(selection_arguments const& a, selection_places<Width> const& m)
{
    using memory = selection_memory<Width>;
    selection_sizes const& s = a.sizes;
    int const items = static_cast<int>(s.sequences.count) * s.items * s.key_heads;
    int const vectors = s.vectors_of_block;
    int place = 0;
    std::uint32_t parity = 1; // a place is free before its first use
    for (int i = blockIdx.x; i < items; i += gridDim.x)
    {
        selection_item const item = find_item(s, i);
        int const panels = panels_of(s, item);
        for (int pass = 0; pass < 2 * s.chunks; ++pass)
            for (int panel = panels - 1; panel >= 0; --panel)
                for (int v = 0; v < vectors; ++v)
                {
                    barrier& full = m.fixed.full[place];
                    m.fixed.free[place].wait(parity);
                    full.arrive_expecting(memory::vector_bytes);
#pragma unroll
                    for (int p = 0; p < memory::panels; ++p)
                        copy_box(a.summary, full, m.vector[place][p], p * 64, item.head * vectors + v,
                                 s.bounds.sink_blocks + panel * panel_blocks, item.sequence);
                    if (++place == s.places) place = 0, parity ^= 1;
                }
    }
}

/// A warpgroup that scores.
template <class Metric, int Width>
class list_maker
{
    using memory = selection_memory<Width>;

public:
    __device__ list_maker(selection_arguments const& a, selection_places<Width> const& m)
        : a_(a), s_(a.sizes), m_(m), rows_(a.sizes, m), party_(threadIdx.x / 128 - 1), warp_(threadIdx.x % 128 / 32)
    {
    }

    __device__ void run()
    {
        int const items = static_cast<int>(s_.sequences.count) * s_.items * s_.key_heads;
        for (int i = blockIdx.x; i < items; i += gridDim.x)
        {
            selection_item const item = find_item(s_, i);
            int const panels = panels_of(s_, item);
            open_lists(item);
            if (panels > 0)
            {
                for (int chunk = 0; chunk < s_.chunks; ++chunk)
                {
                    open_rows(item, chunk);
                    if (s_.kept > 0)
                        score_chunk<true>(chunk, panels);
                    else
                        score_chunk<false>(chunk, panels);
                }
            }
            each_list([&](int slot, list_progress& list) { store(item, slot, list, panels > 0); });
        }
    }

private:
    __device__ void open_lists(selection_item const& item)
    {
        first_list_ = item.first_list + party_ * s_.lists_each;
        each_list([&](int slot, list_progress& list) {
            list_place const p = find_list(s_, first_list_ + slot);
            list = {0, 0, 0.0f, p.competing(s_.bounds.sink_blocks), p.queries * s_.group};
        });
    }
    /// what(slot among the warpgroup's, list) for this warp's lists, four at once: one for each eight lanes.
    template <class Do>
    __device__ void each_list(Do what)
    {
        int const group = threadIdx.x % 32 / list_lanes;
        for (int first = warp_ * lists_at_once; first < s_.lists_each; first += 4 * lists_at_once)
        {
            int const slot = first + group < s_.lists_each ? first + group : s_.lists_each - 1;
            list_progress list = m_.fixed.progress[party_][slot];
            if (first + group >= s_.lists_each) list.rows = list.blocks = list.count = 0;
            what(slot, list);
            __syncwarp();
            if (first + group < s_.lists_each && threadIdx.x % list_lanes == 0) m_.fixed.progress[party_][slot] = list;
            __syncwarp();
        }
    }

    __device__ best_blocks best(int slot) const
    {
        return {m_.candidates + (party_ * s_.lists_each + slot) * s_.candidates, s_.top_k};
    }

    __device__ void open_rows(selection_item const& item, int chunk)
    {
        bfloat16 const* query[2];
        int blocks[2];
        int const first = static_cast<int>(s_.sequences.keys - s_.sequences.queries);
#pragma unroll
        for (int i = 0; i < 2; ++i)
        {
            int const row = rows_.row(i), slot = s_.chunks > 1 ? 0 : row / s_.rows_per_list;
            int const of_list = s_.chunks > 1 ? chunk * score_rows_each + row : row % s_.rows_per_list;
            int const q = of_list / s_.group;
            list_place const p = slot < s_.lists_each ? find_list(s_, first_list_ + slot) : list_place{0, 0, 0, 0};
            bool const scores = q < p.queries && p.begin >= 0;
            int const position = p.scoring + q * s_.score_every;
            query[i] = scores ? a_.query.row(item.sequence, position - first, item.head * s_.group + of_list % s_.group)
                              : nullptr;
            blocks[i] = scores ? p.competing(s_.bounds.sink_blocks) : 0;
        }
        rows_.open(query, blocks);
    }

    template <bool Kept>
    __device__ void score_chunk(int chunk, int panels)
    {
        rows_.template start<Kept>();
        for (int panel = panels - 1; panel >= 0; --panel) rows_.template add_panel<Kept>(panel);
        rows_.normalise();
        for (int panel = panels - 1; panel > 0; --panel) select_panel<Kept, true>(chunk, panel);
        select_panel<Kept, false>(chunk, 0);
    }
    template <bool Kept, bool More>
    __device__ void select_panel(int chunk, int panel)
    {
        auto const was_read = [&] { sync_threads(1 + party_, 128); }; // the panel before
        rows_.template store_panel<Kept, More>(m_.fixed.mass[party_], was_read);
        sync_threads(3 + party_, 128);
        each_list([&](int slot, list_progress& list) { offer_panel(slot, list, chunk, panel * panel_blocks); });
    }

    /// Sums a panel over a list's rows, in their order, and offers the sums once all chunks are in.
    __device__ void offer_panel(int slot, list_progress& list, int chunk, int first)
    {
        first += threadIdx.x % list_lanes * lane_blocks; // of this lane
        int const left = list.rows - chunk * score_rows_each;
        int const rows = left < score_rows_each ? left : score_rows_each;
        int const column = threadIdx.x % list_lanes * lane_blocks;
        float const(*mass)[memory::mass_stride] = m_.fixed.mass[party_] + (s_.chunks > 1 ? 0 : slot * s_.rows_per_list);
        float sum[lane_blocks] = {};
#pragma unroll 4
        for (int r = 0; r < rows; ++r)
        {
            float4 const low = *reinterpret_cast<float4 const*>(&mass[r][column]);
            float4 const high = *reinterpret_cast<float4 const*>(&mass[r][column + 4]);
            sum[0] += low.x, sum[1] += low.y, sum[2] += low.z, sum[3] += low.w;
            sum[4] += high.x, sum[5] += high.y, sum[6] += high.z, sum[7] += high.w;
        }
        if (s_.chunks > 1)
        {
            float* const before = m_.sum + party_ * s_.most_blocks + first;
            bool const writes = list.rows > 0;
#pragma unroll
            for (int i = 0; i < lane_blocks; ++i)
            {
                if (chunk > 0) sum[i] += before[i];
                if (writes) before[i] = sum[i];
            }
            if (chunk + 1 < s_.chunks) return;
        }
        if (s_.cuts) list.total += total_of(sum, list.blocks - first);
        best(slot).offer(list, sum, first, list.blocks - first, s_.candidates);
    }
    /// Finite masses of a panel together; left: blocks from this lane's first on.
    __device__ static float total_of(float const (&mass)[lane_blocks], int left)
    {
        float sum = 0.0f;
#pragma unroll
        for (int i = 0; i < lane_blocks; ++i) sum += i < left && mass[i] > 0.0f ? mass[i] : 0.0f;
#pragma unroll
        for (int far = 1; far < list_lanes; far *= 2) sum += __shfl_xor_sync(0xffffffffu, sum, far);
        return sum;
    }

    /// The best blocks, or everything that competes where nothing was scored (nothing at all with a top_k of 0).
    __device__ void store(selection_item const& item, int slot, list_progress const& list, bool scored)
    {
        bool const exists = list.rows > 0;
        int const number = exists ? first_list_ + slot : s_.skipped, lane = threadIdx.x % list_lanes;
        int const capacity = exists ? static_cast<int>(a_.list.capacity) : 0;
        std::int32_t* const to = a_.list.list(item.sequence, number, item.head);
        int length = list.blocks < s_.top_k ? list.blocks : s_.top_k;
        if (scored)
            length = best(slot).store(list, to, capacity, s_.bounds.sink_blocks,
                                      s_.cuts ? s_.top_p * static_cast<double>(list.total) : -1.0);
        else
            for (int i = lane; i < capacity; i += list_lanes) to[i] = i < length ? s_.bounds.sink_blocks + i : -1;
        if (exists && lane == 0) a_.list.length(item.sequence, number, item.head) = length;
    }

    selection_arguments const& a_;
    selection_sizes const& s_;
    selection_places<Width> const& m_;
    score_rows<Metric, Width> rows_;
    int party_, warp_, first_list_ = 0;
};

template <class Metric, int Width>
__global__ __launch_bounds__(384, 1) void selection_kernel(__grid_constant__ selection_arguments const a)
{
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
    extern __shared__ unsigned char raw[];
    selection_places<Width> const m(raw + (1024 - shared_address(raw) % 1024) % 1024, a.sizes);
    if (threadIdx.x == 0)
    {
        for (int i = 0; i < a.sizes.places; ++i) m.fixed.full[i].init(1), m.fixed.free[i].init(scoring_groups * 4);
        fence_barrier_init();
    }
    __syncthreads();
    if (threadIdx.x < 128)
    {
        give_registers<40>();
        if (threadIdx.x == 0) load_summaries<Width>(a, m);
    }
    else
    {
        take_registers<232>();
        list_maker<Metric, Width>(a, m).run();
    }
#endif
}

} // namespace spla::cuda
