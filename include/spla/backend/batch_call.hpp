// SPDX-FileCopyrightText: The spla authors
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once
#include "batch_rules.hpp"
#include "portable/copy_kernels.hpp"
#include "portable/slot_kernels.hpp"

/// One checked step of an engine, its views as kernels see them: the one place that tells caches apart.
namespace spla::backend
{

/// One step, its views as kernels see them.
template <class Element>
struct batch_call
{
    using T = accumulator_t<Element>;
    detail::sequence_table sequences;
    detail::tensor<Element const> query, key, value, residual_query, residual_key;
    portable::new_rows<Element> fresh; ///< where the step puts its new tokens into the cache
    portable::attention_outputs<Element> out;
    detail::list_tensor given, list, slot_lists; ///< null where absent
    detail::summary_tensor summary;
    portable::linear_tensor<T> state;
    portable::schedule made;
    T* partials = nullptr;
    std::int32_t* held = nullptr;
    std::byte* scratch = nullptr;
    pool_layout pool;
};

/// A packed view as kernels see it: dimension 1 of a batch of one.
template <class V>
auto packed_tensor(V const& view, detail::token_map const& map)
{
    auto t = detail::tensor_of(packed(view));
    t.stride[0] = 0;
    t.map = map;
    return t;
}

template <class Key, class Value>
detail::token_map map_of(slot_cache<Key, Value> const&, std::int32_t const* slots)
{
    return detail::token_map::in_slots(slots);
}
template <class Key, class Value, class Table>
detail::token_map map_of(paged_cache<Key, Value, Table> const& cache, std::int32_t const*)
{
    return detail::token_map::in_pages(cache.page_table.data(), static_cast<std::int64_t>(cache.page_table.stride(0)),
                                       static_cast<std::int64_t>(cache.key.extent(1)),
                                       static_cast<std::int64_t>(cache.key.extent(0)));
}
template <class Key, class Value, class Offsets>
detail::token_map map_of(packed_keys<Key, Value, Offsets> const& cache, std::int32_t const*)
{
    return detail::token_map::packed(cache.key_offsets.data());
}
template <class V>
auto cache_tensor(V const& view, detail::token_map const& map)
{
    if constexpr (V::rank() == 3)
        return packed_tensor(view, map);
    else
    {
        auto t = detail::tensor_of(view);
        t.map = map;
        return t;
    }
}

/// The same map in blocks, of the pool's summaries: pages of the cache are pages of summaries.
template <class Cache>
detail::token_map summary_map_of(Cache const&, std::int32_t const* slots, std::int64_t)
{
    return detail::token_map::in_slots(slots);
}
template <class Key, class Value, class Table>
detail::token_map summary_map_of(paged_cache<Key, Value, Table> const& cache, std::int32_t const*,
                                 std::int64_t page_blocks)
{
    return detail::token_map::in_pages(cache.page_table.data(), static_cast<std::int64_t>(cache.page_table.stride(0)),
                                       page_blocks, static_cast<std::int64_t>(cache.key.extent(0)));
}

/// The sequences of a step within the plan's limits and what cache and pool hold.
template <class Element, class Options, class MemorySpace, class Cache>
detail::sequence_table table_of(batch_plan<Element, Options> const& how, sequence_batch<MemorySpace> const& batch,
                                std::int64_t tokens, Cache const& cache, pool_layout const& pool)
{
    detail::sequence_table s;
    s.count = static_cast<std::int64_t>(batch.lengths.extent(0));
    s.queries = how.limits.queries;
    s.offsets = batch.offsets.data();
    s.lengths = batch.lengths.data();
    s.slots = batch.slots.data();
    s.tokens = std::min(tokens, how.limits.most_tokens());
    s.slot_count = pool.sizes.slots;
    s.keys = how.limits.keys;
    detail::batch_facts f;
    detail::add_cache(f, cache);
    if (f.kind == detail::cache_kind::pages)
        s.keys = std::min(s.keys, f.table.extent[1] * f.key.extent[1]);
    else
        s.keys = std::min(s.keys, pool.sizes.page_tokens);
    if (f.kind == detail::cache_kind::slots)
    {
        s.keys = std::min(s.keys, f.key.extent[1]);
        s.slot_count = std::min(s.slot_count, f.key.extent[0]);
    }
    if constexpr (requires { cache.key_offsets; })
    {
        s.key_offsets = cache.key_offsets.data();
        s.key_tokens = f.key.extent[0];
    }
    return s;
}

/// New tokens and the cache that they go to.
template <class NewKey, class NewValue, class Cache>
auto new_rows_of(new_tokens<NewKey, NewValue> const& fresh, Cache const& cache, std::int32_t const* slots)
{
    using element = element_t<typename NewKey::non_const_value_type>;
    detail::token_map const map = map_of(cache, slots);
    return portable::new_rows<element>{detail::as_const(packed_tensor(fresh.key, detail::token_map())),
                                       detail::as_const(packed_tensor(fresh.value, detail::token_map())),
                                       cache_tensor(cache.key, map), cache_tensor(cache.value, map)};
}

template <class Element, class Options, class MemorySpace, class Query, class Cache, class Output>
auto make_batch_call(batch_plan<Element, Options> const& how, sequence_batch<MemorySpace> const& batch,
                     Query const& query, Cache const& cache, Output const& output, state_pool<MemorySpace> const& pool,
                     std::byte* scratch, attention_extras<typename Query::non_const_value_type> const& extras)
{
    using T = accumulator_t<Element>;
    static_assert(std::is_same_v<Element, element_t<typename Query::non_const_value_type>>,
                  "spla::run_batch: query, key and value have the plan's element type");
    auto const& o = how.options;
    batch_limits const& l = how.limits;
    pool_layout const& held = pool.layout();
    batch_call<Element> call;
    call.scratch = scratch;
    call.pool = held;
    call.sequences = table_of(how, batch, static_cast<std::int64_t>(query.extent(0)), cache, held);
    detail::token_map const map = map_of(cache, batch.slots.data());
    auto const of_tokens = detail::token_map::packed(batch.offsets.data());
    call.query = detail::as_const(packed_tensor(query, of_tokens));
    call.key = detail::as_const(cache_tensor(cache.key, map));
    call.value = detail::as_const(cache_tensor(cache.value, map));
    call.residual_query = call.query, call.residual_key = call.key;
    if (extras.residual_key)
    {
        call.residual_query = extras.residual_query, call.residual_query.map = of_tokens;
        call.residual_key = extras.residual_key, call.residual_key.map = map;
    }
    if (o.combine != combination_kind::separate) call.out.output = detail::output_of<Element>(packed(output));
    call.out.sparse = extras.sparse;
    call.out.residual = extras.residual;
    call.out.output.map = call.out.sparse.map = call.out.residual.map = call.out.lse_map = of_tokens;
    call.out.lse = extras.lse;
    for (int i = 0; i < 3; ++i) call.out.lse_stride[i] = extras.lse_stride[i];
    call.out.rule = {o.combine, static_cast<T>(o.epsilon), extras.sparse_weight, extras.residual_weight};

    call.made = {reinterpret_cast<std::int32_t*>(scratch + how.counts), call.sequences.count};
    detail::list_tensor& list = call.list;
    std::int64_t const capacity = detail::list_capacity(l, o);
    if (extras.given)
        list = call.given = extras.given;
    else if (extras.returned)
        list = extras.returned;
    else
    {
        list.indices = reinterpret_cast<std::int32_t*>(scratch + how.lists);
        list.lengths = reinterpret_cast<std::int32_t*>(scratch + how.lengths);
        list.stride[2] = capacity, list.stride[1] = capacity * l.key_heads;
        list.length_stride[2] = 1, list.length_stride[1] = l.key_heads;
        list.capacity = std::min<std::int64_t>(o.top_k, capacity);
    }
    list.map = call.given.map = detail::token_map::packed(call.made.first(portable::schedule::lists));
    if (o.share.kind == sharing_kind::first_query)
    {
        detail::list_tensor& kept = call.slot_lists;
        kept.indices = pool.template part<std::int32_t>(held.shared_list);
        kept.lengths = pool.template part<std::int32_t>(held.shared_length);
        kept.stride[2] = held.top_k, kept.stride[1] = held.top_k * held.key_heads;
        kept.stride[0] = kept.stride[1] * held.kept_lists;
        kept.length_stride[2] = 1, kept.length_stride[1] = held.key_heads;
        kept.length_stride[0] = held.key_heads * held.kept_lists;
        kept.capacity = held.top_k;
        kept.map = detail::token_map::in_slots(batch.slots.data());
    }
    call.summary = detail::summaries_of(pool);
    call.summary.map = summary_map_of(cache, batch.slots.data(), held.blocks);

    portable::linear_tensor<T>& state = call.state;
    state.running = pool.template part<T>(held.linear);
    state.running_normaliser = pool.template part<T>(held.normaliser);
    state.prefix = reinterpret_cast<T*>(scratch + how.prefix);
    state.prefix_normaliser = reinterpret_cast<T*>(scratch + how.prefix_normaliser);
    state.key_heads = held.key_heads, state.features = held.features, state.leading = held.padded_value_dim();
    state.normalised = held.normalised;
    state.rounds_features = how.rounds_features;
    state.prefixes = call.made.table(portable::schedule::entering);
    state.of_slots = true;
    state.bounds = window_of(o);
    state.kept = held.kept_states, state.step = held.step;
    state.slots = batch.slots.data();
    call.partials = reinterpret_cast<T*>(scratch + how.partials);
    call.held = pool.template part<std::int32_t>(held.held);
    return call;
}

} // namespace spla::backend
