// SPDX-FileCopyrightText: The spla authors
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once
#include "batch_rules.hpp"
#include "kernel_choice.hpp"
#include "portable/slot_kernels.hpp"

/// From a checked step to kernels: what kernel_choice.hpp is for a fixed batch.
namespace spla::backend
{

/// One step, its views as kernels see them.
template <class Element>
struct batch_call
{
    using T = accumulator_t<Element>;
    detail::sequence_table sequences;
    detail::tensor<Element const> query, key, value, residual_query, residual_key;
    portable::attention_outputs<Element> out;
    detail::list_tensor given, list, slot_lists; ///< null where absent
    detail::summary_tensor summary;
    portable::linear_tensor<T> state;
    portable::schedule made;
    T* partials = nullptr;
    std::int32_t* held = nullptr;
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
    state.prefixes = call.made.table(portable::schedule::entering);
    state.of_slots = true;
    state.bounds = window_of(o);
    state.kept = held.kept_states, state.step = held.step;
    state.slots = batch.slots.data();
    call.partials = reinterpret_cast<T*>(scratch + how.partials);
    call.held = pool.template part<std::int32_t>(held.held);
    return call;
}

/// Where the step's work lies: the first launch of every step.
template <class Exec, class Options, class Element>
void make_schedule(Exec const& exec, batch_plan<Element, Options> const& how, batch_call<Element> const& call,
                   portable::attention_shape const& attention, portable::selection_shape const& selection)
{
    portable::launch("spla::schedule", exec, 1, 0,
                     portable::schedule_kernel<Exec>{call.made, attention, selection, how.lists_per_item});
}

template <class Options, class Element>
portable::attention_shape batch_attention_shape(batch_plan<Element, Options> const& how,
                                                batch_call<Element> const& call,
                                                detail::sequence_table const& sequences)
{
    portable::attention_shape s = detail::attention_shape_of(how.limits, how.options);
    s.sequences = sequences;
    s.residual = how.options.combine != combination_kind::sparse_only;
    s.same_keys = call.residual_key.data == call.key.data && s.residual_width == s.width &&
                  std::equal(call.key.stride, call.key.stride + 3, call.residual_key.stride);
    s.tokens_per_item = how.how.tokens_per_item;
    s.few_queries = how.decode_queries;
    s.most_selected = how.how.list_capacity;
    s.most_runs = how.how.runs;
    return s;
}

/// Schedule, statistics, state, selection, attention.
template <class Exec, class Options, class Element>
void run_step(Exec const& exec, batch_plan<Element, Options> const& how, batch_call<Element> const& call)
{
    using T = accumulator_t<Element>;
    using Metric = typename Options::metric_type;
    using FeatureMap = typename Options::feature_map_type;
    using portable::schedule;
    auto const& o = how.options;
    batch_limits const& l = how.limits;
    detail::sequence_table const sequences = call.made.trusted(call.sequences);
    auto const attention = batch_attention_shape(how, call, sequences);
    auto const selection = detail::selection_shape_of(l, o, sequences);
    make_schedule(exec, how, call, attention, selection);
    auto const items = [&](schedule::part which, std::int64_t most) {
        return call.made.template items<Exec>(which, most);
    };
    portable::make_statistics<Metric>(exec, call.key, call.summary, sequences, call.made.table(schedule::completed),
                                      items(schedule::completed, how.most_completed), 0, o.block, o.kept_keys);
    if (attention.residual)
        portable::enter_blocks(exec,
                               portable::block_state_kernel<Exec, FeatureMap, Element>{
                                   call.residual_key, call.value, call.state, o.feature_map, sequences,
                                   call.made.table(schedule::entering), o.block, attention.residual_width,
                                   attention.value_dim},
                               items(schedule::entering, how.most_entering));
    std::int64_t const heads = std::max<std::int64_t>(call.sequences.count, 1) * l.key_heads;
    if (!call.given)
    {
        if (o.share.kind == sharing_kind::first_query)
            portable::launch("spla::select::resume_list", exec, heads, 0,
                             portable::resume_list<Exec>{selection, call.slot_lists, call.list, call.pool.kept_lists});
        auto kernel = portable::make_selection<Exec, Metric, Element>(selection);
        kernel.query = call.query, kernel.key = call.key, kernel.summary = call.summary, kernel.list = call.list;
        kernel.lists_per_item = how.lists_per_item;
        kernel.items = call.made.table(schedule::choices);
        kernel.scratch_bytes = kernel.carve(nullptr).bytes;
        portable::launch("spla::select", exec, items(schedule::choices, how.most_choices) * l.key_heads,
                         kernel.scratch_bytes, kernel);
    }
    portable::launch("spla::keep_slot", exec, heads, 0,
                     portable::keep_slot<Exec>{selection, call.list,
                                               call.given ? detail::list_tensor() : call.slot_lists,
                                               call.pool.kept_lists, call.held});

    portable::attention_kernel<Exec, FeatureMap, Element> kernel;
    kernel.query = call.query, kernel.key = call.key, kernel.value = call.value;
    kernel.residual_query = call.residual_query, kernel.residual_key = call.residual_key;
    kernel.list = call.list;
    kernel.state = call.state;
    kernel.out = call.out;
    kernel.phi = o.feature_map;
    kernel.shape = attention;
    kernel.items = call.made.table(schedule::tiles);
    kernel.partial = {call.partials, portable::partial_tensor<T>::numbers_per_row(l.value_dim), l.query_heads,
                      how.how.runs, call.made.table(schedule::decoded)};
    kernel.scratch_bytes = kernel.carve(nullptr).bytes;
    portable::launch("spla::attention", exec, items(schedule::tiles, how.most_tiles) * l.key_heads,
                     kernel.scratch_bytes, kernel);
    if (how.how.runs > 1)
        portable::launch("spla::merge", exec, items(schedule::decoded, how.most_decoded) * l.query_heads, 0,
                         portable::merge_kernel<Exec, Element>{kernel.partial, kernel.out, attention});
}

template <class Exec, class Element, class Options, class MemorySpace, class NewKey, class NewValue, class Cache>
void copy_to_cache(Exec const& exec, batch_plan<Element, Options> const& how, sequence_batch<MemorySpace> const& batch,
                   NewKey const& new_key, NewValue const& new_value, Cache const& cache,
                   state_pool<MemorySpace> const& pool)
{
    std::int64_t const tokens = static_cast<std::int64_t>(new_key.extent(0));
    auto const sequences = table_of(how, batch, tokens, cache, pool.layout());
    detail::token_map const map = map_of(cache, batch.slots.data());
    auto const copy = [&](auto const& from, auto const& to) {
        portable::copy_batch_tokens<Exec, Element> const kernel{
            detail::as_const(packed_tensor(from, detail::token_map())), cache_tensor(to, map), sequences};
        portable::launch("spla::write_cache", exec, sequences.tokens * how.limits.key_heads, 0, kernel);
    };
    copy(new_key, cache.key);
    copy(new_value, cache.value);
}

/// `bytes` of each of `count` parts that begin at `begin`, from one part to another.
template <class Exec, class MemorySpace>
void copy_pool_part(Exec const& exec, state_pool<MemorySpace> const& pool, std::size_t begin, std::int64_t bytes,
                    std::int32_t const* from, std::int32_t const* to, std::int64_t pairs, std::int64_t count)
{
    portable::copy_slots<Exec> const kernel{pool.template part<unsigned char>(begin), bytes, from, to, pairs, count};
    if (bytes > 0) portable::launch("spla::fork", exec, pairs * kernel.strips(), 0, kernel);
}

/// The summaries of pages, or of a slot's row.
template <class Exec, class MemorySpace>
void copy_pool_summaries(Exec const& exec, state_pool<MemorySpace> const& pool, std::int32_t const* from,
                         std::int32_t const* to, std::int64_t pairs, std::int64_t count)
{
    pool_layout const& l = pool.layout();
    copy_pool_part(exec, pool, l.summaries, l.summary_bytes(), from, to, pairs, count);
    copy_pool_part(exec, pool, l.scales, l.scale_bytes(), from, to, pairs, count);
}

template <class Exec, class MemorySpace>
void copy_pool_slots(Exec const& exec, state_pool<MemorySpace> const& pool, std::int32_t const* from,
                     std::int32_t const* to, std::int64_t pairs)
{
    pool_layout const& l = pool.layout();
    auto const copy = [&](std::size_t begin, std::int64_t bytes) {
        copy_pool_part(exec, pool, begin, bytes, from, to, pairs, l.sizes.slots);
    };
    copy(l.linear, l.linear_bytes());
    copy(l.normaliser, l.normaliser_bytes());
    copy(l.shared_list, l.list_bytes());
    copy(l.shared_length, l.length_bytes());
    copy(l.held, 8);
    if (l.sizes.pages == 0) copy_pool_summaries(exec, pool, from, to, pairs, l.sizes.slots);
}

/// Launches every kernel of a step once, for no sequence: a device loads a kernel when it is first launched, and may
/// not while a graph is captured.
template <class Exec, class Element, class Options>
void load_kernels(Exec const& exec, batch_plan<Element, Options> const& how)
{
    batch_call<Element> call;
    state_layout const layout = detail::layout_of(static_cast<problem const&>(how.limits), how.options);
    call.state.key_heads = layout.key_heads, call.state.features = layout.features;
    call.state.leading = layout.padded_value_dim();
    call.state.normalised = layout.normalised;
    call.state.of_slots = true;
    call.summary.key_heads = layout.key_heads;
    batch_plan<Element, Options> one = how;
    one.most_tiles = one.most_choices = one.most_lists = one.most_completed = one.most_entering = one.most_decoded = 1;
    run_step(exec, one, call);
    portable::copy_batch_tokens<Exec, Element> copy;
    copy.from.extent[2] = 1;
    portable::launch("spla::write_cache", exec, 1, 0, copy);
    portable::launch("spla::fork", exec, 1, 0, portable::copy_slots<Exec>{nullptr, 1, nullptr, nullptr, 0, 0});
}

/// Checked mode of a step: its arrays, then what the cache holds of its new tokens, then a caller's lists.
template <class Exec, class Options, class Element>
void validate_batch(char const* name, Exec const& exec, batch_plan<Element, Options> const& how,
                    batch_call<Element> const& call)
{
    detail::rule_checker c(name);
    auto const& o = how.options;
    portable::require_valid_batch(
        c, exec, portable::batch_rule{call.sequences, call.key.map, call.held, call.pool.sizes.rewind_tokens});
    portable::require_finite_tokens(c, exec, "cache.key", call.key, call.sequences);
    portable::require_finite_tokens(c, exec, "cache.value", call.value, call.sequences);
    if (call.residual_key.data != call.key.data)
        portable::require_finite_tokens(c, exec, "residual_key", call.residual_key, call.sequences);
    if (call.given && !c.found())
    {
        make_schedule(exec, how, call, batch_attention_shape(how, call, call.sequences),
                      detail::selection_shape_of(how.limits, o, call.sequences));
        portable::require_valid_lists(c, exec, call.given, window_of(o), how.limits.key_heads, call.sequences,
                                      call.made.table(portable::schedule::lists), how.most_lists);
    }
    c.throw_if_found();
}

} // namespace spla::backend
