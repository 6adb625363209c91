// SPDX-FileCopyrightText: The spla authors
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once
#include "plan.hpp"

/// Plans of the stages that take a workspace of their own.
namespace spla
{

namespace detail
{
/// Of a stage that selects nothing: lists are given, or there are none.
template <class Exec, class Metric, class FeatureMap>
plan make_stage_plan(char const* call, problem const& p, options<Metric, FeatureMap> const& o,
                     std::int64_t list_capacity, backend::branches wanted)
{
    plan made = make_plan<Exec>(call, false, p, o, list_capacity, wanted);
    made.list_bytes = made.partial_bytes = made.summary_bytes = 0;
    made.workspace_bytes = made.feature_bytes + made.branch_bytes;
    made.selection = {};
    return made;
}
} // namespace detail

/// Plan of append() of p.queries tokens, called with a workspace: phi of the keys that enter the linear state, where a
/// tuned kernel sums them. Its residual stage is that of the states.
/// @throws argument_error  as plan_prefill()
template <class Exec, class Metric, class FeatureMap>
plan plan_append(Exec const&, problem const& p, options<Metric, FeatureMap> const& o)
{
    plan made = detail::make_stage_plan<Exec>("append", p, o, o.top_k, backend::branches::residual_stage);
    made.branch_bytes = 0, made.carried_tiles = 0;
    made.feature_bytes = made.workspace_bytes = backend::append_bytes<Exec>(p, o);
    if (made.feature_bytes > 0) made.residual = {true, true, ""};
    return made;
}

/// Plan of selected_attention() for these sizes, called with a workspace, which is for all queries at once (prefill()
/// has one for a segment's); list_capacity: entries of the given lists.
/// @throws argument_error  as plan_prefill()
template <class Exec, class Metric, class FeatureMap>
plan plan_selected_attention(Exec const&, problem const& p, options<Metric, FeatureMap> const& o,
                             std::int64_t list_capacity)
{
    return detail::make_stage_plan<Exec>("selected_attention", p, o, list_capacity, backend::branches::exact_stage);
}

/// Plan of residual_attention() for these sizes, called with a workspace: phi of all keys, and what waits between
/// kernels, where tuned ones run.
/// @throws argument_error  as plan_prefill()
template <class Exec, class Metric, class FeatureMap>
plan plan_residual_attention(Exec const&, problem const& p, options<Metric, FeatureMap> const& o,
                             std::int64_t list_capacity)
{
    return detail::make_stage_plan<Exec>("residual_attention", p, o, list_capacity, backend::branches::residual_stage);
}

} // namespace spla
