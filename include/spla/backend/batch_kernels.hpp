// SPDX-FileCopyrightText: The spla authors
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once
#include "decoded_attention.hpp"
#include "decoded_selection.hpp"
#include "portable/slot_kernels.hpp"
#include "step_opening.hpp"
#include "tuned_step.hpp"

/// From a checked step to kernels: what kernel_choice.hpp is for a fixed batch.
namespace spla::backend
{

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

/// Where the step's work lies. held: of the pool's slots, which are then what the step makes of them; null of a step
/// that may still be refused.
template <class Exec, class Options, class Element>
portable::schedule_kernel<Exec>
schedule_of(batch_plan<Element, Options> const& how, batch_call<Element> const& call,
            portable::attention_shape const& attention, portable::selection_shape const& selection,
            portable::tuned_work const& tuned, portable::cleared_counters const& decoded_panels,
            portable::cleared_counters const& decoded_runs, std::int32_t* held)
{
    return {call.made, attention, selection, how.lists_per_item, tuned, decoded_panels, decoded_runs, false, held};
}

template <class Exec, class Element>
void write_rows(Exec const& exec, portable::new_rows<Element> const& fresh, detail::sequence_table const& sequences)
{
    portable::write_new_rows<Exec, Element> const kernel{fresh, sequences};
    portable::launch("spla::write_cache", exec, kernel.items(), 0, kernel);
}

/// New tokens, schedule, statistics, state, selection, attention: of sequences that tuned kernels prefill, and of all
/// others.
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
    auto attention = batch_attention_shape(how, call, sequences);
    auto selection = detail::selection_shape_of(l, o, sequences);
    bool const tunes = tunes_step(how, call), selects = tunes && !call.given && how.tuned.lists_per_item > 0;
    portable::tuned_work tuned;
    if (tunes) tuned = how.tuned;
    // What tuned kernels leave to portable ones may be nothing, and is known on the device alone.
    std::int64_t const left_teams = tunes ? portable::few_teams : std::numeric_limits<std::int64_t>::max();
    if (!selects) tuned.lists_per_item = 0;
    decoded_selection<Exec, Element, Options> const decoded(exec, how, call, selection);
    decoded_attention<Exec, Element, Options> const decoded_rows(exec, how, call, attention);
    step_opening<Exec, Element, Options> const opening(exec, how, call, static_cast<bool>(decoded_rows));
    if (call.fresh && !opening.writes_new_rows()) write_rows(exec, call.fresh, call.sequences);
    opening.open(schedule_of<Exec>(how, call, attention, selection, tuned, decoded.counters(), decoded_rows.counters(),
                                   call.held));
    bool const all_decoded = l.queries <= how.decode_queries;
    auto const part = [&](bool of_tuned) {
        return tunes ? sequences.only(call.made.first(schedule::tuned), of_tuned) : sequences;
    };
    tuned_step<Exec, Element, Options> prefilled(exec, how, call, part(true));
    auto const items = [&](schedule::part which, std::int64_t most) {
        return call.made.template items<Exec>(which, most);
    };
    bool const all_opened = opening.opens_decoded() && all_decoded;
    if (!all_opened)
        make_statistics<Metric>(exec, call.key, call.summary, sequences, call.made.table(schedule::completed),
                                items(schedule::completed, how.most_completed), 0, o.block, o.kept_keys);
    if (attention.residual && !all_opened)
    {
        if (tunes) prefilled.enter_blocks();
        portable::enter_blocks(exec,
                               portable::block_state_kernel<Exec, FeatureMap, Element>{
                                   call.residual_key, call.value, call.state, o.feature_map,
                                   part(false).beyond(opening.opens_decoded() ? how.decode_queries : 0),
                                   call.made.table(schedule::entering), o.block, attention.residual_width,
                                   attention.value_dim},
                               items(schedule::entering, how.most_entering), left_teams);
    }
    std::int64_t const heads = std::max<std::int64_t>(call.sequences.count, 1) * l.key_heads;
    if (!call.given)
    {
        if (o.share.kind == sharing_kind::first_query)
            portable::launch("spla::select::resume_list", exec, heads, 0,
                             portable::resume_list<Exec>{selection, call.slot_lists, call.list, call.pool.kept_lists});
        if (selects)
        {
            prefilled.select(selection);
            selection.sequences = part(false);
        }
        decoded.select();
        auto kernel = portable::make_selection<Exec, Metric, Element>(selection);
        kernel.query = call.query, kernel.key = call.key, kernel.summary = call.summary, kernel.list = call.list;
        kernel.lists_per_item = how.lists_per_item;
        kernel.items = call.made.table(schedule::choices);
        kernel.scratch_bytes = kernel.carve(nullptr).bytes;
        if (!decoded || !all_decoded) // where every sequence is decoded there are no others
            portable::launch("spla::select", exec, items(schedule::choices, how.most_choices) * l.key_heads,
                             kernel.scratch_bytes, kernel, decoded ? portable::few_teams : left_teams);
    }
    selection.sequences = sequences;
    if (!call.given && call.slot_lists) // some list is shared
        portable::launch("spla::keep_lists", exec, heads, 0,
                         portable::keep_lists<Exec>{selection, call.list, call.slot_lists, call.pool.kept_lists});
    if (tunes)
    {
        prefilled.attend(attention);
        attention.sequences = part(false);
    }
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
    decoded_rows.attend();
    if (!decoded_rows || !all_decoded)
        portable::launch("spla::attention", exec, items(schedule::tiles, how.most_tiles) * l.key_heads,
                         kernel.scratch_bytes, kernel, decoded_rows ? portable::few_teams : left_teams);
    if (!decoded_rows && how.how.runs > 1)
        portable::launch("spla::merge", exec, items(schedule::decoded, how.most_decoded) * l.query_heads, 0,
                         portable::merge_kernel<Exec, Element>{kernel.partial, kernel.out, attention});
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
    if (how.tuned.tile_tokens > 0) tuned_step<Exec, Element, Options>(exec, how, call, call.sequences).load();
    decoded_selection<Exec, Element, Options>::load(exec, how);
    step_opening<Exec, Element, Options>::load(exec, how);
    decoded_attention<Exec, Element, Options>::load(exec, how, batch_attention_shape(how, call, call.sequences));
    one.tuned = {}, one.decode_selection = {}, one.decode_attention = {};
    one.most_tiles = one.most_choices = one.most_lists = one.most_completed = one.most_entering = one.most_decoded = 1;
    run_step(exec, one, call);
    portable::write_new_rows<Exec, Element> write;
    write.rows.key.extent[2] = 1;
    portable::launch("spla::write_cache", exec, 1, 0, write);
    portable::launch("spla::fork", exec, 1, 0, portable::copy_slots<Exec>{nullptr, 1, nullptr, nullptr, 0, 0});
}

