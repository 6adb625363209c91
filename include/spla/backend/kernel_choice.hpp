// SPDX-FileCopyrightText: The spla authors
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once
#include "../append.hpp"
#include "portable/merge_kernel.hpp"

/// From a checked call to kernels: the only place that names backends. Today every space runs the portable kernels.
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
    if (call.how.runs > 1) call.partials = reinterpret_cast<accumulator_t<Element>*>(base + call.how.list_bytes);
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

/// Sizes of the selection of L queries ending at M keys.
template <class Metric, class FeatureMap>
portable::selection_shape selection_shape_of(problem const& p, std::int64_t queries, std::int64_t keys,
                                             options<Metric, FeatureMap> const& o)
{
    portable::selection_shape s;
    s.batch = p.batch;
    s.queries = queries;
    s.keys = keys;
    s.key_heads = p.key_heads;
    s.group = static_cast<int>(p.group());
    s.width = static_cast<int>(p.head_dim);
    s.bounds = window_of(o);
    s.share = o.share;
    s.top_k = o.top_k;
    s.kept = o.kept_keys;
    s.top_p = o.top_p;
    s.scale = o.scale.value_or(1.0 / std::sqrt(static_cast<double>(p.head_dim)));
    s.first_tile = floor_divide(keys - queries, s.bounds.tile);
    s.lists = tile_count(queries, keys, s.bounds.tile);
    s.most_blocks = keys > 0 ? s.bounds.competing(keys - 1).count() : 0;
    s.skip = 0;
    return s;
}

/// Lists of queries that end at `keys`, from the state where a tile is under way, and the last list into the state.
template <class Exec, class Element, class State, class Metric, class FeatureMap>
void make_lists(Exec const& exec, detail::tensor<Element const> const& query, detail::tensor<Element const> const& key,
                State& state, portable::selection_shape shape, detail::list_tensor const& list,
                options<Metric, FeatureMap> const&)
{
    bool const keeps = shape.share.kind == sharing_kind::first_query;
    std::int64_t const heads = shape.batch * shape.key_heads;
    if (keeps && (shape.keys - shape.queries) > 0 && (shape.keys - shape.queries) % shape.bounds.tile != 0)
    {
        portable::launch("spla::select::resume_list", exec, heads, 0,
                         portable::copy_list<Exec>{shared_list_of(state), list, 0, 0, shape.key_heads});
        shape.skip = 1;
    }
    portable::select_lists<Metric>(exec, query, key, detail::summaries_of(state), shape, list);
    if (keeps && shape.keys > 0)
    {
        portable::launch("spla::select::keep_list", exec, heads, 0,
                         portable::copy_list<Exec>{list, shared_list_of(state), shape.lists - 1, 0, shape.key_heads});
        state.shared_tile = (shape.keys - 1) / shape.bounds.tile;
    }
}

/// Selection and both branches for queries [first, first + count) of the call, the last of which sits at keys - 1.
template <class Exec, class Element, class State, class Metric, class FeatureMap>
void attend_queries(Exec const& exec, attention_call<Element> const& call, State& state, std::int64_t first,
                    std::int64_t count, std::int64_t keys, options<Metric, FeatureMap> const& o, bool exact,
                    bool residual)
{
    using T = accumulator_t<Element>;
    problem const& p = call.sizes;
    if (count <= 0 || p.batch == 0) return;
    auto const query = call.query.from_token(first, count);
    portable::selection_shape const selection = selection_shape_of(p, count, keys, o);
    std::int64_t const tile0 = floor_divide(p.keys - p.queries, selection.bounds.tile);
    detail::list_tensor list = call.given ? call.given.from_tile(selection.first_tile - tile0) : call.scratch_lists;
    if (!call.given)
    {
        if (call.returned) list = call.returned.from_tile(selection.first_tile - tile0);
        make_lists<Exec, Element>(exec, query, call.key, state, selection, list, o);
    }

    portable::attention_kernel<Exec, FeatureMap, Element> kernel;
    kernel.query = query;
    kernel.key = call.key;
    kernel.value = call.value;
    kernel.residual_query = call.residual_query.from_token(first, count);
    kernel.residual_key = call.residual_key;
    kernel.list = list;
    kernel.state = portable::linear_of<T>(state);
    kernel.out = call.out.from_token(first);
    kernel.phi = o.feature_map;
    portable::attention_shape& s = kernel.shape;
    s.batch = p.batch;
    s.queries = count;
    s.keys = keys;
    s.key_heads = p.key_heads;
    s.group = static_cast<int>(p.group());
    s.width = static_cast<int>(p.head_dim);
    s.residual_width = static_cast<int>(p.residual_width());
    s.features = o.feature_map.features(s.residual_width);
    s.value_dim = static_cast<int>(p.value_dim);
    s.bounds = selection.bounds;
    s.first_tile = selection.first_tile;
    s.scale = selection.scale;
    s.exact = exact;
    s.residual = residual;
    s.same_keys = call.residual_key.data == call.key.data && s.residual_width == s.width &&
                  std::equal(call.key.stride, call.key.stride + 3, call.residual_key.stride);
    s.normalised = o.normalised;
    s.mode = o.residual;
    s.may_read_unselected = o.may_read_unselected;
    s.tokens_per_item = call.how.tokens_per_item;
    s.runs = call.how.runs;
    s.blocks_per_run = call.how.blocks_per_run;
    if (call.how.runs > 1) kernel.partial = {call.partials, portable::partial_tensor<T>::numbers_per_row(p.value_dim)};
    kernel.scratch_bytes = kernel.carve(nullptr).bytes;
    portable::launch("spla::attention", exec, p.batch * s.tiles() * s.runs * p.key_heads, kernel.scratch_bytes, kernel);
    if (call.how.runs > 1)
        portable::launch("spla::merge", exec, p.batch * count * p.query_heads, 0,
                         portable::merge_kernel<Exec, Element>{kernel.partial, kernel.out, s});
}

} // namespace spla::backend
