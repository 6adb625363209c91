// SPDX-FileCopyrightText: The spla authors
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once
#include "../attention_extras.hpp"
#include "../check.hpp"
#include "../sequence_state.hpp"
#include "../workspace.hpp"
#include "memory_rules.hpp"

#include <initializer_list>
#include <string_view>

/// Rules on views, state and workspace that several calls share. They see views as view_facts: one compilation serves
/// every type of view.
namespace spla::detail
{

inline void require_contiguous(rule_checker& c, std::string_view argument, view_facts const& f)
{
    int const last = f.rank - 1;
    if (last < 0 || f.extent[last] <= 1 || f.stride[last] == 1) return;
    c.fail(rule_kind::unsupported, argument, phrase{"a view whose last stride is ", f.stride[last]},
           "a contiguous last dimension");
}

/// The view has exactly these extents.
inline void require_extents(rule_checker& c, std::string_view argument, view_facts const& f,
                            std::initializer_list<std::int64_t> wanted)
{
    int const rank = static_cast<int>(wanted.size());
    bool same = f.rank == rank;
    for (int i = 0; i < rank && same; ++i) same = f.extent[i] == wanted.begin()[i];
    if (!same) c.fail(rule_kind::shape, argument, word(f.extent, f.rank), word(wanted.begin(), rank));
}

/// A view of attention_extras, where given, lies in memory that the execution space reaches.
inline void require_reach(rule_checker& c, std::string_view argument, view_facts const& f, bool host)
{
    c.require(!f || (host ? f.on_host : f.on_device), rule_kind::unsupported, argument,
              phrase{"in memory space ", f.space}, phrase{"memory that the ", host ? "host" : "device", " reaches"});
}

/// A buffer of bytes is large enough and aligned.
inline void require_bytes(rule_checker& c, rule_kind kind, std::string_view argument, view_facts const& f,
                          std::size_t bytes, char const* source)
{
    c.require(static_cast<std::uint64_t>(f.extent[0]) >= bytes, kind, argument, phrase{f.extent[0], " bytes"},
              phrase{"at least ", bytes, source});
    require_contiguous(c, argument, f);
    c.require(f.begin % buffer_alignment == 0, kind, argument,
              phrase{"at an address ", f.begin % buffer_alignment, " bytes past a multiple of ", buffer_alignment},
              phrase{"aligned to ", buffer_alignment, " bytes"});
}

/// Lists of `tiles` tiles or more; nothing where absent.
inline void require_lists(rule_checker& c, std::string_view argument, view_facts const& indices,
                          view_facts const& lengths, problem const& p, std::int64_t tiles, std::int64_t top_k)
{
    if (!indices) return;
    auto const shape = rule_kind::shape;
    require_contiguous(c, argument, indices);
    c.require(indices.extent[0] == p.batch, shape, phrase{argument, " batch"}, indices.extent[0], p.batch);
    c.require(indices.extent[1] >= tiles, shape, phrase{argument, " tiles"}, indices.extent[1],
              phrase{"at least ", tiles});
    c.require(indices.extent[2] == p.key_heads, shape, phrase{argument, " key heads"}, indices.extent[2], p.key_heads);
    c.require(indices.extent[3] >= top_k, shape, phrase{argument, " entries"}, indices.extent[3],
              phrase{"at least top_k, ", top_k});
    c.require(lengths.extent[0] == p.batch && lengths.extent[1] >= tiles && lengths.extent[2] == p.key_heads, shape,
              phrase{argument, " lengths"}, word(lengths.extent, 3),
              phrase{"[", p.batch, ", at least ", tiles, ", ", p.key_heads, "]"});
}

/// The views that attention and its stages take.
struct attention_views
{
    view_facts query, key, value, output;
};

/// Sizes of an attention call from its views.
inline problem describe(attention_views const& v, view_facts const& residual_key, element_kind element)
{
    problem p;
    p.batch = v.query.extent[0];
    p.queries = v.query.extent[1];
    p.keys = v.key.extent[1];
    p.query_heads = v.query.extent[2];
    p.key_heads = v.key.extent[2];
    p.head_dim = v.query.extent[3];
    p.value_dim = v.value.extent[3];
    p.residual_dim = residual_key.extent[3];
    p.element = element;
    return p;
}

/// Query, key, value and, where the call writes it, output.
inline void require_views(rule_checker& c, problem const& p, attention_views const& v, bool writes_output)
{
    require_contiguous(c, "query", v.query);
    require_contiguous(c, "key", v.key);
    require_contiguous(c, "value", v.value);
    if (writes_output) require_contiguous(c, "output", v.output);
    require_extents(c, "key", v.key, {p.batch, p.keys, p.key_heads, p.head_dim});
    require_extents(c, "value", v.value, {p.batch, p.keys, p.key_heads, p.value_dim});
    if (!writes_output) return;
    require_extents(c, "output", v.output, {p.batch, p.queries, p.query_heads, p.value_dim});
}

/// Weights of the combination, both or none.
inline void require_weights(rule_checker& c, extras_facts const& e, std::int64_t heads, std::int64_t width, bool host)
{
    if (!e.sparse_weight) return;
    auto const hold = [&](char const* argument, view_facts const& f) {
        require_extents(c, argument, f, {heads, width});
        require_contiguous(c, argument, f);
        require_reach(c, argument, f, host);
    };
    hold("extras.norm_weights of_sparse", e.sparse_weight);
    hold("extras.norm_weights of_residual", e.residual_weight);
}

/// The residual branch's own keys, where given: `tokens` of them, or more in a cache that is still being filled.
inline void require_residual_key(rule_checker& c, view_facts const& f, problem const& p, std::int64_t tokens, bool host)
{
    require_contiguous(c, "residual_key", f);
    require_extents(c, "residual_key", f, {p.batch, tokens, p.key_heads, p.residual_width()});
    require_reach(c, "residual_key", f, host);
}

/// Where the views of an attention call, its state and its workspace lie.
inline void require_memory(rule_checker& c, attention_views const& v, bool writes_output, extras_facts const& e,
                           view_facts const& state, view_facts const& scratch)
{
    memory_map map;
    map.reads("query", v.query).reads("key", v.key).reads("value", v.value);
    if (writes_output) map.writes("output", v.output);
    add_extras(map, e);
    map.writes("state.buffer()", state).writes("workspace", scratch).require(c);
}

/// Shapes and reach of everything in attention_extras.
inline void require_extras(rule_checker& c, problem const& p, extras_facts const& e, std::int64_t tiles,
                           std::int64_t top_k, bool host)
{
    if (e.residual_key)
    {
        c.require(static_cast<bool>(e.residual_query), rule_kind::value, "extras.residual_inputs", "keys alone",
                  "queries and keys, or neither");
        require_contiguous(c, "residual_query", e.residual_query);
        require_extents(c, "residual_query", e.residual_query, {p.batch, p.queries, p.query_heads, p.residual_width()});
        require_reach(c, "residual_query", e.residual_query, host);
        require_residual_key(c, e.residual_key, p, p.keys, host);
    }
    auto const written = [&](char const* argument, view_facts const& f, bool branch) {
        if (!f) return;
        if (branch)
        {
            require_extents(c, argument, f, {p.batch, p.queries, p.query_heads, p.value_dim});
            require_contiguous(c, argument, f);
        }
        else
            require_extents(c, argument, f, {p.batch, p.queries, p.query_heads});
        require_reach(c, argument, f, host);
    };
    written("extras.return_branches sparse", e.sparse, true);
    written("extras.return_branches residual", e.residual, true);
    written("extras.return_lse", e.lse, false);
    require_weights(c, e, p.query_heads, p.value_dim, host);
    require_lists(c, "extras.use_lists", e.given_indices, e.given_lengths, p, tiles, 0);
    require_reach(c, "extras.use_lists", e.given_indices, host);
    require_reach(c, "extras.use_lists lengths", e.given_lengths, host);
    require_lists(c, "extras.return_lists", e.returned_indices, e.returned_lengths, p, tiles, top_k);
    require_reach(c, "extras.return_lists", e.returned_indices, host);
    require_reach(c, "extras.return_lists lengths", e.returned_lengths, host);
    c.require(!e.given_indices || !e.returned_indices, rule_kind::value, "extras.return_lists",
              "given beside use_lists", "one of the two");
}

/// The parts of a state that a stage works with.
enum class state_parts
{
    all,
    summaries ///< the residual branch may have been made for anything
};

/// The state was made for this call's sizes and options, `wanted`; holds `keys` keys.
inline void require_layout(rule_checker& c, state_layout const& held, state_layout const& wanted, state_parts parts)
{
    auto const state = rule_kind::state;
    char const* const source = ", from this call's sizes and options";
    auto const same = [&](char const* field, std::int64_t is, std::int64_t must) {
        c.require(is == must, state, phrase{"state.layout().", field}, is, phrase{must, source});
    };
    auto const alike = [&](char const* field, std::string_view is, std::string_view must) {
        c.require(is == must, state, phrase{"state.layout().", field}, is, phrase{must, source});
    };
    auto const both = [&](char const* field, bool is, bool must) {
        c.require(is == must, state, phrase{"state.layout().", field}, is, phrase{must, source});
    };
    same("batch", held.batch, wanted.batch);
    same("key_heads", held.key_heads, wanted.key_heads);
    same("head_dim", held.head_dim, wanted.head_dim);
    same("block", held.block, wanted.block);
    same("sink_blocks", held.sink_blocks, wanted.sink_blocks);
    same("local_blocks", held.local_blocks, wanted.local_blocks);
    alike("share", name(held.share), name(wanted.share));
    same("tile", held.tile, wanted.tile);
    alike("metric", held.metric, wanted.metric);
    same("sub_blocks", held.sub_blocks, wanted.sub_blocks);
    same("kept_keys", held.kept_keys, wanted.kept_keys);
    alike("storage", name(held.storage), name(wanted.storage));
    if (wanted.share == sharing_kind::first_query) same("top_k", held.top_k, wanted.top_k);
    alike("accumulator", name(held.accumulator), name(wanted.accumulator));
    if (parts == state_parts::summaries) return;
    same("value_dim", held.value_dim, wanted.value_dim);
    both("residual", held.residual, wanted.residual);
    if (!wanted.residual) return;
    same("residual_width", held.residual_width, wanted.residual_width);
    alike("feature_map", held.feature_map, wanted.feature_map);
    same("features", held.features, wanted.features);
    both("normalised", held.normalised, wanted.normalised);
    // More prefix states than a segment needs do no harm.
    c.require(held.slots >= wanted.slots, state, "state.layout().slots", held.slots,
              phrase{"at least ", wanted.slots, ", from this call's segment_tokens"});
}

/// Rules on a state; p's sizes and the options have passed check().
template <class MemorySpace, class Metric, class FeatureMap>
void require_state(rule_checker& c, sequence_state<MemorySpace> const& state, problem const& p,
                   options<Metric, FeatureMap> const& o, state_parts parts = state_parts::all)
{
    state_layout const& held = state.layout();
    problem capacity = p;
    capacity.keys = held.blocks * o.block;
    require_layout(c, held, layout_of(capacity, o), parts);
    require_bytes(c, rule_kind::state, "state.buffer()", facts_of(state.buffer()), held.bytes, "");
    c.require(p.keys / o.block <= held.blocks, rule_kind::state, "state capacity in blocks", held.blocks,
              phrase{"at least ", p.keys / o.block, ", the complete blocks of ", p.keys, " keys"});
}

/// The residual branch of every call of a sequence has the same keys: the exact branch's, or its own.
template <class Metric, class FeatureMap>
void require_residual_source(rule_checker& c, sequence_progress const& s, view_facts const& residual_key,
                             view_facts const& key, options<Metric, FeatureMap> const& o)
{
    if (o.combine == combination_kind::sparse_only || s.tokens == 0) return;
    bool const given = residual_key && residual_key.begin != key.begin;
    c.require(s.residual_keys == given, rule_kind::state, "extras.residual_inputs", given ? "given" : "absent",
              s.residual_keys ? "given: the state was made from the residual branch's own keys"
                              : "absent: the state was made from the exact branch's keys");
}

/// Queries that end at p's last key choose among blocks whose summaries were made.
inline void require_summaries(rule_checker& c, sequence_progress const& s, problem const& p, window const& bounds)
{
    if (p.queries == 0 || p.keys == 0) return;
    std::int64_t const end = bounds.competing(p.keys - 1).end;
    c.require(end <= s.summary_end || end <= bounds.sink_blocks, rule_kind::state, "state.summary_end", s.summary_end,
              phrase{"at least ", end, ": blocks compete whose summaries were not made"});
}

/// The state holds the linear states that queries from position `first` to the last key need.
inline void require_prefix_states(rule_checker& c, sequence_progress const& s, std::int64_t slots, problem const& p,
                                  window const& bounds)
{
    if (p.queries == 0 || p.keys == 0) return;
    std::int64_t const first = p.keys - p.queries, whole = bounds.tile > bounds.block ? bounds.tile : bounds.block;
    std::int64_t const held = s.prefix_first + (s.prefix_count < slots ? s.prefix_count : slots);
    // One query of each whole: the others need the same.
    for (std::int64_t at = first > 0 ? first : 0; at < p.keys; at = (at / whole + 1) * whole)
    {
        std::int64_t const end = bounds.state_end(at);
        if (end == s.state_end || (end >= s.prefix_first && end < held)) continue;
        c.fail(rule_kind::state, "query.extent(1)", p.queries,
               "queries no further back than the last append, whose prefix states the state holds");
        return;
    }
}

/// A call that starts inside a tile has the list that the tile's first query made.
inline void require_shared_list(rule_checker& c, sequence_progress const& s, problem const& p, window const& bounds,
                                sharing_kind share)
{
    std::int64_t const first = p.keys - p.queries;
    if (share != sharing_kind::first_query || p.queries == 0 || first <= 0 || first % bounds.tile == 0) return;
    c.require(s.shared_tile == first / bounds.tile, rule_kind::state, "state.shared_tile", s.shared_tile,
              phrase{first / bounds.tile,
                     ": a call that starts inside a tile needs the list that the tile's first query made"});
}

} // namespace spla::detail
