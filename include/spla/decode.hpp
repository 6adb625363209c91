// SPDX-FileCopyrightText: The spla authors
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once
#include "prefill.hpp"

namespace spla
{

/// The first rule that decode() with these arguments violates, or nothing.
template <class Exec, tensor_view Query, tensor_view Key, tensor_view Value, output_view Output, class MemorySpace,
          class Metric, class FeatureMap, class Workspace>
std::optional<violation> check_decode(Exec const& exec, Query const& query, Key const& key, Value const& value,
                                      Output const& output, sequence_state<MemorySpace> const& state,
                                      options<Metric, FeatureMap> const& o, Workspace const& scratch,
                                      attention_extras<typename Query::non_const_value_type> const& extras = {})
{
    problem const p = detail::describe(query, key, value, extras);
    if (auto const found = detail::check_attention("decode", p, query, key, value, output, state, o, extras))
        return found;
    detail::rule_checker c("decode");
    c.require(state.tokens == p.keys, rule_kind::state, "key.extent(1)", p.keys,
              std::to_string(state.tokens) + ", the tokens that the state holds: append first");
    c.require(p.queries <= o.segment_tokens, rule_kind::value, "query.extent(1)", p.queries,
              "at most options.segment_tokens, " + std::to_string(o.segment_tokens));
    detail::require_workspace(c, scratch, plan_decode(exec, p, o, extras.given.capacity).workspace_bytes);
    return c.found();
}

/// SPLA attention of the last few tokens of every sequence, already appended: the visited blocks of a query are split
/// into fixed runs that are merged in ascending order, so that a single query fills the machine.
///
/// Shapes and rules as prefill(), with key and value exactly the state's tokens. scratch:
/// plan_decode().workspace_bytes.
/// @throws argument_error  what check_decode() returns; nothing is written then
template <class Exec, tensor_view Query, tensor_view Key, tensor_view Value, output_view Output, class MemorySpace,
          class Metric, class FeatureMap, class Workspace>
void decode(Exec const& exec, Query const& query, Key const& key, Value const& value, Output const& output,
            sequence_state<MemorySpace>& state, options<Metric, FeatureMap> const& o, Workspace const& scratch,
            attention_extras<typename Query::non_const_value_type> const& extras = {})
{
    static_assert(accessible_from<Exec, Query, Key, Value, Output> &&
                      Kokkos::SpaceAccessibility<Exec, MemorySpace>::accessible,
                  "spla::decode: every view and the state must be accessible from the execution space");
    if (auto const found = check_decode(exec, query, key, value, output, state, o, scratch, extras))
        throw_violation(*found);
    problem const p = detail::describe(query, key, value, extras);
    auto call = detail::make_call(p, query, key, value, output, o, extras);
    call.how = plan_decode(exec, p, o, extras.given.capacity);
    backend::carve_workspace(call, scratch.data(), o);
    backend::attend_queries(exec, call, state, 0, p.queries, p.keys, o, true,
                            o.combine != combination_kind::sparse_only);
}

} // namespace spla
