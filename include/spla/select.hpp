// SPDX-FileCopyrightText: The spla authors
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once
#include "prefill.hpp"

namespace spla
{

/// The stage statistics alone: summaries of blocks [first, first + count) of `key` [batch, M, Hk, D] into the state.
/// Does not touch the linear state nor state.tokens; count blocks must be complete in key. Nothing is done for
/// exact_mass.
/// @throws argument_error  where the blocks are not complete, or the state is of other sizes
template <class Exec, tensor_view Key, class MemorySpace, class Metric, class FeatureMap>
void block_statistics(Exec const& exec, Key const& key, sequence_state<MemorySpace> const& state, std::int64_t first,
                      std::int64_t count, options<Metric, FeatureMap> const& o)
{
    auto const k = detail::as_const(detail::tensor_of(key));
    auto const& layout = state.layout();
    detail::rule_checker c("block_statistics");
    detail::require_contiguous(c, "key", key);
    detail::require_extents(c, "key", k, layout.batch, k.extent[1], layout.key_heads, layout.head_dim);
    c.require(first >= 0 && count >= 0 && (first + count) * o.block <= k.extent[1] && first + count <= layout.blocks,
              rule_kind::shape, "first + count", first + count, "complete blocks of key that the state has room for");
    if (c.found()) throw_violation(*c.found());
    portable::make_statistics<Metric>(exec, k, detail::summaries_of(state), layout.batch, first, count, o.block,
                                      o.kept_keys);
}

/// The stage selection alone: lists of the L queries, the last of which sits at key position keys - 1, from the state's
/// summaries (exact_mass: from `key` [batch, M, Hk, D], read by no other metric; M = keys). With first_query sharing
/// the state keeps the last list.
/// @throws argument_error  where sizes, state or lists do not fit
template <class Exec, tensor_view Query, tensor_view Key, class MemorySpace, class Indices, class Lengths, class Metric,
          class FeatureMap>
void select(Exec const& exec, Query const& query, Key const& key, sequence_state<MemorySpace>& state,
            block_list<Indices, Lengths> const& lists, options<Metric, FeatureMap> const& o)
{
    using Element = element_t<typename Query::value_type>;
    problem p = detail::describe(query, key, key, attention_extras<Element>{});
    if (auto const found = check(p, o, "select")) throw_violation(*found);
    auto const list = detail::list_of(lists);
    detail::rule_checker c("select");
    detail::require_contiguous(c, "query", query);
    detail::require_extents(c, "key", detail::tensor_of(key), p.batch, p.keys, p.key_heads, p.head_dim);
    window const bounds = window_of(o);
    std::int64_t const tiles = tile_count(p.queries, p.keys, bounds.tile);
    c.require(static_cast<std::int64_t>(lists.indices.extent(1)) >= tiles && list.capacity >= o.top_k, rule_kind::shape,
              "lists.indices", std::to_string(lists.indices.extent(1)) + " tiles of " + std::to_string(list.capacity),
              "at least " + std::to_string(tiles) + " tiles of top_k, " + std::to_string(o.top_k));
    c.require(p.keys / o.block <= state.layout().blocks, rule_kind::state, "state capacity in blocks",
              state.layout().blocks, "at least " + std::to_string(p.keys / o.block));
    std::int64_t const first = p.keys - p.queries;
    if (o.share.kind == sharing_kind::first_query && first > 0 && first % bounds.tile != 0)
        c.require(state.shared_tile == first / bounds.tile, rule_kind::state, "state.shared_tile", state.shared_tile,
                  std::to_string(first / bounds.tile) +
                      ": a call that starts inside a tile needs the list that the tile's first query made");
    if (c.found()) throw_violation(*c.found());
    if (p.queries == 0 || p.batch == 0) return;
    backend::make_lists<Exec, Element>(exec, detail::as_const(detail::tensor_of(query)),
                                       detail::as_const(detail::tensor_of(key)), state,
                                       backend::selection_shape_of(p, p.queries, p.keys, o), list, o);
}

} // namespace spla
