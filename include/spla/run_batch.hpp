// SPDX-FileCopyrightText: The spla authors
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once
#include "backend/batch_kernels.hpp"
#include "state_pool.hpp"

namespace spla
{

namespace detail
{
template <class Exec, class MemorySpace, class From, class To>
std::int64_t require_pairs(char const* call, state_pool<MemorySpace> const&, From const& from, To const& to)
{
    static_assert(From::rank() == 1 && To::rank() == 1 &&
                      std::is_same_v<typename From::non_const_value_type, std::int32_t> &&
                      std::is_same_v<typename To::non_const_value_type, std::int32_t>,
                  "spla: what is forked is named by views of rank 1, of int32");
    static_assert(accessible_from<Exec, From, To> && Kokkos::SpaceAccessibility<Exec, MemorySpace>::accessible,
                  "spla: both views and the pool must be accessible from the execution space");
    rule_checker c(call);
    c.require(from.extent(0) == to.extent(0), rule_kind::shape, "to.extent(0)", to.extent(0), from.extent(0));
    require_contiguous(c, "from", facts_of(from));
    require_contiguous(c, "to", facts_of(to));
    c.throw_if_found();
    return static_cast<std::int64_t>(from.extent(0));
}

/// What a call that puts new tokens into the cache asks of their types.
template <class Element, class NewKey, class NewValue, class Cache>
constexpr void require_writable()
{
    using key = typename decltype(Cache::key)::value_type;
    using value = typename decltype(Cache::value)::value_type;
    static_assert(!std::is_const_v<key> && !std::is_const_v<value>,
                  "spla: a cache that new tokens are put into is of views that can be written to");
    static_assert(std::is_same_v<element_t<typename NewKey::non_const_value_type>, Element> &&
                      std::is_same_v<element_t<typename NewValue::non_const_value_type>, Element>,
                  "spla: new keys and values have the plan's element type");
}

template <class Exec, class Element, class Options>
void run_call(Exec const& exec, batch_plan<Element, Options> const& how, backend::batch_call<Element> const& call)
{
    if (how.options.checked) backend::validate_batch("run_batch", exec, how, call);
    if (call.sequences.count > 0) backend::run_step(exec, how, call);
}

template <class Exec, class Element, class Options, class MemorySpace, class Query, class Cache, class Output,
          class Workspace>
std::optional<violation> check_batch(batch_plan<Element, Options> const& how, batch_facts const& facts,
                                     state_pool<MemorySpace> const& pool,
                                     attention_extras<typename Query::non_const_value_type> const& extras)
{
    static_assert(is_workspace<Workspace>, "spla::run_batch: the workspace is a view of std::byte*");
    static_assert(Query::rank() == 3 && Output::rank() == 3,
                  "spla::run_batch: query and output are packed, [token, head, dim]");
    static_assert(
        accessible_from<Exec, Query, Output, Workspace> && Kokkos::SpaceAccessibility<Exec, MemorySpace>::accessible,
        "spla::run_batch: every view, the pool and the workspace must be accessible from the execution space");
    return check_batch("run_batch", how, facts, facts_of(pool.buffer()), pool.layout(), extras.facts,
                       runs_on_host<Exec>);
}
} // namespace detail

/// The first rule that run_batch() with these arguments violates, or nothing. What lies in the device's arrays is not
/// looked at: see checked mode.
template <class Exec, class Element, class Options, class MemorySpace, class Query, class Cache, class Output,
          class Workspace>
std::optional<violation>
check_batch(Exec const&, batch_plan<Element, Options> const& how, sequence_batch<MemorySpace> const& batch,
            Query const& query, Cache const& cache, Output const& output, state_pool<MemorySpace> const& pool,
            Workspace const& scratch, attention_extras<typename Query::non_const_value_type> const& extras = {})
{
    auto const facts = detail::batch_facts_of(batch, query, cache, output, scratch);
    return detail::check_batch<Exec, Element, Options, MemorySpace, Query, Cache, Output, Workspace>(how, facts, pool,
                                                                                                     extras);
}
/// The same of a call that puts new tokens into the cache.
template <class Exec, class Element, class Options, class MemorySpace, class Query, class NewKey, class NewValue,
          class Cache, class Output, class Workspace>
std::optional<violation>
check_batch(Exec const&, batch_plan<Element, Options> const& how, sequence_batch<MemorySpace> const& batch,
            Query const& query, new_tokens<NewKey, NewValue> const& fresh, Cache const& cache, Output const& output,
            state_pool<MemorySpace> const& pool, Workspace const& scratch,
            attention_extras<typename Query::non_const_value_type> const& extras = {})
{
    detail::require_writable<Element, NewKey, NewValue, Cache>();
    static_assert(
        !requires(Cache const& c) { c.key_offsets; },
        "spla::run_batch: packed_keys hold all tokens already, the new ones too");
    static_assert(accessible_from<Exec, NewKey, NewValue>,
                  "spla::run_batch: new keys and values must be accessible from the execution space");
    auto facts = detail::batch_facts_of(batch, query, cache, output, scratch);
    facts.new_key = detail::facts_of(fresh.key), facts.new_value = detail::facts_of(fresh.value);
    return detail::check_batch<Exec, Element, Options, MemorySpace, Query, Cache, Output, Workspace>(how, facts, pool,
                                                                                                     extras);
}

/// One step of an engine: for every sequence of the batch, whatever its length and stage, makes the statistics of the
/// blocks that its new tokens complete, adds to its linear state the blocks that leave its window, and attends from its
/// new tokens, as append() and prefill() of that sequence alone would. The new tokens' keys and values lie in the cache
/// already (write_cache() puts them there).
///
/// Shapes: query [token, Hq, D], output [token, Hq, Dv], packed: those of sequence b are tokens [offsets[b], offsets[b
/// + 1]), the last of which sits at position lengths[b] - 1. cache: a slot_cache, paged_cache or packed_keys. All
/// lengths, offsets, slots and pages are read on the device, so that a captured call follows them; nothing is fenced,
/// allocated or read back after warm_up(). Results of a sequence are the same bit for bit in any batch, slot, page
/// order and layout. extras: views of packed tokens through packed(): lse [1, token, Hq], branches [1, token, Hq, Dv],
/// lists [1, list, Hk, entry], those of a sequence after those of the one before, tile_count() each; residual inputs
/// [1, token, Hq, Dr] and a cache as that of the keys.
///
/// A new sequence starts where its first token is new (lengths[b] == its new tokens); a sequence goes back by naming
/// fewer tokens than it had, at most the pool's rewind_tokens fewer than the most that it ever had. Complexity as
/// append() and prefill(), a sequence.
/// @throws argument_error  (one of its kinds, see prefill()) what check_batch() or checked mode finds; nothing is
/// written then
template <class Exec, class Element, class Options, class MemorySpace, class Query, class Cache, class Output,
          class Workspace>
void run_batch(Exec const& exec, batch_plan<Element, Options> const& how, sequence_batch<MemorySpace> const& batch,
               Query const& query, Cache const& cache, Output const& output, state_pool<MemorySpace> const& pool,
               Workspace const& scratch, attention_extras<typename Query::non_const_value_type> const& extras = {})
{
    if (auto const found = check_batch(exec, how, batch, query, cache, output, pool, scratch, extras))
        throw_violation(*found);
    auto const call = backend::make_batch_call(how, batch, query, cache, output, pool, scratch.data(), extras);
    detail::run_call(exec, how, call);
}

/// The same, and puts the new tokens into the cache first, as write_cache() does: without a launch of its own where the
/// step's first kernel takes them along. The cache is one of its own rows, not packed_keys.
template <class Exec, class Element, class Options, class MemorySpace, class Query, class NewKey, class NewValue,
          class Cache, class Output, class Workspace>
void run_batch(Exec const& exec, batch_plan<Element, Options> const& how, sequence_batch<MemorySpace> const& batch,
               Query const& query, new_tokens<NewKey, NewValue> const& fresh, Cache const& cache, Output const& output,
               state_pool<MemorySpace> const& pool, Workspace const& scratch,
               attention_extras<typename Query::non_const_value_type> const& extras = {})
{
    if (auto const found = check_batch(exec, how, batch, query, fresh, cache, output, pool, scratch, extras))
        throw_violation(*found);
    auto call = backend::make_batch_call(how, batch, query, cache, output, pool, scratch.data(), extras);
    call.fresh = backend::new_rows_of(fresh, cache, batch.slots.data());
    detail::run_call(exec, how, call);
}

/// Puts the new tokens of a step into the cache: new_key [token, Hk, D] and new_value [token, Hk, Dv], packed as the
/// step's queries. Before run_batch(), in the same order. A page that does not exist is not written.
/// @throws argument_error  what does not fit; nothing is written then
template <class Exec, class Element, class Options, class MemorySpace, class NewKey, class NewValue, class Cache>
void write_cache(Exec const& exec, batch_plan<Element, Options> const& how, sequence_batch<MemorySpace> const& batch,
                 NewKey const& new_key, NewValue const& new_value, Cache const& cache,
                 state_pool<MemorySpace> const& pool)
{
    detail::require_writable<Element, NewKey, NewValue, Cache>();
    auto facts = detail::batch_facts_of(batch, new_key, cache, new_value, workspace<MemorySpace>());
    facts.new_key = facts.query, facts.new_value = facts.output;
    detail::require_cache_write("write_cache", how, facts, pool.layout());
    auto const tokens = static_cast<std::int64_t>(new_key.extent(0));
    backend::write_rows(
        exec, backend::new_rows_of(new_tokens<NewKey, NewValue>{new_key, new_value}, cache, batch.slots.data()),
        backend::table_of(how, batch, tokens, cache, pool.layout()));
}

/// Lets Kokkos grow its scratch to what the plan's steps need, has the device load every kernel, and fences once. After
/// it no step of this plan allocates or fences, and any may be captured in a graph.
template <class Exec, class Element, class Options>
void warm_up(Exec const& exec, batch_plan<Element, Options> const& how)
{
    warm_up(exec, how.how);
    backend::load_kernels(exec, how);
    exec.fence("spla::warm_up");
}

/// Slots to[i] become what slots from[i] are (views of int32 of one length): a fork for beam search, or of a shared
/// prefix. No slot is both. With a paged cache summaries stay with their pages, which both sequences then share (a page
/// that one of them still writes is the other's copy: fork_pages()); with a row for each slot the row's summaries are
/// copied too, and its keys and values are the caller's to copy.
/// @throws argument_error  where the views differ in length
template <class Exec, class MemorySpace, class From, class To>
void fork_slots(Exec const& exec, state_pool<MemorySpace> const& pool, From const& from, To const& to)
{
    std::int64_t const pairs = detail::require_pairs<Exec>("fork_slots", pool, from, to);
    backend::copy_pool_slots(exec, pool, from.data(), to.data(), pairs);
}

/// Pages to[i] have the summaries of pages from[i]: for pages whose keys and values the caller copied. Arguments as
/// fork_slots().
template <class Exec, class MemorySpace, class From, class To>
void fork_pages(Exec const& exec, state_pool<MemorySpace> const& pool, From const& from, To const& to)
{
    std::int64_t const pairs = detail::require_pairs<Exec>("fork_pages", pool, from, to);
    backend::copy_pool_summaries(exec, pool, from.data(), to.data(), pairs, pool.layout().sizes.pages);
}

} // namespace spla
