// SPDX-FileCopyrightText: The spla authors
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once
#include "../algorithm/view_rules.hpp"
#include "../batch_plan.hpp"
#include "../state_pool.hpp"

/// Rules on the views of a step, and how views of rank 3 are seen by kernels.
namespace spla::detail
{

enum class cache_kind
{
    slots,  ///< slot_cache
    pages,  ///< paged_cache
    packed, ///< packed_keys
};

struct batch_facts
{
    view_facts offsets, lengths, slots, query, output, key, value, scratch;
    view_facts table;              ///< page table, or key offsets
    view_facts new_key, new_value; ///< where the call puts new tokens into the cache
    cache_kind kind = cache_kind::slots;
    element_kind element = element_kind::float32;
};

template <class Key, class Value>
void add_cache(batch_facts& f, slot_cache<Key, Value> const& cache)
{
    f.key = facts_of(cache.key), f.value = facts_of(cache.value);
}
template <class Key, class Value, class Table>
void add_cache(batch_facts& f, paged_cache<Key, Value, Table> const& cache)
{
    f.kind = cache_kind::pages;
    f.key = facts_of(cache.key), f.value = facts_of(cache.value), f.table = facts_of(cache.page_table);
}
template <class Key, class Value, class Offsets>
void add_cache(batch_facts& f, packed_keys<Key, Value, Offsets> const& cache)
{
    f.kind = cache_kind::packed;
    f.key = facts_of(cache.key), f.value = facts_of(cache.value), f.table = facts_of(cache.key_offsets);
}

template <class MemorySpace, class Query, class Cache, class Output, class Workspace>
batch_facts batch_facts_of(sequence_batch<MemorySpace> const& batch, Query const& query, Cache const& cache,
                           Output const& output, Workspace const& scratch)
{
    batch_facts f;
    f.offsets = facts_of(batch.offsets), f.lengths = facts_of(batch.lengths), f.slots = facts_of(batch.slots);
    f.query = facts_of(query), f.output = facts_of(output), f.scratch = facts_of(scratch);
    f.element = kind_of<element_t<typename Query::non_const_value_type>>();
    add_cache(f, cache);
    return f;
}

/// The batch's arrays, the cache and the pool fit the plan's limits and one another.
inline void require_batch(rule_checker& c, batch_limits const& l, batch_facts const& f, pool_layout const& pool)
{
    auto const shape = rule_kind::shape;
    std::int64_t const sequences = f.lengths.extent[0];
    c.require(f.element == l.element, shape, "element type", name(f.element), phrase{name(l.element), ", the plan's"});
    c.require(sequences <= l.batch, shape, "batch.lengths.extent(0)", sequences,
              phrase{"at most ", l.batch, ", the plan's sequences"});
    c.require(f.offsets.extent[0] == sequences + 1, shape, "batch.offsets.extent(0)", f.offsets.extent[0],
              phrase{sequences + 1, ", one more than lengths"});
    c.require(f.slots.extent[0] == sequences, shape, "batch.slots.extent(0)", f.slots.extent[0],
              phrase{sequences, ", as many as lengths"});
    require_contiguous(c, "batch.offsets", f.offsets);
    require_contiguous(c, "batch.lengths", f.lengths);
    require_contiguous(c, "batch.slots", f.slots);
    require_contiguous(c, "cache.key", f.key);
    require_contiguous(c, "cache.value", f.value);
    auto const& k = f.key.extent;
    if (f.kind == cache_kind::packed)
    {
        require_extents(c, "cache.key", f.key, {k[0], l.key_heads, l.head_dim});
        require_extents(c, "cache.value", f.value, {k[0], l.key_heads, l.value_dim});
        c.require(f.table.extent[0] >= sequences + 1, shape, "cache.key_offsets.extent(0)", f.table.extent[0],
                  phrase{"at least ", sequences + 1});
        require_contiguous(c, "cache.key_offsets", f.table);
    }
    else
    {
        require_extents(c, "cache.key", f.key, {k[0], k[1], l.key_heads, l.head_dim});
        require_extents(c, "cache.value", f.value, {k[0], k[1], l.key_heads, l.value_dim});
    }
    if (f.kind == cache_kind::pages)
    {
        c.require(pool.sizes.pages > 0, rule_kind::state, "pool.layout().sizes.pages", pool.sizes.pages,
                  "1 or more: a pool made for pages");
        c.require(k[1] == pool.sizes.page_tokens, rule_kind::state, "cache.key.extent(1)", k[1],
                  phrase{pool.sizes.page_tokens, ", the tokens of the pool's pages"});
        c.require(k[0] <= pool.sizes.pages, rule_kind::state, "cache.key.extent(0)", k[0],
                  phrase{"at most ", pool.sizes.pages, ", the pool's pages"});
        c.require(f.table.extent[0] >= sequences, shape, "cache.page_table.extent(0)", f.table.extent[0],
                  phrase{"at least ", sequences});
        require_contiguous(c, "cache.page_table", f.table);
    }
    else
        c.require(pool.sizes.pages == 0, rule_kind::state, "pool.layout().sizes.pages", pool.sizes.pages,
                  "0: a pool made for a row of each slot");
}

/// New tokens, where the call puts them into the cache.
inline void require_new_tokens(rule_checker& c, batch_limits const& l, batch_facts const& f, std::int64_t tokens)
{
    if (!f.new_key) return;
    require_contiguous(c, "new_key", f.new_key);
    require_contiguous(c, "new_value", f.new_value);
    require_extents(c, "new_key", f.new_key, {tokens, l.key_heads, l.head_dim});
    require_extents(c, "new_value", f.new_value, {tokens, l.key_heads, l.value_dim});
}
inline void add_cache(memory_map& map, batch_facts const& f)
{
    if (f.new_key)
        map.writes("cache.key", f.key).writes("cache.value", f.value).reads("new_key", f.new_key);
    else
        map.reads("cache.key", f.key).reads("cache.value", f.value);
    map.reads("new_value", f.new_value);
}

/// The pool was made for the plan's sizes and options.
template <class Element, class Options>
void require_pool_of(rule_checker& c, batch_plan<Element, Options> const& how, view_facts const& buffer,
                     pool_layout const& held)
{
    pool_layout const wanted = layout_of(without_queries(how.limits), held.sizes, how.options);
    require_layout(c, held, wanted, state_parts::all);
    require_bytes(c, rule_kind::state, "pool.buffer()", buffer, held.bytes, "");
}

template <class Element, class Options>
std::optional<violation> check_batch(char const* call, batch_plan<Element, Options> const& how, batch_facts const& f,
                                     view_facts const& buffer, pool_layout const& pool, extras_facts const& extras,
                                     bool host)
{
    auto const& o = how.options;
    batch_limits const& l = how.limits;
    rule_checker c(call);
    bool const writes = o.combine != combination_kind::separate;
    std::int64_t const tokens = f.query.extent[0], sequences = f.lengths.extent[0];
    c.require(how.how.workspace_bytes > 0, rule_kind::value, "plan", "empty", "one that plan_batch() made");
    require_contiguous(c, "query", f.query);
    require_extents(c, "query", f.query, {tokens, l.query_heads, l.head_dim});
    if (writes)
    {
        require_contiguous(c, "output", f.output);
        require_extents(c, "output", f.output, {tokens, l.query_heads, l.value_dim});
    }
    require_batch(c, l, f, pool);
    require_new_tokens(c, l, f, tokens);
    if (c.found()) return c.found();
    // Extras are those of one sequence of all tokens.
    problem p = l;
    p.batch = 1, p.queries = tokens, p.keys = extras.residual_key.extent[1];
    if (extras.residual_key)
    {
        p.residual_dim = extras.residual_key.extent[3];
        std::int64_t const* const e = extras.residual_key.extent;
        bool const in_pages = f.kind == cache_kind::packed ? e[0] == 1 && e[1] == f.key.extent[0]
                                                           : e[0] == f.key.extent[0] && e[1] == f.key.extent[1];
        c.require(in_pages && e[2] == l.key_heads, rule_kind::shape, "residual_key", word(e, 4),
                  "the cache's, but for the last dimension");
        require_contiguous(c, "residual_key", extras.residual_key);
        require_reach(c, "residual_key", extras.residual_key, host);
    }
    extras_facts of_tokens = extras;
    of_tokens.residual_key = {};
    if (extras.residual_key)
    {
        c.require(static_cast<bool>(extras.residual_query), rule_kind::value, "extras.residual_inputs", "keys alone",
                  "queries and keys, or neither");
        require_contiguous(c, "residual_query", extras.residual_query);
        require_extents(c, "residual_query", extras.residual_query, {1, tokens, l.query_heads, p.residual_width()});
        require_reach(c, "residual_query", extras.residual_query, host);
        c.require(p.residual_width() == l.residual_width(), rule_kind::shape, "residual_key.extent(3)",
                  p.residual_width(), phrase{l.residual_width(), ", the plan's residual_dim"});
    }
    require_extras(c, p, of_tokens, most_lists(tokens, sequences, window_of(o).tile), o.top_k, host);
    c.require(writes || extras.sparse, rule_kind::value, "extras.return_branches", "absent",
              "both branches' views with combination separate");
    c.require(o.combine != combination_kind::sparse_only || !extras.sparse, rule_kind::value, "extras.return_branches",
              "given with sparse_only",
              "absent: sparse_only has no residual branch, and its output is the exact branch");
    c.require(extras.given_indices.extent[3] <= std::max<std::int64_t>(how.how.list_capacity, 0), rule_kind::value,
              "extras.use_lists entries", extras.given_indices.extent[3],
              phrase{"at most ", how.how.list_capacity, ", the plan's entries of a list"});
    require_pool_of(c, how, buffer, pool);
    require_bytes(c, rule_kind::value, "workspace", f.scratch, how.how.workspace_bytes, " (plan.workspace_bytes())");
    memory_map map;
    map.reads("query", f.query);
    add_cache(map, f);
    if (writes) map.writes("output", f.output);
    add_extras(map, extras);
    map.reads("batch.offsets", f.offsets).reads("batch.lengths", f.lengths).reads("batch.slots", f.slots);
    map.reads("cache.page_table", f.table);
    map.writes("pool.buffer()", buffer).writes("workspace", f.scratch).require(c);
    return c.found();
}

template <class Element, class Options>
void require_cache_write(char const* call, batch_plan<Element, Options> const& how, batch_facts const& f,
                         pool_layout const& pool)
{
    rule_checker c(call);
    require_new_tokens(c, how.limits, f, f.new_key.extent[0]);
    require_batch(c, how.limits, f, pool);
    memory_map map;
    add_cache(map, f);
    map.reads("batch.offsets", f.offsets).reads("batch.lengths", f.lengths).reads("batch.slots", f.slots);
    map.reads("cache.page_table", f.table).require(c);
    c.throw_if_found();
}

} // namespace spla::detail
