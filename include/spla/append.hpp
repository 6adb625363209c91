// SPDX-FileCopyrightText: The spla authors
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once
#include "algorithm/view_rules.hpp"
#include "backend/portable/copy_kernels.hpp"
#include "backend/portable/state_kernel.hpp"
#include "backend/portable/statistics_kernel.hpp"
#include "backend/portable/validation_kernel.hpp"
#include "backend/tuned_kernels.hpp"

#include <algorithm>
#include <cstdint>
#include <optional>
#include <type_traits>

namespace spla
{

namespace detail
{
/// Statistics of the blocks that tokens [state.tokens, until) complete, and the linear state of those that leave the
/// window. features: of all keys, where the call has made them; or room for append_bytes().
template <class Exec, class Element, class State, class Metric, class FeatureMap>
void advance_state(Exec const& exec, State& state, tensor<Element const> const& key, tensor<Element const> const& value,
                   tensor<Element const> const& residual_key, std::int64_t until, options<Metric, FeatureMap> const& o,
                   backend::key_features const* features = nullptr, void* feature_memory = nullptr)
{
    using T = accumulator_t<Element>;
    auto const& layout = state.layout();
    sequence_table const sequences{layout.batch, until - state.tokens, until};
    std::int64_t const first = state.tokens / o.block, last = until / o.block;
    backend::make_statistics<Metric>(exec, key, summaries_of(state), sequences, {layout.batch, last - first},
                                     layout.batch * (last - first), first, o.block, o.kept_keys);
    state.summary_end = last;
    window const bounds = window_of(o);
    if (o.combine != combination_kind::sparse_only)
    {
        if (state.tokens == 0)
        {
            state.residual_keys = residual_key.data != key.data;
            state.rounds_features = backend::rounds_features<Exec, FeatureMap>(
                kind_of<Element>(), layout.residual_width, layout.value_dim, o.block);
            state.state_end = o.sink_blocks;
            // A kernel of our own: deep_copy with a value may fence.
            portable::empty_state<Exec, T> const empty{
                state.template part<T>(layout.linear),
                static_cast<std::int64_t>((layout.prefix - layout.linear) / sizeof(T))};
            portable::launch("spla::append::empty_state", exec, empty.items(), 0, empty);
        }
        std::int64_t const end = until > 0 ? bounds.state_end(until - 1) : o.sink_blocks;
        state.prefix_first = state.state_end;
        state.prefix_count = end - state.state_end;
        state.state_end = end;
        portable::block_state_kernel<Exec, FeatureMap, Element> const kernel{residual_key,
                                                                             value,
                                                                             portable::linear_of<T>(state),
                                                                             o.feature_map,
                                                                             sequences,
                                                                             {layout.batch, state.prefix_count},
                                                                             o.block,
                                                                             static_cast<int>(residual_key.extent[3]),
                                                                             static_cast<int>(layout.value_dim)};
        backend::key_features made;
        if (feature_memory && state.prefix_count > 0)
        {
            made = backend::make_features<FeatureMap>(exec, residual_key, state.prefix_first * o.block,
                                                      state.prefix_count * o.block, layout.value_dim, feature_memory);
            features = &made;
        }
        if (!backend::enter_blocks_on_matrix_units(exec, features, value, kernel.state, sequences, kernel.width,
                                                   kernel.value_dim))
            portable::enter_blocks(exec, kernel, layout.batch * state.prefix_count);
    }
    state.tokens = until;
}

/// The problem of an append: its queries are the new tokens.
template <class Key>
problem describe_append(view_facts const& new_key, view_facts const& k, view_facts const& v,
                        view_facts const& residual_key, std::int64_t held)
{
    problem p;
    p.batch = k.extent[0];
    p.queries = new_key.extent[1];
    p.keys = held + p.queries;
    p.query_heads = p.key_heads = k.extent[2];
    p.head_dim = k.extent[3];
    p.value_dim = v.extent[3];
    p.residual_dim = residual_key.extent[3];
    p.element = kind_of<element_t<typename Key::value_type>>();
    return p;
}
} // namespace detail

/// The first rule that append() with these arguments violates, or nothing.
template <class Exec, tensor_view NewKey, tensor_view NewValue, output_view Key, output_view Value, class MemorySpace,
          class Metric, class FeatureMap>
std::optional<violation> check_append(Exec const&, NewKey const& new_key, NewValue const& new_value, Key const& key,
                                      Value const& value, sequence_state<MemorySpace> const& state,
                                      options<Metric, FeatureMap> const& o,
                                      attention_extras<typename Key::value_type> const& extras = {})
{
    static_assert(accessible_from<Exec, NewKey, NewValue, Key, Value> &&
                      Kokkos::SpaceAccessibility<Exec, MemorySpace>::accessible,
                  "spla::append: every view and the state must be accessible from the execution space");
    detail::rule_checker c("append");
    auto const k = detail::facts_of(key), v = detail::facts_of(value);
    auto const nk = detail::facts_of(new_key), nv = detail::facts_of(new_value);
    auto const& residual_key = extras.facts.residual_key;
    std::int64_t const tokens = nk.extent[1];
    problem const p = detail::describe_append<Key>(nk, k, v, residual_key, state.tokens);
    if (auto const found = check(p, o, "append")) return found;
    detail::require_contiguous(c, "new_key", nk);
    detail::require_contiguous(c, "new_value", nv);
    detail::require_contiguous(c, "key", k);
    detail::require_contiguous(c, "value", v);
    detail::require_extents(c, "new_key", nk, {p.batch, tokens, p.key_heads, p.head_dim});
    detail::require_extents(c, "new_value", nv, {p.batch, tokens, p.key_heads, p.value_dim});
    detail::require_extents(c, "value", v, {p.batch, k.extent[1], p.key_heads, p.value_dim});
    if (residual_key)
        detail::require_residual_key(c, residual_key, p, std::max(p.keys, residual_key.extent[1]),
                                     detail::runs_on_host<Exec>);
    c.require(p.keys <= k.extent[1], rule_kind::shape, "key.extent(1)", k.extent[1],
              detail::phrase{"at least ", p.keys, " (", state.tokens, " held and ", tokens, " new)"});
    c.require(tokens <= o.segment_tokens, rule_kind::value, "new_key.extent(1)", tokens,
              detail::phrase{"at most options.segment_tokens, ", o.segment_tokens});
    detail::require_state(c, state, p, o);
    detail::require_residual_source(c, state, residual_key, k, o);
    auto const state_bytes = detail::facts_of(state.buffer());
    detail::memory_map map;
    map.writes("key", k).writes("value", v).writes("state.buffer()", state_bytes).reads("residual_key", residual_key);
    // The new tokens lie apart from the cache, or at their very place in it.
    if (!detail::is_part(nk, k, state.tokens)) map.reads("new_key", nk);
    if (!detail::is_part(nv, v, state.tokens)) map.reads("new_value", nv);
    map.require(c);
    return c.found();
}

/// The same with a workspace.
template <class Exec, tensor_view NewKey, tensor_view NewValue, output_view Key, output_view Value, class MemorySpace,
          class Metric, class FeatureMap, class Workspace>
std::optional<violation>
check_append(Exec const& exec, NewKey const& new_key, NewValue const& new_value, Key const& key, Value const& value,
             sequence_state<MemorySpace> const& state, options<Metric, FeatureMap> const& o,
             attention_extras<typename Key::value_type> const& extras, Workspace const& scratch)
{
    static_assert(detail::is_workspace<Workspace>, "spla::append: the workspace is a view of std::byte*");
    static_assert(accessible_from<Exec, Workspace>,
                  "spla::append: the workspace must be accessible from the execution space");
    if (auto const found = check_append(exec, new_key, new_value, key, value, state, o, extras)) return found;
    detail::rule_checker c("append");
    problem const p = detail::describe_append<Key>(detail::facts_of(new_key), detail::facts_of(key),
                                                   detail::facts_of(value), extras.facts.residual_key, state.tokens);
    detail::require_bytes(c, rule_kind::value, "workspace", detail::facts_of(scratch),
                          backend::append_bytes<Exec>(p, o), " (plan.workspace_bytes)");
    return c.found();
}

namespace detail
{
/// A checked append.
template <class Exec, class NewKey, class NewValue, class Key, class Value, class State, class Options>
void run_append(Exec const& exec, NewKey const& new_key, NewValue const& new_value, Key const& key, Value const& value,
                State& state, Options const& o, attention_extras<typename Key::value_type> const& extras,
                void* feature_memory)
{
    using Element = element_t<typename Key::value_type>;
    static_assert(std::is_same_v<Element, element_t<typename Value::value_type>> &&
                      std::is_same_v<Element, element_t<typename NewKey::value_type>> &&
                      std::is_same_v<Element, element_t<typename NewValue::value_type>>,
                  "spla::append: keys and values share one element type");
    auto const k = as_const(tensor_of(key));
    auto const tokens = static_cast<std::int64_t>(new_key.extent(1));
    if (o.checked)
    {
        rule_checker c("append");
        portable::require_finite(c, exec, "new_key", as_const(tensor_of(new_key)));
        portable::require_finite(c, exec, "new_value", as_const(tensor_of(new_value)));
        if (extras.residual_key)
            portable::require_finite(c, exec, "residual_key", extras.residual_key.from_token(state.tokens, tokens),
                                     state.tokens);
        c.throw_if_found();
    }
    auto const copy = [&](auto const& from_view, auto const& to_view) {
        auto const from = as_const(tensor_of(from_view));
        auto const to = tensor_of(to_view).from_token(state.tokens, from.extent[1]);
        if (from.data == to.data) return; // the same place: check_append() saw to the strides
        portable::launch("spla::append::cache", exec, from.extent[0] * from.extent[1] * from.extent[2], 0,
                         portable::copy_tokens<Exec, Element>{from, to});
    };
    copy(new_key, key);
    copy(new_value, value);
    advance_state<Exec, Element>(exec, state, k, as_const(tensor_of(value)),
                                 extras.residual_key ? extras.residual_key : k, state.tokens + tokens, o, nullptr,
                                 feature_memory);
}
} // namespace detail

/// Appends n tokens to a batch of sequences: writes them into the caller's cache, makes the statistics of the blocks
/// they complete, and adds to the linear state the blocks that leave the local window (their prefix states kept for
/// prefill).
///
/// Shapes: new_key [batch, n, Hk, D], new_value [batch, n, Hk, Dv]; key [batch, capacity, Hk, D], value [batch,
/// capacity, Hk, Dv] with room for state.tokens + n tokens; last dimensions contiguous. Where the new tokens already
/// lie at their place in the cache (same address) nothing is copied. n is at most options.segment_tokens. Keys and
/// values are finite.
///
/// A residual branch with keys of its own: extras.residual_keys(view) or residual_inputs(), [batch, tokens, Hk, Dr]
/// with state.tokens + n tokens or more. They are read in place: the new ones lie in that cache already.
///
/// Complexity, a key head: O(n F Dv) for the blocks' states and O((n / B) F Dv) to add them up, O(n D) for the
/// statistics (full: O(n D^2); low_rank: O(B'^3) for each sub-block of B' keys besides, by one thread).
/// @throws argument_error  (one of its kinds, see prefill()) what check_append() returns; nothing is written then
template <class Exec, tensor_view NewKey, tensor_view NewValue, output_view Key, output_view Value, class MemorySpace,
          class Metric, class FeatureMap>
void append(Exec const& exec, NewKey const& new_key, NewValue const& new_value, Key const& key, Value const& value,
            sequence_state<MemorySpace>& state, options<Metric, FeatureMap> const& o,
            attention_extras<typename Key::value_type> const& extras = {})
{
    if (auto const found = check_append(exec, new_key, new_value, key, value, state, o, extras))
        throw_violation(*found);
    detail::run_append(exec, new_key, new_value, key, value, state, o, extras, nullptr);
}

/// The same with a workspace (plan_append()): tuned kernels, which read phi of the keys that enter the state from
/// there, are for calls that have one.
/// @throws argument_error  (one of its kinds) what check_append() returns; nothing is written then
template <class Exec, tensor_view NewKey, tensor_view NewValue, output_view Key, output_view Value, class MemorySpace,
          class Metric, class FeatureMap, class Workspace>
void append(Exec const& exec, NewKey const& new_key, NewValue const& new_value, Key const& key, Value const& value,
            sequence_state<MemorySpace>& state, options<Metric, FeatureMap> const& o,
            attention_extras<typename Key::value_type> const& extras, Workspace const& scratch)
{
    if (auto const found = check_append(exec, new_key, new_value, key, value, state, o, extras, scratch))
        throw_violation(*found);
    problem const p = detail::describe_append<Key>(detail::facts_of(new_key), detail::facts_of(key),
                                                   detail::facts_of(value), extras.facts.residual_key, state.tokens);
    detail::run_append(exec, new_key, new_value, key, value, state, o, extras,
                       backend::append_bytes<Exec>(p, o) > 0 ? scratch.data() : nullptr);
}

} // namespace spla
