// SPDX-FileCopyrightText: The spla authors
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once
#include "../../algorithm/buffer_carver.hpp"
#include "decode_selection_kernel.hpp"
#include "launch.hpp"
#include "score_rows.hpp"

/// From a checked step to the selection for its decoded tokens on Hopper.
namespace spla::cuda
{

/// sequences: a plan's, or those of a step. Metrics are those of scores_on_matrix_units.
template <class Metric>
decode_selection_sizes decode_selection_sizes_of(portable::selection_shape const& shape, int vectors,
                                                 std::int64_t few_queries)
{
    decode_selection_sizes s{};
    s.sequences = shape.sequences;
    s.sequences.falls = nullptr; // not counted yet when the kernel looks at them
    s.few_queries = static_cast<int>(few_queries);
    s.key_heads = static_cast<int>(shape.key_heads), s.group = shape.group, s.width = shape.width;
    s.bounds = window_in_int(shape.bounds, shape.sequences.keys);
    s.resumes = shape.share.kind == sharing_kind::first_query;
    std::int64_t const queries = std::min(shape.sequences.queries, few_queries), tile = shape.bounds.tile;
    std::int64_t const lists = std::max<std::int64_t>(1, tile == 1 ? queries : (queries + tile - 2) / tile + 1);
    s.lists_each = static_cast<int>(std::clamp<std::int64_t>(shared_queries / s.group, 1, lists));
    s.rows = s.lists_each * s.group;
    s.items_each = static_cast<int>(ceil_divide(lists, s.lists_each));
    std::int64_t const panels = ceil_divide(std::max<std::int64_t>(shape.most_blocks, 1), decode_panel_blocks);
    s.most_blocks = static_cast<int>(panels * decode_panel_blocks);
    std::int64_t const all = shape.sequences.count * lists, tokens = shape.sequences.tokens;
    s.most_rows = (tokens > 0 && tile == 1 ? std::min(all, tokens) : all) * panels * s.group * s.key_heads;
    s.most_panels = shape.sequences.count * s.items_each * panels * s.key_heads;
    s.top_k = shape.top_k, s.top_p = shape.top_p, s.cuts = shape.top_p < 1.0;
    s.has_variance = Metric::covariance == covariance_kind::diagonal;
    s.cumulant = s.has_variance && Metric::expansion == expansion_kind::cumulant;
    s.kept = shape.kept > 0, s.kept_vector = vectors - 1;
    s.scale = static_cast<float>(shape.scale * 1.4426950408889634); // exp2 in place of exp
    s.half_square = static_cast<float>(shape.scale * shape.scale / 2);
    s.others = static_cast<float>(s.bounds.block - shape.kept);
    return s;
}

/// Parts of its workspace, as offsets.
struct decode_selection_layout
{
    std::size_t mass, sum, finished, bytes;
    std::int64_t items;

    static decode_selection_layout of(decode_selection_sizes const& s)
    {
        detail::buffer_carver place;
        decode_selection_layout l{};
        l.items = s.sequences.count * s.items_each * s.key_heads;
        l.mass = place(s.most_rows * decode_panel_blocks, sizeof(float));
        l.sum = place(s.most_rows, sizeof(panel_sum));
        l.finished = place(l.items, sizeof(std::int32_t));
        l.bytes = place(0, 1);
        return l;
    }
};

/// Lists of the sequences of a step that are decoded: those with at most few_queries new tokens. memory:
/// decode_selection_layout's, its counters cleared.
template <class Metric>
void select_decoded(Kokkos::Cuda const& exec, detail::tensor<bfloat16 const> const& query,
                    detail::summary_tensor const& summary, portable::selection_shape const& shape,
                    detail::list_tensor const& list, std::int64_t few_queries, std::byte* memory)
{
    decode_selection_arguments a{query, summary, list,
                                 decode_selection_sizes_of<Metric>(shape, summary.vectors, few_queries)};
    auto const layout = decode_selection_layout::of(a.sizes);
    a.mass = reinterpret_cast<float*>(memory + layout.mass);
    a.sum = reinterpret_cast<panel_sum*>(memory + layout.sum);
    a.finished = reinterpret_cast<std::int32_t*>(memory + layout.finished);
    // Few panels: multiprocessors are shared with the launches before and after. Many: memory is what is waited for,
    // and halves of lines wait for each other in the first-level cache.
    bool const few = a.sizes.most_panels <= 3 * few_scorers * multiprocessors_of(exec);
    int const scorers = few ? few_scorers : decode_scorers;
    std::int64_t const of_head = ceil_divide(ceil_divide(a.sizes.most_panels, scorers), a.sizes.key_heads);
    auto const launch = [&](auto kernel) {
        launch_blocks("selection for decoded tokens", exec, kernel, of_head * a.sizes.key_heads,
                      decode_selection_memory::bytes(a.sizes), a,
                      {.threads = decode_threads(scorers),
                       .begins_early = true,
                       .memory = few ? memory_division::all_shared : memory_division::least_shared});
    };
    if (summary.storage == summary_storage::int8)
        launch(decode_selection_kernel<std::int8_t>);
    else
        launch(decode_selection_kernel<bfloat16>);
}

} // namespace spla::cuda
