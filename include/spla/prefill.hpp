// SPDX-FileCopyrightText: The spla authors
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once
#include "backend/kernel_choice.hpp"

#include <algorithm>
#include <cstdint>
#include <optional>
#include <type_traits>

namespace spla
{

namespace detail
{
/// Rules that prefill and decode share, beyond check().
template <class MemorySpace, class Metric, class FeatureMap>
void require_attention(rule_checker& c, problem const& p, attention_views const& views, extras_facts const& extras,
                       sequence_state<MemorySpace> const& state, view_facts const& scratch,
                       options<Metric, FeatureMap> const& o, bool host)
{
    window const bounds = window_of(o);
    bool const residual = o.combine != combination_kind::sparse_only;
    require_views(c, p, views, o.combine != combination_kind::separate);
    c.require(o.combine != combination_kind::separate || extras.sparse, rule_kind::value, "extras.return_branches",
              "absent", "both branches' views with combination separate");
    c.require(residual || !extras.sparse, rule_kind::value, "extras.return_branches", "given with sparse_only",
              "absent: sparse_only has no residual branch, and its output is the exact branch");
    require_extras(c, p, extras, tile_count(p.queries, p.keys, bounds.tile), o.top_k, host);
    require_state(c, state, p, o);
    require_residual_source(c, state, extras.residual_key, views.key, o);
    c.require(state.tokens <= p.keys, rule_kind::state, "key.extent(1)", p.keys,
              phrase{"at least the state's ", state.tokens, " tokens"});
    if (c.found()) return;
    if (state.tokens < p.keys)
        c.require(p.keys - p.queries >= state.tokens || state.tokens == 0, rule_kind::state, "query.extent(1)",
                  p.queries, phrase{"at most ", p.keys - state.tokens, ", the tokens that this call appends"});
    else if (residual)
        require_prefix_states(c, state, state.layout().slots, p, bounds);
    if (!extras.given_indices) require_shared_list(c, state, p, bounds, o.share.kind);
    require_memory(c, views, o.combine != combination_kind::separate, extras, facts_of(state.buffer()), scratch);
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

/// Checked mode of an attention call: the caller's lists, and the tokens that the call appends, from `first` on.
template <class Exec, class Element, class Metric, class FeatureMap>
void validate(char const* name, Exec const& exec, backend::attention_call<Element> const& call, std::int64_t first,
              options<Metric, FeatureMap> const& o)
{
    if (!o.checked) return;
    rule_checker c(name);
    problem const& p = call.sizes;
    window const bounds = window_of(o);
    if (call.given)
    {
        std::int64_t const lists = tile_count(p.queries, p.keys, bounds.tile);
        portable::require_valid_lists(c, exec, call.given, bounds, p.key_heads, {p.batch, p.queries, p.keys},
                                      {p.batch, lists}, p.batch * lists);
    }
    portable::require_finite(c, exec, "key", call.key.from_token(first, p.keys - first), first);
    portable::require_finite(c, exec, "value", call.value.from_token(first, p.keys - first), first);
    if (call.residual_key.data != call.key.data)
        portable::require_finite(c, exec, "residual_key", call.residual_key.from_token(first, p.keys - first), first);
    c.throw_if_found();
}

template <class Query, class Key, class Value, class Output>
attention_views views_of(Query const& query, Key const& key, Value const& value, Output const& output)
{
    return {facts_of(query), facts_of(key), facts_of(value), facts_of(output)};
}

template <class Exec, class MemorySpace, class Workspace, class... Views>
inline constexpr bool all_accessible =
    accessible_from<Exec, Views..., Workspace>&& Kokkos::SpaceAccessibility<Exec, MemorySpace>::accessible;
} // namespace detail

/// The first rule that prefill() with these arguments violates, or nothing.
template <class Exec, tensor_view Query, tensor_view Key, tensor_view Value, output_view Output, class MemorySpace,
          class Metric, class FeatureMap, class Workspace>
std::optional<violation> check_prefill(Exec const&, Query const& query, Key const& key, Value const& value,
                                       Output const& output, sequence_state<MemorySpace> const& state,
                                       options<Metric, FeatureMap> const& o, Workspace const& scratch,
                                       attention_extras<typename Query::non_const_value_type> const& extras = {})
{
    static_assert(detail::is_workspace<Workspace>, "spla::prefill: the workspace is a view of std::byte*");
    static_assert(detail::all_accessible<Exec, MemorySpace, Workspace, Query, Key, Value, Output>,
                  "spla::prefill: every view, the state and the workspace must be accessible from the execution space");
    auto const views = detail::views_of(query, key, value, output);
    problem const p =
        detail::describe(views, extras.facts.residual_key, kind_of<element_t<typename Query::value_type>>());
    if (auto const found = check(p, o, "prefill")) return found;
    detail::rule_checker c("prefill");
    auto const bytes = detail::facts_of(scratch);
    detail::require_attention(c, p, views, extras.facts, state, bytes, o, detail::runs_on_host<Exec>);
    if (c.found()) return c.found();
    plan const how =
        detail::plan_of<Exec>("prefill", false, p, o, std::max<std::int64_t>(extras.given.capacity, o.top_k));
    detail::require_kernels(c, how);
    detail::require_bytes(c, rule_kind::value, "workspace", bytes, how.workspace_bytes, " (plan.workspace_bytes)");
    return c.found();
}

/// SPLA attention of L queries, the last of M tokens, over all M keys so far: a whole prompt, or a chunk after earlier
/// ones.
///
/// Shapes: query [batch, L, Hq, D], key [batch, M, Hk, D], value [batch, M, Hk, Dv], output [batch, L, Hq, Dv]; any
/// strides, last dimension contiguous; Hq a multiple of Hk; query head h uses key head h / (Hq / Hk); query i sits at
/// key position i + M - L. output overlaps none of the inputs. Tokens that the state does not hold yet (state.tokens <
/// M) are appended by this call, in segments of options.segment_tokens; the queries must then be among them. Results
/// do not depend on the segments: they end where tiles of shared lists and blocks end (on matrix units within their
/// bound: how far a sum is carried from tile to tile follows from a segment's queries). A query that may see no key
/// gets zeros (lse: -infinity). Work goes to `exec` in order; after warm_up() nothing is fenced or allocated. scratch:
/// plan_prefill().workspace_bytes, aligned to buffer_alignment. extras: see attention_extras; its views, too, are
/// reached from the execution space.
///
/// Complexity, a query: O(n D) a head for selection among n competing blocks (a summary's vectors each), O((top_k +
/// local_blocks + sink_blocks) B (D + Dv)) a head for the exact branch, O(F Dv) a head for the state and O(top_k B (F +
/// Dv)) to subtract what is selected. Tokens that are appended cost what append() costs.
/// @throws shape_error  where extents disagree
/// @throws value_error  where options, workspace or extras are out of their range, or output overlaps an input
/// @throws unsupported_error  for strides, sizes or memory that no kernel handles
/// @throws state_error  where the state was made for other sizes or options, or does not hold what the queries need
///
/// All are argument_error and carry what check_prefill(), or checked mode (options.checked), finds; nothing is written
/// then.
template <class Exec, tensor_view Query, tensor_view Key, tensor_view Value, output_view Output, class MemorySpace,
          class Metric, class FeatureMap, class Workspace>
void prefill(Exec const& exec, Query const& query, Key const& key, Value const& value, Output const& output,
             sequence_state<MemorySpace>& state, options<Metric, FeatureMap> const& o, Workspace const& scratch,
             attention_extras<typename Query::non_const_value_type> const& extras = {})
{
    using Element = element_t<typename Query::value_type>;
    if (auto const found = check_prefill(exec, query, key, value, output, state, o, scratch, extras))
        throw_violation(*found);
    problem const p =
        detail::describe(detail::views_of(query, key, value, output), extras.facts.residual_key, kind_of<Element>());
    auto call = detail::make_call(p, query, key, value, output, o, extras);
    detail::validate("prefill", exec, call, state.tokens, o);
    call.how = detail::plan_of<Exec>("prefill", false, p, o, std::max<std::int64_t>(extras.given.capacity, o.top_k));
    backend::carve_workspace(call, scratch.data(), o);
    bool const residual = o.combine != combination_kind::sparse_only;
    if (call.feature_memory)
        call.features =
            backend::make_features<FeatureMap>(exec, call.residual_key, 0, p.keys, p.value_dim, call.feature_memory);
    std::int64_t const segment = o.segment_tokens;
    // A tile's list may depend on all queries of the tile that a part holds, so no part ends inside a tile. Block and
    // tile divide one another: multiples of the larger end both.
    std::int64_t const whole = std::max<std::int64_t>(o.block, window_of(o).tile);
    std::int64_t const first = p.keys - p.queries;
    std::int64_t done = 0; // queries attended so far
    auto const attend = [&](std::int64_t count) {
        std::int64_t const end = first + done + count;
        backend::attend_queries<false>(exec, call, state, done, count, end, o, true, residual);
        done += count;
    };
    // Queries before position 0 are parts of their own: counted among others, they would move where those end.
    while (first + done < 0 && done < p.queries) attend(std::min(segment, std::min(-(first + done), p.queries - done)));
    for (std::int64_t at = state.tokens == p.keys ? std::max<std::int64_t>(first, 0) : state.tokens;;)
    {
        std::int64_t const end = std::min((at + segment) / whole * whole, p.keys); // a segment is no shorter than whole
        if (end > state.tokens)
            detail::advance_state<Exec, Element>(exec, state, call.key, call.value, call.residual_key, end, o,
                                                 &call.features);
        if (end - first > done) attend(end - first - done);
        if (end == p.keys) break;
        at = end;
    }
}

} // namespace spla
