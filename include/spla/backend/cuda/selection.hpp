// SPDX-FileCopyrightText: The spla authors
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once
#include "built_widths.hpp"
#include "exact_shape.hpp"
#include "gathered_summaries.hpp"
#include "launch.hpp"
#include "selection_kernel.hpp"
#include "tensor_map.hpp"

#include <algorithm>

/// From a checked call to the selection on Hopper.
namespace spla::cuda
{

/// Shares shared memory out between summaries on their way, candidates, and masses on their way. False where it does
/// not suffice.
template <int Width>
bool fit(selection_sizes& s)
{
    constexpr int most_candidates = 240 + candidate_slack, step = 16;
    auto const fits = [&] { return selection_memory<Width>::bytes(s) <= most_shared_bytes; };
    int const vectors = 3; // of one part, there at once
    int const least = (s.top_k + 2 * panel_blocks + step - 1) / step * step + candidate_slack;
    if (least > 1024) return false;
    for (s.candidates = std::max(least, most_candidates); s.candidates >= least; s.candidates -= step)
        for (s.panels_ahead = most_panels_ahead; s.panels_ahead > 0; --s.panels_ahead)
        {
            s.places = 2 * vectors;
            if (!fits()) continue;
            do ++s.places;
            while (s.places <= most_vector_places && fits());
            --s.places;
            return true;
        }
    s.candidates = least, s.panels_ahead = 1;
    for (s.places = 2 * vectors; s.places >= vectors; --s.places)
        if (fits()) return true;
    return false;
}

inline selection_sizes selection_sizes_of(portable::selection_shape const& shape, int sub_blocks, int vectors)
{
    selection_sizes s{};
    s.sequences = shape.sequences;
    s.key_heads = static_cast<int>(shape.key_heads), s.group = shape.group, s.width = shape.width;
    s.bounds = window_in_int(shape.bounds, shape.sequences.keys);
    s.sums_tile = shape.share.kind == sharing_kind::tile_sum;
    s.score_every = s.sums_tile ? shape.share.score_every : 1;
    s.resumes = shape.share.kind == sharing_kind::first_query;
    int const queries = s.sums_tile ? static_cast<int>(ceil_divide(s.bounds.tile, s.score_every)) : 1;
    s.rows_per_list = queries * s.group;
    s.lists_each = std::clamp(score_rows_each / s.rows_per_list, 1, most_lists_each);
    s.chunks = static_cast<int>(ceil_divide(s.rows_per_list, score_rows_each));
    // A list's rows follow each other, and so do those of a warp eight by eight.
    for (s.rows_together = 1; s.rows_together < 8 && s.rows_per_list % (2 * s.rows_together) == 0;)
        s.rows_together *= 2;
    s.panel_rows = score_rows_each / s.rows_together;
    s.top_k = shape.top_k, s.top_p = shape.top_p, s.cuts = shape.top_p < 1.0;
    s.sub_blocks = sub_blocks, s.kept = shape.kept, s.vectors_of_block = sub_blocks * vectors;
    s.scale = static_cast<float>(shape.scale * 1.4426950408889634); // exp2 in place of exp
    s.half_square = static_cast<float>(shape.scale * shape.scale / 2);
    s.others = static_cast<float>(s.bounds.block / sub_blocks - s.kept);
    s.most_blocks = static_cast<int>(ceil_divide(shape.most_blocks, panel_blocks) * panel_blocks);
    if (shape.sequences.offsets) return s;       // whoever counts their items knows them
    detail::sequence const one = s.sequences[0]; // all are alike
    std::int64_t const lists = shape.lists(one) - (shape.resumes(one) ? 1 : 0);
    s.items = {s.sequences.count, ceil_divide(lists, lists_of_item(s))};
    s.most_items = static_cast<int>(s.sequences.count * s.items.each);
    return s;
}

template <class Metric, int Width, bool Single>
void launch_selection(Kokkos::Cuda const& exec, selection_arguments const& a)
{
    launch_blocks("selection", exec, selection_kernel<Metric, Width, Single>,
                  static_cast<std::int64_t>(a.sizes.most_items) * a.sizes.key_heads,
                  selection_memory<Width>::bytes(a.sizes), a, {.threads = selection_threads});
}
template <class Metric, int Width>
void launch_selection_of_width(Kokkos::Cuda const& exec, selection_arguments const& a)
{
    if (a.sizes.sub_blocks == 1 && !a.sizes.scales)
        launch_selection<Metric, Width, true>(exec, a);
    else
        launch_selection<Metric, Width, false>(exec, a);
}

/// What a selection needs beside its call. items: of sequences of variable lengths. gathered: room for summaries that
/// must be gathered first, and those sequences' tokens.
struct selection_work
{
    detail::item_table items;
    std::int64_t most_items = 0;
    gathered_summaries gathered;
};

/// Lists of a call that why_no_selection() has nothing against. False, and nothing done, where queries cannot be read
/// by 16 bytes.
template <class Metric>
bool select(Kokkos::Cuda const& exec, detail::tensor<bfloat16 const> const& query,
            detail::summary_tensor const& summary, portable::selection_shape const& shape,
            detail::list_tensor const& list, selection_work const& work = {})
{
    if (!can_map(query) || !runs_here(exec)) return false;
    selection_arguments a{};
    a.sizes = selection_sizes_of(shape, summary.sub_blocks, summary.vectors);
    std::int64_t const heads = summary.key_heads * a.sizes.vectors_of_block, width = summary.head_dim;
    detail::tensor<bfloat16 const> vectors{summary.row<bfloat16 const>(0),
                                           {summary.blocks * heads * width, heads * width, width},
                                           {shape.sequences.count, summary.blocks, heads, width},
                                           {}};
    if (shape.sequences.offsets) a.sizes.items = work.items, a.sizes.most_items = static_cast<int>(work.most_items);
    if (a.sizes.most_items <= 0) return true;
    if (work.gathered.vectors)
    {
        a.sizes.gathered = true, a.sizes.tokens = work.gathered.tokens;
        a.sizes.scales = work.gathered.scales, a.sizes.scale_stride = work.gathered.blocks;
        gather_summaries(exec, summary, work.gathered, block_tokens);
        vectors.data = work.gathered.vectors;
        vectors.extent[0] = 1, vectors.extent[1] = work.gathered.blocks;
    }
    a.query = query, a.list = list;
    a.summary = make_tensor_map<bfloat16>(vectors, 1, panel_blocks);
    if constexpr (has_narrow_kernels)
    {
        if (is_narrow(shape.width, 0))
        {
            if (!fit<64>(a.sizes)) return false;
            launch_selection_of_width<Metric, 64>(exec, a);
            return true;
        }
    }
    if (!fit<128>(a.sizes)) return false;
    launch_selection_of_width<Metric, 128>(exec, a);
    return true;
}

} // namespace spla::cuda
