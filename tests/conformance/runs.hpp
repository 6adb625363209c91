// SPDX-FileCopyrightText: The spla authors
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once
#include "calls.hpp"
#include "verdict.hpp"

namespace spla_test
{

/// One prefill of all keys and queries into an empty state, asked for everything.
template <class Exec, class Element, class Out, class Options>
void prefill_into(results<Exec, Element, Out> const& r, data<Exec, Element> const& d, Options const& o,
                  Exec const& exec)
{
    using call = calls<Exec, Element, Options, Out>;
    auto state = call::make_state(exec, d.problem(), o);
    auto extras = r.extras(o.combine != spla::combination_kind::sparse_only);
    d.give_inputs(extras, 0, d.size.queries, d.size.keys);
    call::prefill(exec, d.query, d.key, d.value, r.output, state, o, call::prefill_scratch(exec, d.problem(), o),
                  extras);
    exec.fence();
}
template <class Exec, class Element, class Options>
results<Exec, Element> run_prefill(data<Exec, Element> const& d, Options const& o, Exec const& exec = {})
{
    results<Exec, Element> r(d.size, o);
    prefill_into(r, d, o, exec);
    return r;
}

/// The same problem in parts, each a prefill of a chunk or an append and a decode. Parts are key positions: those of a
/// problem's queries are [M - L, M). What the parts return is gathered in r.
template <class Exec, class Element = float, class Options = spla::options<>>
struct stepper
{
    using call = calls<Exec, Element, Options>;
    data<Exec, Element> const& d;
    Options o;
    Exec exec;
    results<Exec, Element> r;
    typename call::state state;

    stepper(data<Exec, Element> const& given, Options const& options)
        : d(given), o(options), r(given.size, options), state(call::make_state(exec, given.problem(), options))
    {
    }
    /// Attends the queries of positions [begin, end) and appends what keys before `end` the state does not hold.
    void prefill(int begin, int end) { attend(begin, end, false); }
    /// The new keys already lie where the cache has them.
    void append(int begin, int end);
    /// Queries [begin, end), the last of all tokens that were appended.
    void decode(int begin, int end) { attend(begin, end, true); }
    void step(int begin, int end)
    {
        append(begin, end);
        decode(begin, end);
    }

private:
    void attend(int begin, int end, bool decode);
};

template <class Exec, class Element, class Options>
void stepper<Exec, Element, Options>::append(int begin, int end)
{
    spla::attention_extras<Element> e;
    if (d.size.residual_dim > 0) e.residual_inputs(d.residual_query, d.residual_key);
    call::append(exec, tokens(d.key, begin, end), tokens(d.value, begin, end), d.key, d.value, state, o, e);
}

template <class Exec, class Element, class Options>
void stepper<Exec, Element, Options>::attend(int begin, int end, bool decode)
{
    int const first = d.size.keys - d.size.queries, from = begin - first, to = end - first;
    auto const tile = spla::window_of(o).tile;
    auto const lists = unwritten_lists<typename Exec::memory_space>(
        d.size.batch, spla::tile_count(end - begin, end, tile), d.size.key_heads, o.top_k);
    spla::attention_extras<Element> e;
    e.return_lists(lists).return_lse(r.lse_of(from, to));
    if (o.combine != spla::combination_kind::sparse_only)
        e.return_branches(tokens(r.sparse, from, to), tokens(r.residual, from, to));
    d.give_inputs(e, from, to, end);
    auto const q = tokens(d.query, from, to), k = tokens(d.key, 0, end), v = tokens(d.value, 0, end);
    auto const out = tokens(r.output, from, to);
    auto const p = d.problem(end - begin, end);
    if (decode)
        call::decode(exec, q, k, v, out, state, o, call::decode_scratch(exec, p, o), e);
    else
        call::prefill(exec, q, k, v, out, state, o, call::prefill_scratch(exec, p, o), e);
    exec.fence();
    if (begin >= end) return;
    auto const all = on_host(r.lists);
    copy_tiles(on_host(lists), all,
               static_cast<int>(spla::floor_divide(begin, tile) - spla::floor_divide(first, tile)));
    from_host(all, r.lists);
}

} // namespace spla_test
