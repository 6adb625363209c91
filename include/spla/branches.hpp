// SPDX-FileCopyrightText: The spla authors
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once
#include "backend/portable/copy_kernels.hpp"
#include "select.hpp"
#include "stage_plans.hpp"

#include <cstdint>
#include <optional>

/// The stages after selection, each alone, so that an engine can replace one: exact branch, residual branch,
/// combination.
namespace spla
{

namespace detail
{
/// The stages compute one branch and combine nothing, whatever the options say of it.
template <class Metric, class FeatureMap>
options<Metric, FeatureMap> branch_alone(options<Metric, FeatureMap> o)
{
    o.combine = combination_kind::separate;
    return o;
}

/// Rules of both branches, beyond check(). No state: the exact branch. scratch: a workspace, or nothing.
template <class Exec, class MemorySpace, class Metric, class FeatureMap>
std::optional<violation> check_branch(char const* call, element_kind element, attention_views const& views,
                                      extras_facts const& extras, std::int64_t list_capacity,
                                      sequence_state<MemorySpace> const* state, options<Metric, FeatureMap> const& o,
                                      backend::branches wanted, view_facts const& scratch = {})
{
    problem const p = describe(views, extras.residual_key, element);
    if (auto const found = check(p, o, call)) return found;
    rule_checker c(call);
    window const bounds = window_of(o);
    // What was asked for and would not be written.
    char const* const not_here = "absent: the stage returns its branch alone, in output";
    c.require(!extras.sparse, rule_kind::value, "extras.return_branches", "given", not_here);
    c.require(!extras.returned_indices, rule_kind::value, "extras.return_lists", "given",
              "absent: the lists are given");
    if (state)
        c.require(!extras.lse, rule_kind::value, "extras.return_lse", "given", "absent: of the exact branch alone");
    require_views(c, p, views, true);
    c.require(static_cast<bool>(extras.given_indices), rule_kind::value, "extras.use_lists", "absent",
              "the lists of selected blocks");
    require_extras(c, p, extras, tile_count(p.queries, p.keys, bounds.tile), o.top_k, runs_on_host<Exec>);
    if (state)
    {
        c.require(state->layout().residual || state->layout().bytes == 0, rule_kind::state, "state.layout().residual",
                  "false", "true: a state that was not made for sparse_only");
        require_state(c, *state, p, branch_alone(o));
        c.require(state->tokens == p.keys, rule_kind::state, "key.extent(1)", p.keys,
                  phrase{state->tokens, ", the state's tokens"});
        require_prefix_states(c, *state, state->layout().slots, p, bounds);
        require_residual_source(c, *state, extras.residual_key, views.key, branch_alone(o));
    }
    view_facts const bytes = state ? facts_of(state->buffer()) : view_facts();
    require_memory(c, views, true, extras, bytes, scratch);
    if (c.found()) return c.found();
    plan const how = plan_of<Exec>(call, false, p, o, list_capacity, wanted);
    require_kernels(c, how);
    if (backend::has_workspace(wanted))
        require_bytes(c, rule_kind::value, "workspace", scratch, how.feature_bytes + how.branch_bytes,
                      " (plan.workspace_bytes)");
    return c.found();
}

template <class Exec, class Query, class Key, class Value, class Output, class State, class Metric, class FeatureMap,
          class Extras>
void run_branch(char const* name, Exec const& exec, Query const& query, Key const& key, Value const& value,
                Output const& output, State& state, options<Metric, FeatureMap> const& o, Extras extras,
                backend::branches wanted, std::byte* scratch = nullptr)
{
    bool const exact = backend::has_exact(wanted);
    using Element = element_t<typename Query::value_type>;
    problem const p = describe(views_of(query, key, value, output), extras.facts.residual_key, kind_of<Element>());
    extras.sparse = {};
    extras.residual = {};
    auto const alone = branch_alone(o);
    auto call = make_call(p, query, key, value, output, alone, extras);
    (exact ? call.out.sparse : call.out.residual) = output_of<Element>(output);
    validate(name, exec, call, p.keys, o);
    call.how = plan_of<Exec>(name, false, p, o, extras.given.capacity, wanted);
    if (call.how.feature_bytes > 0)
        call.features = backend::make_features<FeatureMap>(exec, call.residual_key, 0, p.keys, p.value_dim, scratch);
    if (call.how.branch_bytes > 0) call.between = {scratch + call.how.feature_bytes, call.how.branch_bytes};
    backend::attend_queries<false>(exec, call, state, 0, p.queries, p.keys, alone, exact, !exact);
}
} // namespace detail

/// The first rule that selected_attention() with these arguments violates, or nothing.
template <class Exec, tensor_view Query, tensor_view Key, tensor_view Value, output_view Output, class Metric,
          class FeatureMap>
std::optional<violation> check_selected_attention(Exec const&, Query const& query, Key const& key, Value const& value,
                                                  Output const& output, options<Metric, FeatureMap> const& o,
                                                  attention_extras<typename Query::non_const_value_type> const& extras)
{
    static_assert(accessible_from<Exec, Query, Key, Value, Output>,
                  "spla::selected_attention: every view must be accessible from the execution space");
    auto const views = detail::views_of(query, key, value, output);
    auto const element = kind_of<element_t<typename Query::value_type>>();
    sequence_state<typename Exec::memory_space> const* const none = nullptr;
    return detail::check_branch<Exec>("selected_attention", element, views, extras.facts, extras.given.capacity, none,
                                      o, backend::branches::exact_stage_without_workspace);
}

/// The same with a workspace.
template <class Exec, tensor_view Query, tensor_view Key, tensor_view Value, output_view Output, class Metric,
          class FeatureMap, class Workspace>
std::optional<violation> check_selected_attention(Exec const&, Query const& query, Key const& key, Value const& value,
                                                  Output const& output, options<Metric, FeatureMap> const& o,
                                                  attention_extras<typename Query::non_const_value_type> const& extras,
                                                  Workspace const& scratch)
{
    static_assert(detail::is_workspace<Workspace>, "spla::selected_attention: the workspace is a view of std::byte*");
    static_assert(accessible_from<Exec, Query, Key, Value, Output, Workspace>,
                  "spla::selected_attention: every view and the workspace must be accessible from the execution space");
    auto const views = detail::views_of(query, key, value, output);
    auto const element = kind_of<element_t<typename Query::value_type>>();
    sequence_state<typename Exec::memory_space> const* const none = nullptr;
    return detail::check_branch<Exec>("selected_attention", element, views, extras.facts, extras.given.capacity, none,
                                      o, backend::branches::exact_stage, detail::facts_of(scratch));
}

/// The exact branch alone over forced blocks and the given lists (extras.use_lists): query [batch, L, Hq, D], key
/// [batch, M, Hk, D], value [batch, M, Hk, Dv], output [batch, L, Hq, Dv], lse by extras.return_lse. Needs no state.
/// Complexity as the exact branch of prefill().
/// @throws argument_error  (one of its kinds) what check_selected_attention() returns; nothing is written then
template <class Exec, tensor_view Query, tensor_view Key, tensor_view Value, output_view Output, class Metric,
          class FeatureMap>
void selected_attention(Exec const& exec, Query const& query, Key const& key, Value const& value, Output const& output,
                        options<Metric, FeatureMap> const& o,
                        attention_extras<typename Query::non_const_value_type> const& extras)
{
    if (auto const found = check_selected_attention(exec, query, key, value, output, o, extras))
        throw_violation(*found);
    sequence_state<typename Exec::memory_space> none;
    detail::run_branch("selected_attention", exec, query, key, value, output, none, o, extras,
                       backend::branches::exact_stage_without_workspace);
}

/// The same with a workspace (plan_selected_attention()): tuned kernels, which keep there what tiles of queries visit,
/// are for calls that have one. On matrix units softmax weights are rounded to the elements' type before they meet
/// values (reference::matrix_rounding).
/// @throws argument_error  (one of its kinds) what check_selected_attention() returns; nothing is written then
template <class Exec, tensor_view Query, tensor_view Key, tensor_view Value, output_view Output, class Metric,
          class FeatureMap, class Workspace>
void selected_attention(Exec const& exec, Query const& query, Key const& key, Value const& value, Output const& output,
                        options<Metric, FeatureMap> const& o,
                        attention_extras<typename Query::non_const_value_type> const& extras, Workspace const& scratch)
{
    if (auto const found = check_selected_attention(exec, query, key, value, output, o, extras, scratch))
        throw_violation(*found);
    sequence_state<typename Exec::memory_space> none;
    detail::run_branch("selected_attention", exec, query, key, value, output, none, o, extras,
                       backend::branches::exact_stage, scratch.data());
}

/// The first rule that residual_attention() with these arguments violates, or nothing.
template <class Exec, tensor_view Query, tensor_view Key, tensor_view Value, output_view Output, class MemorySpace,
          class Metric, class FeatureMap>
std::optional<violation> check_residual_attention(Exec const&, Query const& query, Key const& key, Value const& value,
                                                  Output const& output, sequence_state<MemorySpace> const& state,
                                                  options<Metric, FeatureMap> const& o,
                                                  attention_extras<typename Query::non_const_value_type> const& extras)
{
    static_assert(accessible_from<Exec, Query, Key, Value, Output> &&
                      Kokkos::SpaceAccessibility<Exec, MemorySpace>::accessible,
                  "spla::residual_attention: every view and the state must be accessible from the execution space");
    auto const views = detail::views_of(query, key, value, output);
    auto const element = kind_of<element_t<typename Query::value_type>>();
    return detail::check_branch<Exec>("residual_attention", element, views, extras.facts, extras.given.capacity, &state,
                                      o, backend::branches::residual_stage_without_workspace);
}
/// The same with a workspace.
template <class Exec, tensor_view Query, tensor_view Key, tensor_view Value, output_view Output, class MemorySpace,
          class Metric, class FeatureMap, class Workspace>
std::optional<violation>
check_residual_attention(Exec const&, Query const& query, Key const& key, Value const& value, Output const& output,
                         sequence_state<MemorySpace> const& state, options<Metric, FeatureMap> const& o,
                         attention_extras<typename Query::non_const_value_type> const& extras, Workspace const& scratch)
{
    static_assert(detail::is_workspace<Workspace>, "spla::residual_attention: the workspace is a view of std::byte*");
    static_assert(detail::all_accessible<Exec, MemorySpace, Workspace, Query, Key, Value, Output>,
                  "spla::residual_attention: every view, the state and the workspace must be accessible from the "
                  "execution space");
    auto const views = detail::views_of(query, key, value, output);
    auto const element = kind_of<element_t<typename Query::value_type>>();
    return detail::check_branch<Exec>("residual_attention", element, views, extras.facts, extras.given.capacity, &state,
                                      o, backend::branches::residual_stage, detail::facts_of(scratch));
}

/// The residual branch alone: state minus the given lists (extras.use_lists). Shapes as selected_attention(). The state
/// holds exactly key's tokens and was not made for sparse_only; options.combine does not matter otherwise. Complexity
/// as the residual branch of prefill().
/// @throws argument_error  (one of its kinds) what check_residual_attention() returns; nothing is written then
template <class Exec, tensor_view Query, tensor_view Key, tensor_view Value, output_view Output, class MemorySpace,
          class Metric, class FeatureMap>
void residual_attention(Exec const& exec, Query const& query, Key const& key, Value const& value, Output const& output,
                        sequence_state<MemorySpace> const& state, options<Metric, FeatureMap> const& o,
                        attention_extras<typename Query::non_const_value_type> const& extras)
{
    if (auto const found = check_residual_attention(exec, query, key, value, output, state, o, extras))
        throw_violation(*found);
    sequence_state<MemorySpace> view = state;
    detail::run_branch("residual_attention", exec, query, key, value, output, view, o, extras,
                       backend::branches::residual_stage_without_workspace);
}

/// The same with a workspace (plan_residual_attention()): tuned kernels, which read phi of all keys from there, are for
/// calls that have one. On matrix units phi and what it is multiplied to are rounded to bf16
/// (reference::matrix_rounding).
/// @throws argument_error  (one of its kinds) what check_residual_attention() returns; nothing is written then
template <class Exec, tensor_view Query, tensor_view Key, tensor_view Value, output_view Output, class MemorySpace,
          class Metric, class FeatureMap, class Workspace>
void residual_attention(Exec const& exec, Query const& query, Key const& key, Value const& value, Output const& output,
                        sequence_state<MemorySpace> const& state, options<Metric, FeatureMap> const& o,
                        attention_extras<typename Query::non_const_value_type> const& extras, Workspace const& scratch)
{
    if (auto const found = check_residual_attention(exec, query, key, value, output, state, o, extras, scratch))
        throw_violation(*found);
    sequence_state<MemorySpace> view = state;
    detail::run_branch("residual_attention", exec, query, key, value, output, view, o, extras,
                       backend::branches::residual_stage, scratch.data());
}

/// The first rule that combine() with these arguments violates, or nothing.
template <class Exec, output_view Sparse, output_view Residual, output_view Output, class Metric, class FeatureMap>
std::optional<violation> check_combine(Exec const&, Sparse const& sparse, Residual const& residual,
                                       Output const& output, options<Metric, FeatureMap> const& o,
                                       attention_extras<typename Output::value_type> const& extras = {})
{
    static_assert(accessible_from<Exec, Sparse, Residual, Output>,
                  "spla::combine: every view must be accessible from the execution space");
    detail::rule_checker c("combine");
    auto const s = detail::facts_of(sparse), r = detail::facts_of(residual), out = detail::facts_of(output);
    detail::require_options(c, o);
    c.require(o.combine != combination_kind::separate, rule_kind::value, "combine", "separate",
              "rms_sum, sum or sparse_only");
    detail::require_extents(c, "residual", r, {s.extent[0], s.extent[1], s.extent[2], s.extent[3]});
    detail::require_extents(c, "output", out, {s.extent[0], s.extent[1], s.extent[2], s.extent[3]});
    detail::require_contiguous(c, "sparse", s);
    detail::require_contiguous(c, "residual", r);
    detail::require_contiguous(c, "output", out);
    detail::require_weights(c, extras.facts, s.extent[2], s.extent[3], detail::runs_on_host<Exec>);
    detail::memory_map map;
    map.writes("output", out).reads("sparse", s).reads("residual", r);
    detail::add_extras(map, extras.facts);
    map.require(c);
    return c.found();
}

/// The combination alone (spec section 5): both branches [batch, L, Hq, Dv] into output; `o.combine` is rms_sum, sum or
/// sparse_only. Weights by extras.norm_weights. O(Dv) a query and head.
/// @throws argument_error  (one of its kinds) what check_combine() returns; nothing is written then
template <class Exec, output_view Sparse, output_view Residual, output_view Output, class Metric, class FeatureMap>
void combine(Exec const& exec, Sparse const& sparse, Residual const& residual, Output const& output,
             options<Metric, FeatureMap> const& o, attention_extras<typename Output::value_type> const& extras = {})
{
    using Element = element_t<typename Output::value_type>;
    using T = accumulator_t<Element>;
    if (auto const found = check_combine(exec, sparse, residual, output, o, extras)) throw_violation(*found);
    auto const s = detail::tensor_of(sparse);
    portable::combine_kernel<Exec, Element> const kernel{
        detail::output_of<Element>(sparse),
        detail::output_of<Element>(residual),
        detail::output_of<Element>(output),
        {o.combine, static_cast<T>(o.epsilon), extras.sparse_weight, extras.residual_weight},
        s.extent[1],
        s.extent[2],
        static_cast<int>(s.extent[3])};
    portable::launch("spla::combine", exec, s.extent[0] * s.extent[1] * s.extent[2], 0, kernel);
}

} // namespace spla
