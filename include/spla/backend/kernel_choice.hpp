// SPDX-FileCopyrightText: The spla authors
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once
#include "../append.hpp"
#include "portable/merge_kernel.hpp"
#include "tuned_decode.hpp"

/// From a checked call to kernels: with tuned_kernels.hpp and its coverage the only place that names backends.
namespace spla::backend
{

/// One checked call, its views as kernels see them.
template <class Element>
struct attention_call
{
    detail::tensor<Element const> query, key, value, residual_query, residual_key;
    portable::attention_outputs<Element> out;
    detail::list_tensor given, returned; ///< null where absent
    detail::list_tensor scratch_lists;
    accumulator_t<Element>* partials = nullptr;
    accumulator_t<Element>* exact_rows = nullptr; ///< of one segment, between the branches' kernels
    void* feature_memory = nullptr;
    void* summary_memory = nullptr;
    branch_memory between; ///< the kernels of one segment's branches
    key_features features; ///< of all keys, once they are made
    problem sizes;
    plan how;
};

/// Workspace as lists and partial rows.
template <class Element, class Metric, class FeatureMap>
void carve_workspace(attention_call<Element>& call, std::byte* base, options<Metric, FeatureMap> const& o)
{
    problem const& p = call.sizes;
    std::int64_t const tiles = std::min<std::int64_t>(p.queries, o.segment_tokens) / window_of(o).tile + 2;
    std::int64_t const capacity = detail::list_capacity(p, o);
    detail::list_tensor& l = call.scratch_lists;
    l.indices = reinterpret_cast<std::int32_t*>(base);
    l.lengths = reinterpret_cast<std::int32_t*>(
        base + detail::align_workspace(static_cast<std::size_t>(p.batch * tiles * p.key_heads * capacity) * 4));
    l.stride[2] = capacity, l.stride[1] = capacity * p.key_heads, l.stride[0] = l.stride[1] * tiles;
    l.length_stride[2] = 1, l.length_stride[1] = p.key_heads, l.length_stride[0] = p.key_heads * tiles;
    l.capacity = std::min<std::int64_t>(o.top_k, capacity);
    std::byte* const partials = base + call.how.list_bytes;
    std::byte* const rows = partials + call.how.partial_bytes;
    if (call.how.runs > 1) call.partials = reinterpret_cast<accumulator_t<Element>*>(partials);
    if (call.how.exact_row_bytes > 0) call.exact_rows = reinterpret_cast<accumulator_t<Element>*>(rows);
    std::byte* const features = rows + call.how.exact_row_bytes;
    if (call.how.feature_bytes > 0) call.feature_memory = features;
    std::byte* const summaries = features + call.how.feature_bytes;
    if (call.how.summary_bytes > 0) call.summary_memory = summaries;
    call.between = {summaries + call.how.summary_bytes, call.how.branch_bytes};
}

template <class State>
detail::list_tensor shared_list_of(State const& state)
{
    auto const& layout = state.layout();
    detail::list_tensor l;
    l.indices = state.template part<std::int32_t>(layout.shared_list);
    l.lengths = state.template part<std::int32_t>(layout.shared_length);
    l.stride[2] = layout.top_k, l.stride[0] = layout.top_k * layout.key_heads;
    l.length_stride[2] = 1, l.length_stride[0] = layout.key_heads;
    l.capacity = layout.top_k;
    return l;
}

template <class Metric, class Exec, class Element>
void select_lists(Exec const& exec, detail::tensor<Element const> const& query,
                  detail::tensor<Element const> const& key, detail::summary_tensor const& summary,
                  portable::selection_shape const& shape, detail::list_tensor const& list,
                  void* summary_memory = nullptr)
{
    if (!select_on_matrix_units<Metric>(exec, query, summary, shape, list, summary_memory))
        portable::select_lists<Metric>(exec, query, key, summary, shape, list);
}

/// Lists of a fixed batch, from the state where a tile is under way, and the last list into the state. select: makes
/// the others, of the state's summaries.
template <class Exec, class State, class Select>
void make_lists(Exec const& exec, State& state, portable::selection_shape const& shape, detail::list_tensor const& list,
                Select const& select)
{
    detail::sequence const s = shape.sequences[0];
    std::int64_t const heads = shape.sequences.count * shape.key_heads;
    if (shape.resumes(s))
        portable::launch("spla::select::resume_list", exec, heads, 0,
                         portable::copy_list<Exec>{shared_list_of(state), list, 0, 0, shape.key_heads});
    select(detail::summaries_of(state));
    if (shape.share.kind == sharing_kind::first_query && s.keys > 0)
    {
        portable::launch(
            "spla::select::keep_list", exec, heads, 0,
            portable::copy_list<Exec>{list, shared_list_of(state), shape.lists(s) - 1, 0, shape.key_heads});
        state.shared_tile = (s.keys - 1) / shape.bounds.tile;
    }
}

/// The branches that `shape` asks for on matrix units, and their combination, over what was prepared for them. Rows of
/// the exact branch wait at exact_rows for the residual's, in full precision. False where a kernel cannot take a view.
template <class FeatureMap, class Exec, class Element>
bool attend_prepared(Exec const& exec, detail::tensor<Element const> const& query,
                     detail::tensor<Element const> const& residual_query, detail::tensor<Element const> const& key,
                     detail::tensor<Element const> const& value, key_features const& features,
                     detail::list_tensor const& list, portable::linear_tensor<accumulator_t<Element>> const& state,
                     accumulator_t<Element>* exact_rows, portable::attention_outputs<Element> const& out,
                     portable::attention_shape const& shape, branch_work const& work)
{
    using T = accumulator_t<Element>;
    if (!shape.residual || shape.everything) return attend_on_matrix_units(exec, query, key, value, out, shape, work);
    detail::tensor<T const> rows;
    if (shape.exact)
    {
        portable::attention_outputs<Element> exact = out;
        exact.output = {}, exact.residual = {};
        if (out.output)
        {
            rows = portable::rows_between<T const>(shape, exact_rows);
            exact.sparse = {exact_rows, true, {rows.stride[0], rows.stride[1], rows.stride[2]}, rows.map};
        }
        if (!attend_on_matrix_units(exec, query, key, value, exact, shape, work)) return false;
    }
    return attend_residual_on_matrix_units<FeatureMap>(exec, residual_query, features, value, list, state, rows, out,
                                                       shape, work);
}

/// What the branches of one part of a call need, on matrix units. False, and nothing that counts done, where the
/// portable kernel must do it.
template <class FeatureMap, class Exec, class Element>
bool attend_by_branches(Exec const& exec, attention_call<Element> const& call,
                        detail::tensor<Element const> const& query, detail::tensor<Element const> const& residual_query,
                        detail::list_tensor const& list, portable::linear_tensor<accumulator_t<Element>> const& state,
                        portable::attention_outputs<Element> const& out, portable::attention_shape const& shape)
{
    if (shape.exact && !call.how.exact.matrix_units) return false;
    if (shape.residual && !call.how.residual.matrix_units) return false;
    branch_work const work = prepare_branches<Exec, Element>(exec, list, shape, call.between);
    return work && attend_prepared<FeatureMap>(exec, query, residual_query, call.key, call.value, call.features, list,
                                               state, call.exact_rows, out, shape, work);
}

/// Is every competing block of these queries selected, so that matrix units need no lists, and no residual? Not where
/// lists or branches are asked for, or a list is kept for queries to come.
template <class Element>
bool selects_everything(attention_call<Element> const& call, portable::selection_shape const& shape,
                        portable::attention_outputs<Element> const& out, bool exact)
{
    return exact && call.how.exact.matrix_units && out.output && !out.sparse && !out.residual && !call.given &&
           !call.returned && shape.share.kind != sharing_kind::first_query && shape.most_blocks <= shape.top_k &&
           shape.top_p >= 1;
}

/// Selection and both branches for queries [first, first + count) of the call, the last of which sits at keys - 1.
/// Decodes: they are few, and split over the machine by kernels that no other call compiles.
template <bool Decodes, class Exec, class Element, class State, class Metric, class FeatureMap>
void attend_queries(Exec const& exec, attention_call<Element> const& call, State& state, std::int64_t first,
                    std::int64_t count, std::int64_t keys, options<Metric, FeatureMap> const& o, bool exact,
                    bool residual)
{
    using T = accumulator_t<Element>;
    problem const& p = call.sizes;
    if (count <= 0 || p.batch == 0) return;
    auto const query = call.query.from_token(first, count);
    detail::sequence_table const sequences{p.batch, count, keys};
    portable::selection_shape const selection = detail::selection_shape_of(p, o, sequences);
    std::int64_t const tile0 = floor_divide(p.keys - p.queries, selection.bounds.tile);
    std::int64_t const passed = selection.first_tile(sequences[0]) - tile0;
    auto const residual_query = call.residual_query.from_token(first, count);
    auto const linear = portable::linear_of<T>(state);
    auto const out = call.out.from_token(first);
    portable::attention_shape s = detail::attention_shape_of(p, o);
    s.sequences = sequences;
    s.exact = exact;
    s.residual = residual;
    s.same_keys = call.residual_key.data == call.key.data && s.residual_width == s.width &&
                  std::equal(call.key.stride, call.key.stride + 3, call.residual_key.stride);
    s.few_queries = Decodes ? count : 0;
    if constexpr (!Decodes)
        if (selects_everything(call, selection, out, exact))
        {
            s.everything = true;
            if (attend_by_branches<FeatureMap>(exec, call, query, residual_query, {}, linear, out, s)) return;
            s.everything = false;
        }
    tuned_decode<Metric, FeatureMap, Exec, Element, Decodes> decoded(exec, query, selection, s, call.how);
    if constexpr (Decodes)
    {
        decoded.look_at(call.between.data, call.given, detail::summaries_of(state), residual_query, call.key,
                        call.value, linear);
        decoded.clear();
    }
    detail::list_tensor list = call.given ? call.given.from_tile(passed) : call.scratch_lists;
    if (!call.given)
    {
        if (call.returned) list = call.returned.from_tile(passed);
        make_lists(exec, state, selection, list, [&](detail::summary_tensor const& summary) {
            if (!decoded.select(summary, list))
                select_lists<Metric>(exec, query, call.key, summary, selection, list, call.summary_memory);
        });
        list.capacity = std::min<std::int64_t>(list.capacity, o.top_k); // more are never selected
    }
    if (decoded.attend(call.key, call.value, list, linear, out)) return;
    if constexpr (!Decodes)
        if (attend_by_branches<FeatureMap>(exec, call, query, residual_query, list, linear, out, s)) return;

    portable::attention_kernel<Exec, FeatureMap, Element> kernel;
    kernel.query = query;
    kernel.key = call.key;
    kernel.value = call.value;
    kernel.residual_query = residual_query;
    kernel.residual_key = call.residual_key;
    kernel.list = list;
    kernel.state = linear;
    kernel.out = out;
    kernel.phi = o.feature_map;
    s.tokens_per_item = call.how.tokens_per_item;
    s.most_selected = call.how.list_capacity;
    s.most_runs = call.how.runs;
    kernel.shape = s;
    detail::sequence const one = sequences[0]; // all are alike
    kernel.items = {p.batch, s.tiles(one) * s.runs_of(one)};
    kernel.partial = {call.partials,
                      portable::partial_tensor<T>::numbers_per_row(p.value_dim),
                      p.query_heads,
                      call.how.runs,
                      {p.batch, count}};
    kernel.scratch_bytes = kernel.carve(nullptr).bytes;
    portable::launch("spla::attention", exec, p.batch * kernel.items.each * p.key_heads, kernel.scratch_bytes, kernel);
    if (call.how.runs > 1)
        portable::launch("spla::merge", exec, p.batch * count * p.query_heads, 0,
                         portable::merge_kernel<Exec, Element>{kernel.partial, kernel.out, s});
}

} // namespace spla::backend
