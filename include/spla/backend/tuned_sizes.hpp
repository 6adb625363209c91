// SPDX-FileCopyrightText: The spla authors
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once
#include "tuned_coverage.hpp"

/// What the kernels that are not portable need of a call: memory, and of a step's schedule.
namespace spla::backend
{

/// Bytes of the features of a call's keys.
template <class FeatureMap>
std::size_t feature_bytes([[maybe_unused]] problem const& p)
{
#if defined(SPLA_HOPPER_KERNELS)
    std::int64_t const row = cuda::feature_halves<FeatureMap> *
                             cuda::padded_width(static_cast<int>(p.residual_width()), static_cast<int>(p.value_dim));
    return static_cast<std::size_t>(p.batch * p.keys * p.key_heads * row) * sizeof(bfloat16);
#else
    return 0;
#endif
}

/// Keys whose blocks enter a linear state with so many new tokens, at most.
inline std::int64_t most_entering_tokens(window const& bounds, std::int64_t tokens)
{
    return (ceil_divide(tokens, bounds.block) + ceil_divide(bounds.tile, bounds.block) + 1) * bounds.block;
}
/// Workspace of an append of p.queries tokens: phi of the keys that enter the state, where tuned kernels read it.
template <class Exec, class Metric, class FeatureMap>
std::size_t append_bytes(problem p, options<Metric, FeatureMap> const& o)
{
    if (o.combine == combination_kind::sparse_only ||
        !rounds_features<Exec, FeatureMap>(p.element, p.residual_width(), p.value_dim, o.block))
        return 0;
    p.keys = most_entering_tokens(window_of(o), p.queries);
    return feature_bytes<FeatureMap>(p);
}

/// What lies between the branches' kernels of a call; lists have at most list_capacity entries.
struct branch_facts
{
    std::size_t bytes = 0;
    int carried_tiles = 0; ///< neighbouring tiles of queries, at most, whose residuals share a sum; 0: none
    int tile_tokens = 0;   ///< of a tile of rows
    int base_tokens = 0;   ///< of a tile whose residual starts from a sum that is carried; 0: none
};
/// tokens: queries of all sequences of variable lengths together; 0: of a fixed batch.
inline branch_facts facts_of_branches([[maybe_unused]] portable::attention_shape const& shape,
                                      [[maybe_unused]] std::int64_t list_capacity,
                                      [[maybe_unused]] std::int64_t tokens = 0)
{
#if defined(SPLA_HOPPER_KERNELS)
    auto sizes = cuda::sizes_of(shape, list_capacity);
    if (tokens > 0) sizes.tokens = tokens;
    auto const l = cuda::branch_layout::of(sizes);
    return {l.bytes, l.base.tokens > 0 ? l.base.chain : 0, l.tile_tokens, l.base.tokens};
#else
    return {};
#endif
}

/// Lists that a tuned selection makes at a time.
inline int lists_of_tuned_item([[maybe_unused]] portable::selection_shape const& shape)
{
#if defined(SPLA_HOPPER_KERNELS)
    return cuda::lists_of_item(cuda::selection_sizes_of(shape, 1, 1));
#else
    return 0;
#endif
}

/// What a tuned selection for decoded tokens needs: bytes of workspace, and of a step's schedule, its counters being in
/// that workspace (or none, where it is not there yet).
struct decode_selection_facts
{
    std::size_t bytes = 0;
    portable::cleared_counters counters;
};
template <class Metric>
decode_selection_facts facts_of_decode_selection([[maybe_unused]] portable::selection_shape const& shape,
                                                 [[maybe_unused]] detail::summary_tensor const& summary,
                                                 [[maybe_unused]] std::int64_t few_queries,
                                                 [[maybe_unused]] std::byte* memory)
{
    decode_selection_facts made;
#if defined(SPLA_HOPPER_KERNELS)
    auto const sizes = cuda::decode_selection_sizes_of<Metric>(shape, summary.vectors, few_queries);
    auto const layout = cuda::decode_selection_layout::of(sizes);
    made.bytes = layout.bytes;
    if (memory) made.counters = {reinterpret_cast<std::int32_t*>(memory + layout.finished), layout.items};
#endif
    return made;
}

/// What attention of at most so many decoded tokens needs: memory, and which counters in it are to be cleared before.
inline std::size_t decode_attention_bytes([[maybe_unused]] portable::attention_shape const& shape,
                                          [[maybe_unused]] std::int64_t list_capacity,
                                          [[maybe_unused]] std::int64_t tokens)
{
#if defined(SPLA_HOPPER_KERNELS)
    return cuda::decode_bytes(shape, list_capacity, tokens);
#else
    return 0;
#endif
}
inline portable::cleared_counters decode_counters([[maybe_unused]] portable::attention_shape const& shape,
                                                  [[maybe_unused]] std::int64_t list_capacity,
                                                  [[maybe_unused]] std::int64_t tokens,
                                                  [[maybe_unused]] std::byte* memory)
{
#if defined(SPLA_HOPPER_KERNELS)
    cuda::decode_places const places(cuda::decode_shape_of(shape, list_capacity), tokens);
    return {reinterpret_cast<std::int32_t*>(memory), places.items};
#else
    return {};
#endif
}

/// Workspace of decode() of a fixed batch: its selection's masses, then runs that wait to be merged; nothing of a stage
/// that is portable.
struct tuned_decode_sizes
{
    std::size_t masses = 0, runs = 0;

    std::size_t bytes() const { return masses + runs; }
};

template <class Metric>
tuned_decode_sizes tuned_decode_sizes_of(bool selects, bool attends, portable::selection_shape const& selection,
                                         detail::summary_tensor const& summary,
                                         portable::attention_shape const& attention, std::int64_t list_capacity)
{
    detail::sequence_table const& all = attention.sequences;
    tuned_decode_sizes made;
    if (selects) made.masses = facts_of_decode_selection<Metric>(selection, summary, all.queries, nullptr).bytes;
    if (attends) made.runs = decode_attention_bytes(attention, list_capacity, all.count * all.queries);
    return made;
}

/// Bytes of a copy of so many blocks' summaries, as tuned kernels take them.
inline std::size_t copied_summary_bytes([[maybe_unused]] detail::summary_tensor const& summary,
                                        [[maybe_unused]] std::int64_t blocks)
{
#if defined(SPLA_HOPPER_KERNELS)
    return cuda::gathered_summaries::bytes(summary, blocks);
#else
    return 0;
#endif
}

} // namespace spla::backend
