// SPDX-FileCopyrightText: The spla authors
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once
#include "backend/portable/copy_kernels.hpp"
#include "select.hpp"

/// The stages after selection, each alone, so that an engine can replace one: exact branch, residual branch,
/// combination.
namespace spla
{

namespace detail
{
template <class Exec, class Query, class Key, class Value, class Output, class State, class Metric, class FeatureMap,
          class Extras>
void run_branch(char const* name, Exec const& exec, Query const& query, Key const& key, Value const& value,
                Output const& output, State& state, options<Metric, FeatureMap> const& o, Extras extras, bool exact)
{
    using Element = element_t<typename Query::value_type>;
    problem const p = describe(query, key, value, extras);
    if (auto const found = check(p, o, name)) throw_violation(*found);
    rule_checker c(name);
    require_extents(c, "key", tensor_of(key), p.batch, p.keys, p.key_heads, p.head_dim);
    require_extents(c, "value", tensor_of(value), p.batch, p.keys, p.key_heads, p.value_dim);
    require_extents(c, "output", tensor_of(output), p.batch, p.queries, p.query_heads, p.value_dim);
    require_contiguous(c, "query", query);
    require_contiguous(c, "key", key);
    require_contiguous(c, "value", value);
    require_contiguous(c, "output", output);
    c.require(static_cast<bool>(extras.given), rule_kind::value, "extras.use_lists", "absent",
              "the lists of selected blocks");
    c.require(extras.given_tiles >= tile_count(p.queries, p.keys, window_of(o).tile), rule_kind::shape,
              "extras.use_lists tiles", extras.given_tiles,
              "at least " + std::to_string(tile_count(p.queries, p.keys, window_of(o).tile)));
    if (!exact)
    {
        require_state(c, state, p, o);
        std::int64_t const first = p.keys - p.queries;
        std::int64_t const end = window_of(o).state_end(first > 0 ? first : 0);
        c.require(state.tokens == p.keys, rule_kind::state, "key.extent(1)", p.keys,
                  std::to_string(state.tokens) + ", the state's tokens");
        c.require(end == state.state_end || end >= state.prefix_first, rule_kind::state, "query.extent(1)", p.queries,
                  "queries no further back than the last append, whose prefix states the state holds");
    }
    if (c.found()) throw_violation(*c.found());
    extras.sparse = {};
    extras.residual = {};
    options<Metric, FeatureMap> alone = o;
    alone.combine = combination_kind::separate;
    auto call = make_call(p, query, key, value, output, alone, extras);
    (exact ? call.out.sparse : call.out.residual) = output_of<Element>(output);
    call.how = make_plan<Exec>(name, false, p, o, extras.given.capacity);
    backend::attend_queries(exec, call, state, 0, p.queries, p.keys, alone, exact, !exact);
}
} // namespace detail

/// The exact branch alone over forced blocks and the given lists (extras.use_lists): output [batch, L, Hq, Dv], lse by
/// extras.return_lse. Needs no state.
template <class Exec, tensor_view Query, tensor_view Key, tensor_view Value, output_view Output, class Metric,
          class FeatureMap>
void selected_attention(Exec const& exec, Query const& query, Key const& key, Value const& value, Output const& output,
                        options<Metric, FeatureMap> const& o,
                        attention_extras<typename Query::non_const_value_type> const& extras)
{
    sequence_state<typename Exec::memory_space> none;
    detail::run_branch("selected_attention", exec, query, key, value, output, none, o, extras, true);
}

/// The residual branch alone: state minus the given lists (extras.use_lists). The state holds exactly key's tokens.
template <class Exec, tensor_view Query, tensor_view Key, tensor_view Value, output_view Output, class MemorySpace,
          class Metric, class FeatureMap>
void residual_attention(Exec const& exec, Query const& query, Key const& key, Value const& value, Output const& output,
                        sequence_state<MemorySpace> const& state, options<Metric, FeatureMap> const& o,
                        attention_extras<typename Query::non_const_value_type> const& extras)
{
    sequence_state<MemorySpace> view = state;
    detail::run_branch("residual_attention", exec, query, key, value, output, view, o, extras, false);
}

/// The combination alone (spec section 5): both branches [batch, L, Hq, Dv] into output; `o.combine` is rms_sum, sum or
/// sparse_only.
template <class Exec, output_view Sparse, output_view Residual, output_view Output, class Metric, class FeatureMap>
void combine(Exec const& exec, Sparse const& sparse, Residual const& residual, Output const& output,
             options<Metric, FeatureMap> const& o, attention_extras<typename Output::value_type> const& extras = {})
{
    using Element = element_t<typename Output::value_type>;
    using T = accumulator_t<Element>;
    auto const s = detail::tensor_of(sparse);
    detail::rule_checker c("combine");
    c.require(o.combine != combination_kind::separate, rule_kind::value, "combine", "separate",
              "rms_sum, sum or sparse_only");
    detail::require_extents(c, "residual", detail::tensor_of(residual), s.extent[0], s.extent[1], s.extent[2],
                            s.extent[3]);
    detail::require_extents(c, "output", detail::tensor_of(output), s.extent[0], s.extent[1], s.extent[2], s.extent[3]);
    detail::require_contiguous(c, "sparse", sparse);
    detail::require_contiguous(c, "residual", residual);
    detail::require_contiguous(c, "output", output);
    if (c.found()) throw_violation(*c.found());
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
