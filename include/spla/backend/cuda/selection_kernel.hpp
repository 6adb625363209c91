// SPDX-FileCopyrightText: The spla authors
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once
#include "score_rows.hpp"
#include "select_lists.hpp"

/// Selection on Hopper (spec section 2), from queries straight to lists: one thread commands the copy engine, which
/// streams a key head's summaries from the last competing block to the first, twice; two warpgroups score 64 rows each
/// against the stream, and hand masses over to the warps that sum and select.
namespace spla::cuda
{

/// The thread that loads.
template <int Width>
__device__ void load_summaries(selection_arguments const& a, selection_places<Width> const& m)
{
    using memory = selection_memory<Width>;
    selection_sizes const& s = a.sizes;
    int const items = items_here(s), vectors = s.vectors_of_block;
    int place = 0;
    std::uint32_t parity = 1; // a place is free before its first use
    for (int i = blockIdx.x; i < items; i += gridDim.x)
    {
        selection_item const item = find_item(s, i);
        int const panels = panels_of(s, item);
        summary_place const from = find_summaries(s, item);
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
                                 from.first + s.bounds.sink_blocks + panel * panel_blocks, from.row);
                    if (++place == s.places) place = 0, parity ^= 1;
                }
    }
}

/// A warpgroup that scores.
template <class Metric, int Width, bool Single>
class row_scorer
{
public:
    __device__ row_scorer(selection_arguments const& a, selection_places<Width> const& m)
        : a_(a), s_(a.sizes), m_(m), party_(threadIdx.x / 128 - 2), rows_(a.sizes, m), masses_(m, a.sizes, party_)
    {
    }

    __device__ void run()
    {
        int const items = items_here(s_);
        for (int i = blockIdx.x; i < items; i += gridDim.x)
        {
            selection_item const item = find_item(s_, i);
            int const panels = panels_of(s_, item);
            if (panels == 0) continue;
            for (int chunk = 0; chunk < s_.chunks; ++chunk)
            {
                open_rows(item, chunk);
                if (s_.kept > 0)
                    score_chunk<true>(panels);
                else
                    score_chunk<false>(panels);
            }
        }
    }

private:
    __device__ int slot_of(int row) const { return s_.chunks > 1 ? 0 : row / s_.rows_per_list; }

    __device__ void open_rows(selection_item const& item, int chunk)
    {
        bfloat16 const* query[2];
        int blocks[2];
        int const first_list = item.first_list + party_ * s_.lists_each;
#pragma unroll
        for (int i = 0; i < 2; ++i)
        {
            int const row = score_row(i), slot = slot_of(row);
            int const of_list = s_.chunks > 1 ? chunk * score_rows_each + row : row - slot * s_.rows_per_list;
            int const q = of_list / s_.group;
            list_place const p = slot < s_.lists_each ? find_list(s_, item, first_list + slot) : list_place{0, 0, 0, 0};
            bool const scores = q < p.queries && p.begin >= 0;
            int const position = p.scoring + q * s_.score_every;
            query[i] =
                scores ? a_.query.row(item.sequence, position - item.first, item.head * s_.group + of_list % s_.group)
                       : nullptr;
            blocks[i] = scores ? p.competing(s_.bounds.sink_blocks) : 0;
            exchanged_[i] = exchanged_places(s_, slot);
        }
        // Of the item's first block that may compete.
        int const vector = item.head * s_.vectors_of_block, first = find_summaries(s_, item).first;
        rows_.open(query, blocks,
                   vector * static_cast<int>(s_.scale_stride) + first + static_cast<int>(s_.bounds.sink_blocks));
    }

    template <bool Kept>
    __device__ void score_chunk(int panels)
    {
        for (int panel = panels - 1; panel >= 0; --panel) rows_.template add_panel<Kept>(panel);
        rows_.normalise();
        for (int panel = panels - 1; panel >= 0; --panel) rows_.template store_panel<Kept>(panel, masses_, exchanged_);
    }

    selection_arguments const& a_;
    selection_sizes const& s_;
    selection_places<Width> const& m_;
    int party_;
    score_rows<Metric, Width, Single> rows_;
    int exchanged_[2];
    mass_queue<Width> masses_;
};

template <class Metric, int Width, bool Single>
__global__ __launch_bounds__(selection_threads, 1) void selection_kernel(__grid_constant__ selection_arguments const a)
{
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
    // Together 512, with the 24 of loading: what a multiprocessor has for four warpgroups.
    constexpr bool sums_in_registers = !Single && Metric::covariance != covariance_kind::none;
    constexpr int scoring_registers = sums_in_registers && Width > 64 ? 208 : 192,
                  selecting_registers = 2 * 244 - 2 * scoring_registers;
    extern __shared__ unsigned char raw[];
    selection_places<Width> const m(raw + (1024 - shared_address(raw) % 1024) % 1024, a.sizes);
    if (threadIdx.x == 0)
    {
        for (int i = 0; i < a.sizes.places; ++i) m.fixed.full[i].init(1), m.fixed.free[i].init(scoring_groups * 4);
        for (int i = 0; i < scoring_groups; ++i)
            for (int k = 0; k < most_panels_ahead; ++k)
                m.fixed.masses_full[i][k].init(128), m.fixed.masses_free[i][k].init(selecting_warps * 32);
        fence_barrier_init();
    }
    __syncthreads();
    if (threadIdx.x < 128)
    {
        give_registers<24>();
        if (threadIdx.x == 0) load_summaries<Width>(a, m);
    }
    else if (threadIdx.x < 256)
    {
        give_registers<selecting_registers>();
        make_lists<Width>(a, m);
    }
    else
    {
        take_registers<scoring_registers>();
        row_scorer<Metric, Width, Single>(a, m).run();
    }
#endif
}

} // namespace spla::cuda
