// SPDX-FileCopyrightText: The spla authors
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once
#include "backend/kernel_choice.hpp"

namespace spla
{

namespace detail
{
/// Sizes of an attention call from its views.
template <class Query, class Key, class Value, class Extras>
problem describe(Query const& query, Key const& key, Value const& value, Extras const& extras)
{
    problem p;
    p.batch = static_cast<std::int64_t>(query.extent(0));
    p.queries = static_cast<std::int64_t>(query.extent(1));
    p.keys = static_cast<std::int64_t>(key.extent(1));
    p.query_heads = static_cast<std::int64_t>(query.extent(2));
    p.key_heads = static_cast<std::int64_t>(key.extent(2));
    p.head_dim = static_cast<std::int64_t>(query.extent(3));
    p.value_dim = static_cast<std::int64_t>(value.extent(3));
    p.residual_dim = extras.residual_key ? extras.residual_key.extent[3] : 0;
    p.element = kind_of<element_t<typename Query::value_type>>();
    return p;
}

/// Rules that prefill and decode share.
template <class Query, class Key, class Value, class Output, class State, class Extras, class Metric, class FeatureMap>
std::optional<violation> check_attention(char const* call, problem const& p, Query const& query, Key const& key,
                                         Value const& value, Output const& output, State const& state,
                                         options<Metric, FeatureMap> const& o, Extras const& extras)
{
    if (auto const found = check(p, o, call)) return found;
    rule_checker c(call);
    require_contiguous(c, "query", query);
    require_contiguous(c, "key", key);
    require_contiguous(c, "value", value);
    require_contiguous(c, "output", output);
    require_extents(c, "key", tensor_of(key), p.batch, p.keys, p.key_heads, p.head_dim);
    require_extents(c, "value", tensor_of(value), p.batch, p.keys, p.key_heads, p.value_dim);
    if (o.combine != combination_kind::separate)
        require_extents(c, "output", tensor_of(output), p.batch, p.queries, p.query_heads, p.value_dim);
    if (extras.residual_query || extras.residual_key)
    {
        require_extents(c, "residual_query", extras.residual_query, p.batch, p.queries, p.query_heads,
                        p.residual_width());
        require_extents(c, "residual_key", extras.residual_key, p.batch, p.keys, p.key_heads, p.residual_width());
    }
    c.require(o.combine != combination_kind::separate || (extras.sparse && extras.residual), rule_kind::value,
              "extras.return_branches", "absent", "both branches' views with combination separate");
    std::int64_t const branch[4] = {p.batch, p.queries, p.query_heads, p.value_dim};
    bool same = true;
    for (int i = 0; i < 4; ++i) same = same && (!extras.sparse || extras.branch_extent[i] == branch[i]);
    c.require(same, rule_kind::shape, "extras.return_branches", extents(extras.branch_extent), extents(branch));
    c.require(!extras.lse || (extras.lse_extent[0] == p.batch && extras.lse_extent[1] == p.queries &&
                              extras.lse_extent[2] == p.query_heads),
              rule_kind::shape, "extras.return_lse",
              std::to_string(extras.lse_extent[0]) + " x " + std::to_string(extras.lse_extent[1]) + " x " +
                  std::to_string(extras.lse_extent[2]),
              "[batch, queries, query_heads]");
    c.require(!extras.sparse_weight.data ||
                  (extras.weight_extent[0] == p.query_heads && extras.weight_extent[1] == p.value_dim),
              rule_kind::shape, "extras.norm_weights",
              std::to_string(extras.weight_extent[0]) + " x " + std::to_string(extras.weight_extent[1]),
              "[query_heads, value_dim], both alike");
    std::int64_t const tiles = tile_count(p.queries, p.keys, window_of(o).tile);
    c.require(!extras.given || extras.given_tiles >= tiles, rule_kind::shape, "extras.use_lists tiles",
              extras.given_tiles, "at least " + std::to_string(tiles));
    c.require(!extras.returned || extras.returned_tiles >= tiles, rule_kind::shape, "extras.return_lists tiles",
              extras.returned_tiles, "at least " + std::to_string(tiles));
    c.require(!extras.returned || extras.returned.capacity >= o.top_k, rule_kind::shape, "extras.return_lists entries",
              extras.returned.capacity, "at least top_k, " + std::to_string(o.top_k));
    c.require(!extras.given || !extras.returned, rule_kind::value, "extras.return_lists", "given beside use_lists",
              "one of the two");
    require_state(c, state, p, o);
    c.require(state.tokens <= p.keys, rule_kind::state, "key.extent(1)", p.keys,
              "at least the state's " + std::to_string(state.tokens) + " tokens");
    if (c.found()) return c.found();

    window const bounds = window_of(o);
    std::int64_t const first = p.keys - p.queries; // position of the first query
    if (state.tokens < p.keys)
        c.require(first >= state.tokens || state.tokens == 0, rule_kind::state, "query.extent(1)", p.queries,
                  "at most " + std::to_string(p.keys - state.tokens) + ", the tokens that this call appends");
    else if (o.combine != combination_kind::sparse_only && p.queries > 0 && p.keys > 0)
    {
        std::int64_t const end = bounds.state_end(first > 0 ? first : 0);
        c.require(end == state.state_end || end >= state.prefix_first, rule_kind::state, "query.extent(1)", p.queries,
                  "queries no further back than the last append, whose prefix states the state holds");
    }
    if (o.share.kind == sharing_kind::first_query && !extras.given && first > 0 && first % bounds.tile != 0 &&
        p.queries > 0)
        c.require(state.shared_tile == first / bounds.tile, rule_kind::state, "state.shared_tile", state.shared_tile,
                  std::to_string(first / bounds.tile) +
                      ": a call that starts inside a tile needs the list that the tile's first query made");
    return c.found();
}

template <class Query, class Key, class Value, class Output, class Extras, class Metric, class FeatureMap>
auto make_call(problem const& p, Query const& query, Key const& key, Value const& value, Output const& output,
               options<Metric, FeatureMap> const& o, Extras const& extras)
{
    using Element = element_t<typename Query::value_type>;
    static_assert(std::is_same_v<Element, element_t<typename Key::value_type>> &&
                      std::is_same_v<Element, element_t<typename Value::value_type>>,
                  "spla: query, key and value share one element type");
    backend::attention_call<Element> call;
    call.query = as_const(tensor_of(query));
    call.key = as_const(tensor_of(key));
    call.value = as_const(tensor_of(value));
    call.residual_query = extras.residual_query ? extras.residual_query : call.query;
    call.residual_key = extras.residual_key ? extras.residual_key : call.key;
    if (o.combine != combination_kind::separate) call.out.output = output_of<Element>(output);
    call.out.sparse = extras.sparse;
    call.out.residual = extras.residual;
    call.out.lse = extras.lse;
    for (int i = 0; i < 3; ++i) call.out.lse_stride[i] = extras.lse_stride[i];
    call.out.rule = {o.combine, static_cast<accumulator_t<Element>>(o.epsilon), extras.sparse_weight,
                     extras.residual_weight};
    call.given = extras.given;
    call.returned = extras.returned;
    call.sizes = p;
    return call;
}
} // namespace detail

/// The first rule that prefill() with these arguments violates, or nothing.
template <class Exec, tensor_view Query, tensor_view Key, tensor_view Value, output_view Output, class MemorySpace,
          class Metric, class FeatureMap, class Workspace>
std::optional<violation> check_prefill(Exec const& exec, Query const& query, Key const& key, Value const& value,
                                       Output const& output, sequence_state<MemorySpace> const& state,
                                       options<Metric, FeatureMap> const& o, Workspace const& scratch,
                                       attention_extras<typename Query::non_const_value_type> const& extras = {})
{
    problem const p = detail::describe(query, key, value, extras);
    if (auto const found = detail::check_attention("prefill", p, query, key, value, output, state, o, extras))
        return found;
    detail::rule_checker c("prefill");
    detail::require_workspace(c, scratch, plan_prefill(exec, p, o).workspace_bytes);
    return c.found();
}

/// SPLA attention of L queries, the last of M tokens, over all M keys so far: a whole prompt, or a chunk after earlier
/// ones.
///
/// Shapes: query [batch, L, Hq, D], key [batch, M, Hk, D], value [batch, M, Hk, Dv], output [batch, L, Hq, Dv]; any
/// strides, last dimension contiguous; Hq a multiple of Hk; query head h uses key head h / (Hq / Hk); query i sits at
/// key position i + M - L. Tokens that the state does not hold yet (state.tokens < M) are appended by this call, in
/// segments of options.segment_tokens; the queries must then be among them. A query that may see no key gets zeros
/// (lse: -infinity). Work goes to `exec` in order; after warm_up() nothing is fenced or allocated. scratch:
/// plan_prefill().workspace_bytes.
/// @throws argument_error  what check_prefill() returns; nothing is written then
template <class Exec, tensor_view Query, tensor_view Key, tensor_view Value, output_view Output, class MemorySpace,
          class Metric, class FeatureMap, class Workspace>
void prefill(Exec const& exec, Query const& query, Key const& key, Value const& value, Output const& output,
             sequence_state<MemorySpace>& state, options<Metric, FeatureMap> const& o, Workspace const& scratch,
             attention_extras<typename Query::non_const_value_type> const& extras = {})
{
    static_assert(accessible_from<Exec, Query, Key, Value, Output> &&
                      Kokkos::SpaceAccessibility<Exec, MemorySpace>::accessible,
                  "spla::prefill: every view and the state must be accessible from the execution space");
    using Element = element_t<typename Query::value_type>;
    if (auto const found = check_prefill(exec, query, key, value, output, state, o, scratch, extras))
        throw_violation(*found);
    problem const p = detail::describe(query, key, value, extras);
    auto call = detail::make_call(p, query, key, value, output, o, extras);
    call.how = plan_prefill(exec, p, o);
    backend::carve_workspace(call, scratch.data(), o);
    bool const residual = o.combine != combination_kind::sparse_only;
    std::int64_t const whole =
        std::max<std::int64_t>(o.block, window_of(o).tile); // segments end at tile and block ends
    std::int64_t const first = p.keys - p.queries;
    std::int64_t const held = state.tokens;
    std::int64_t done = 0; // queries attended so far
    for (std::int64_t at = held == p.keys ? std::max<std::int64_t>(first, 0) : held;;)
    {
        std::int64_t const reach = (at + o.segment_tokens) / whole * whole;
        std::int64_t const end = std::min(reach > at ? reach : at + o.segment_tokens, p.keys);
        if (end > state.tokens)
            detail::advance_state<Exec, Element>(exec, state, call.key, call.value, call.residual_key, end, o);
        std::int64_t const queries = end - first - done;
        if (queries > 0)
        {
            // Blind queries (before position 0) may make the first part longer than a segment.
            for (std::int64_t part = 0; part < queries;)
            {
                std::int64_t const count = std::min<std::int64_t>(queries - part, o.segment_tokens);
                backend::attend_queries(exec, call, state, done + part, count, first + done + part + count, o, true,
                                        residual);
                part += count;
            }
            done += queries;
        }
        if (end == p.keys) break;
        at = end;
    }
}

} // namespace spla
