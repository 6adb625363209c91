// SPDX-FileCopyrightText: The spla authors
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once
#include "prefill.hpp"

#include <algorithm>
#include <cstdint>
#include <optional>

namespace spla
{

/// The first rule that decode() with these arguments violates, or nothing.
template <class Exec, tensor_view Query, tensor_view Key, tensor_view Value, output_view Output, class MemorySpace,
          class Metric, class FeatureMap, class Workspace>
std::optional<violation> check_decode(Exec const&, Query const& query, Key const& key, Value const& value,
                                      Output const& output, sequence_state<MemorySpace> const& state,
                                      options<Metric, FeatureMap> const& o, Workspace const& scratch,
                                      attention_extras<typename Query::non_const_value_type> const& extras = {})
{
    static_assert(detail::is_workspace<Workspace>, "spla::decode: the workspace is a view of std::byte*");
    static_assert(detail::all_accessible<Exec, MemorySpace, Workspace, Query, Key, Value, Output>,
                  "spla::decode: every view, the state and the workspace must be accessible from the execution space");
    auto const views = detail::views_of(query, key, value, output);
    problem const p =
        detail::describe(views, extras.facts.residual_key, kind_of<element_t<typename Query::value_type>>());
    if (auto const found = check(p, o, "decode")) return found;
    detail::rule_checker c("decode");
    auto const bytes = detail::facts_of(scratch);
    detail::require_attention(c, p, views, extras.facts, state, bytes, o, detail::runs_on_host<Exec>);
    c.require(state.tokens == p.keys, rule_kind::state, "key.extent(1)", p.keys,
              detail::phrase{state.tokens, ", the tokens that the state holds: append first"});
    c.require(p.queries <= o.segment_tokens, rule_kind::value, "query.extent(1)", p.queries,
              detail::phrase{"at most options.segment_tokens, ", o.segment_tokens});
    if (c.found()) return c.found();
    plan const how =
        detail::plan_of<Exec>("decode", true, p, o, std::max<std::int64_t>(extras.given.capacity, o.top_k));
    detail::require_kernels(c, how);
    detail::require_bytes(c, rule_kind::value, "workspace", bytes, how.workspace_bytes, " (plan.workspace_bytes)");
    return c.found();
}

/// SPLA attention of the last few tokens of every sequence, already appended: the visited blocks of a query are split
/// into fixed runs that are merged in ascending order, so that a single query fills the machine. On a Hopper up to 8
/// tokens have kernels of their own, where views are aligned to 16 bytes; plan_decode() says whether, and why not.
///
/// Shapes, errors and complexity as prefill(), with key and value exactly the state's tokens, so that nothing is
/// appended; L is at most options.segment_tokens, and the queries no further back than the last append, whose prefix
/// states the state holds. scratch: plan_decode().workspace_bytes, aligned to buffer_alignment.
/// @throws argument_error  (one of its kinds, see prefill()) what check_decode() returns; nothing is written then
template <class Exec, tensor_view Query, tensor_view Key, tensor_view Value, output_view Output, class MemorySpace,
          class Metric, class FeatureMap, class Workspace>
void decode(Exec const& exec, Query const& query, Key const& key, Value const& value, Output const& output,
            sequence_state<MemorySpace>& state, options<Metric, FeatureMap> const& o, Workspace const& scratch,
            attention_extras<typename Query::non_const_value_type> const& extras = {})
{
    if (auto const found = check_decode(exec, query, key, value, output, state, o, scratch, extras))
        throw_violation(*found);
    problem const p = detail::describe(detail::views_of(query, key, value, output), extras.facts.residual_key,
                                       kind_of<element_t<typename Query::value_type>>());
    auto call = detail::make_call(p, query, key, value, output, o, extras);
    detail::validate("decode", exec, call, p.keys, o);
    call.how = detail::plan_of<Exec>("decode", true, p, o, std::max<std::int64_t>(extras.given.capacity, o.top_k));
    backend::carve_workspace(call, scratch.data(), o);
    backend::attend_queries<true>(exec, call, state, 0, p.queries, p.keys, o, true,
                                  o.combine != combination_kind::sparse_only);
}

} // namespace spla
