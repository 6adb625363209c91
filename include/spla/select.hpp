// SPDX-FileCopyrightText: The spla authors
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once
#include "prefill.hpp"

#include <algorithm>
#include <cstdint>
#include <optional>
#include <type_traits>

namespace spla
{

/// The first rule that block_statistics() with these arguments violates, or nothing.
template <class Exec, tensor_view Key, class MemorySpace, class Metric, class FeatureMap>
std::optional<violation> check_block_statistics(Exec const&, Key const& key, sequence_state<MemorySpace> const& state,
                                                std::int64_t first, std::int64_t count,
                                                options<Metric, FeatureMap> const& o)
{
    static_assert(accessible_from<Exec, Key> && Kokkos::SpaceAccessibility<Exec, MemorySpace>::accessible,
                  "spla::block_statistics: key and the state must be accessible from the execution space");
    auto const k = detail::facts_of(key);
    state_layout const& layout = state.layout();
    problem p;
    p.batch = k.extent[0];
    p.keys = 0;
    p.query_heads = p.key_heads = k.extent[2];
    p.head_dim = k.extent[3];
    p.element = kind_of<element_t<typename Key::value_type>>();
    if (auto const found = check(p, o, "block_statistics")) return found;
    detail::rule_checker c("block_statistics");
    detail::require_contiguous(c, "key", k);
    detail::require_extents(c, "key", k, {layout.batch, k.extent[1], layout.key_heads, layout.head_dim});
    detail::require_state(c, state, p, o, detail::state_parts::summaries);
    std::int64_t const most = std::min(k.extent[1] / o.block, layout.blocks);
    c.require(first >= 0 && count >= 0 && first <= most && count <= most - first, rule_kind::shape, "first + count",
              static_cast<std::int64_t>(static_cast<std::uint64_t>(first) + static_cast<std::uint64_t>(count)),
              "complete blocks of key that the state has room for");
    auto const bytes = detail::facts_of(state.buffer());
    detail::memory_map().writes("state.buffer()", bytes).reads("key", k).require(c);
    return c.found();
}

/// The stage statistics alone: summaries of blocks [first, first + count) of `key` [batch, M, Hk, D] into the state.
/// Does not touch the linear state nor state.tokens; count blocks must be complete in key. state.summary_end grows
/// where they follow the blocks that have theirs. Nothing is done for
/// exact_mass. Complexity as the statistics of append().
/// @throws argument_error  (one of its kinds) what check_block_statistics() returns; nothing is written then
template <class Exec, tensor_view Key, class MemorySpace, class Metric, class FeatureMap>
void block_statistics(Exec const& exec, Key const& key, sequence_state<MemorySpace>& state, std::int64_t first,
                      std::int64_t count, options<Metric, FeatureMap> const& o)
{
    if (auto const found = check_block_statistics(exec, key, state, first, count, o)) throw_violation(*found);
    std::int64_t const batch = state.layout().batch;
    backend::make_statistics<Metric>(exec, detail::as_const(detail::tensor_of(key)), detail::summaries_of(state),
                                     detail::sequence_table{batch}, {batch, count}, batch * count, first, o.block,
                                     o.kept_keys);
    if (first <= state.summary_end) state.summary_end = std::max(state.summary_end, first + count);
}

/// The first rule that select() with these arguments violates, or nothing.
template <class Exec, tensor_view Query, tensor_view Key, class MemorySpace, class Indices, class Lengths, class Metric,
          class FeatureMap>
std::optional<violation> check_select(Exec const&, Query const& query, Key const& key,
                                      sequence_state<MemorySpace> const& state,
                                      block_list<Indices, Lengths> const& lists, options<Metric, FeatureMap> const& o)
{
    static_assert(accessible_from<Exec, Query, Key, Indices, Lengths> &&
                      Kokkos::SpaceAccessibility<Exec, MemorySpace>::accessible,
                  "spla::select: every view and the state must be accessible from the execution space");
    static_assert(detail::writable_list<Indices, Lengths>,
                  "spla::select: lists are views of int32, not of const int32");
    detail::attention_views views;
    views.query = detail::facts_of(query), views.key = views.value = detail::facts_of(key);
    problem const p = detail::describe(views, {}, kind_of<element_t<typename Query::value_type>>());
    if (auto const found = check(p, o, "select")) return found;
    detail::rule_checker c("select");
    window const bounds = window_of(o);
    detail::require_contiguous(c, "query", views.query);
    detail::require_extents(c, "key", views.key, {p.batch, p.keys, p.key_heads, p.head_dim});
    if (Metric::reads_keys) detail::require_contiguous(c, "key", views.key);
    detail::require_lists(c, "lists", detail::facts_of(lists.indices), detail::facts_of(lists.lengths), p,
                          tile_count(p.queries, p.keys, bounds.tile), o.top_k);
    detail::require_state(c, state, p, o, detail::state_parts::summaries);
    detail::require_shared_list(c, state, p, bounds, o.share.kind);
    if (!Metric::reads_keys) detail::require_summaries(c, state, p, bounds);
    auto const indices = detail::facts_of(lists.indices), lengths = detail::facts_of(lists.lengths);
    auto const bytes = detail::facts_of(state.buffer());
    detail::memory_map map;
    map.reads("query", views.query).reads("key", views.key).writes("lists", indices).writes("lists lengths", lengths);
    map.writes("state.buffer()", bytes).require(c);
    detail::require_kernels(c, detail::plan_of<Exec>("select", false, p, o, o.top_k));
    return c.found();
}

/// The stage selection alone: lists of the L queries [batch, L, Hq, D], the last of which sits at key position M - 1,
/// from the state's summaries (exact_mass: from `key` [batch, M, Hk, D], read by no other metric). lists: as
/// block_list, top_k entries each or more. With first_query sharing the state keeps the last list. O(n D) a query and
/// head for n competing blocks (a summary's vectors each; exact_mass: O(n B D)).
/// @throws argument_error  (one of its kinds) what check_select() returns; nothing is written then
template <class Exec, tensor_view Query, tensor_view Key, class MemorySpace, class Indices, class Lengths, class Metric,
          class FeatureMap>
void select(Exec const& exec, Query const& query, Key const& key, sequence_state<MemorySpace>& state,
            block_list<Indices, Lengths> const& lists, options<Metric, FeatureMap> const& o)
{
    using Element = element_t<typename Query::value_type>;
    static_assert(std::is_same_v<Element, element_t<typename Key::value_type>>,
                  "spla::select: query and key share one element type");
    if (auto const found = check_select(exec, query, key, state, lists, o)) throw_violation(*found);
    detail::attention_views views;
    views.query = detail::facts_of(query), views.key = views.value = detail::facts_of(key);
    problem const p = detail::describe(views, {}, kind_of<Element>());
    if (p.queries == 0 || p.batch == 0) return;
    auto const shape = detail::selection_shape_of(p, o, {p.batch, p.queries, p.keys});
    auto const list = detail::list_of(lists);
    backend::make_lists(exec, state, shape, list, [&](detail::summary_tensor const& summary) {
        backend::select_lists<Metric>(exec, detail::as_const(detail::tensor_of(query)),
                                      detail::as_const(detail::tensor_of(key)), summary, shape, list);
    });
}

} // namespace spla