/// Checked mode of a step: its arrays, then its new tokens, then a caller's lists.
template <class Exec, class Options, class Element>
void validate_batch(char const* name, Exec const& exec, batch_plan<Element, Options> const& how,
                    batch_call<Element> const& call)
{
    detail::rule_checker c(name);
    auto const& o = how.options;
    portable::require_valid_batch(
        c, exec, portable::batch_rule{call.sequences, call.key.map, call.held, call.pool.sizes.rewind_tokens});
    if (call.fresh)
    {
        portable::require_finite_tokens(c, exec, "new_key", call.fresh.key, call.sequences, true);
        portable::require_finite_tokens(c, exec, "new_value", call.fresh.value, call.sequences, true);
    }
    else
    {
        portable::require_finite_tokens(c, exec, "cache.key", call.key, call.sequences);
        portable::require_finite_tokens(c, exec, "cache.value", call.value, call.sequences);
    }
    if (call.residual_key.data != call.key.data)
        portable::require_finite_tokens(c, exec, "residual_key", call.residual_key, call.sequences);
    if (call.given && !c.found())
    {
        portable::launch("spla::schedule", exec, 1, 0,
                         schedule_of<Exec>(how, call, batch_attention_shape(how, call, call.sequences),
                                           detail::selection_shape_of(how.limits, o, call.sequences), {}, {}, {},
                                           nullptr));
        portable::require_valid_lists(c, exec, call.given, window_of(o), how.limits.key_heads, call.sequences,
                                      call.made.table(portable::schedule::lists), how.most_lists);
    }
    c.throw_if_found();
}

} // namespace spla::backend
