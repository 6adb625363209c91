// SPDX-FileCopyrightText: The spla authors
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once
#include "lists.hpp"
#include "views.hpp"

namespace spla_test
{

/// Every call of spla with views of one type.
template <class Exec, class Element, class Options = spla::options<>, class Out = spla::accumulator_t<Element>>
struct calls
{
    using space = typename Exec::memory_space;
    using view = any_view<Element, space>;
    using output = any_view<Out, space>;
    using state = spla::sequence_state<space>;
    using scratch = spla::workspace<space>;
    using extras = spla::attention_extras<Element>;
    using violation = std::optional<spla::violation>;

    static state make_state(Exec const& exec, spla::problem const& capacity, Options const& o);
    static scratch prefill_scratch(Exec const& exec, spla::problem const& p, Options const& o);
    static scratch decode_scratch(Exec const& exec, spla::problem const& p, Options const& o, int list_capacity = 0);

    static void append(Exec const& exec, view const& new_key, view const& new_value, view const& key, view const& value,
                       state& s, Options const& o, extras const& e = {});
    static void prefill(Exec const& exec, view const& query, view const& key, view const& value, output const& out,
                        state& s, Options const& o, scratch const& w, extras const& e = {});
    static void decode(Exec const& exec, view const& query, view const& key, view const& value, output const& out,
                       state& s, Options const& o, scratch const& w, extras const& e = {});

    static violation check_append(Exec const& exec, view const& new_key, view const& new_value, view const& key,
                                  view const& value, state const& s, Options const& o, extras const& e = {});
    static violation check_prefill(Exec const& exec, view const& query, view const& key, view const& value,
                                   output const& out, state const& s, Options const& o, scratch const& w,
                                   extras const& e = {});
    static violation check_decode(Exec const& exec, view const& query, view const& key, view const& value,
                                  output const& out, state const& s, Options const& o, scratch const& w,
                                  extras const& e = {});

    static void block_statistics(Exec const& exec, view const& key, state& s, std::int64_t first, std::int64_t count,
                                 Options const& o);
    static void select(Exec const& exec, view const& query, view const& key, state& s, int_lists<space> const& lists,
                       Options const& o);
    static void selected_attention(Exec const& exec, view const& query, view const& key, view const& value,
                                   output const& out, Options const& o, extras const& e);
    static void residual_attention(Exec const& exec, view const& query, view const& key, view const& value,
                                   output const& out, state const& s, Options const& o, extras const& e);
    static void combine(Exec const& exec, output const& sparse, output const& residual, output const& out,
                        Options const& o, spla::attention_extras<Out> const& e = {});
};

template <class Exec, class Element, class Options, class Out>
auto calls<Exec, Element, Options, Out>::make_state(Exec const& exec, spla::problem const& capacity, Options const& o)
    -> state
{
    auto const made = spla::make_sequence_state(exec, capacity, o);
    Kokkos::deep_copy(exec, made.buffer(), std::byte{0xff}); // NaN in every type, until something is written
    return made;
}
template <class Exec, class Element, class Options, class Out>
auto calls<Exec, Element, Options, Out>::prefill_scratch(Exec const& exec, spla::problem const& p, Options const& o)
    -> scratch
{
    return spla::make_workspace(exec, spla::plan_prefill(exec, p, o));
}
template <class Exec, class Element, class Options, class Out>
auto calls<Exec, Element, Options, Out>::decode_scratch(Exec const& exec, spla::problem const& p, Options const& o,
                                                        int list_capacity) -> scratch
{
    return spla::make_workspace(exec, spla::plan_decode(exec, p, o, list_capacity));
}
template <class Exec, class Element, class Options, class Out>
void calls<Exec, Element, Options, Out>::append(Exec const& exec, view const& new_key, view const& new_value,
                                                view const& key, view const& value, state& s, Options const& o,
                                                extras const& e)
{
    spla::append(exec, new_key, new_value, key, value, s, o, e);
}
template <class Exec, class Element, class Options, class Out>
void calls<Exec, Element, Options, Out>::prefill(Exec const& exec, view const& query, view const& key,
                                                 view const& value, output const& out, state& s, Options const& o,
                                                 scratch const& w, extras const& e)
{
    spla::prefill(exec, query, key, value, out, s, o, w, e);
}
template <class Exec, class Element, class Options, class Out>
void calls<Exec, Element, Options, Out>::decode(Exec const& exec, view const& query, view const& key, view const& value,
                                                output const& out, state& s, Options const& o, scratch const& w,
                                                extras const& e)
{
    spla::decode(exec, query, key, value, out, s, o, w, e);
}
template <class Exec, class Element, class Options, class Out>
auto calls<Exec, Element, Options, Out>::check_append(Exec const& exec, view const& new_key, view const& new_value,
                                                      view const& key, view const& value, state const& s,
                                                      Options const& o, extras const& e) -> violation
{
    return spla::check_append(exec, new_key, new_value, key, value, s, o, e);
}
template <class Exec, class Element, class Options, class Out>
auto calls<Exec, Element, Options, Out>::check_prefill(Exec const& exec, view const& query, view const& key,
                                                       view const& value, output const& out, state const& s,
                                                       Options const& o, scratch const& w, extras const& e) -> violation
{
    return spla::check_prefill(exec, query, key, value, out, s, o, w, e);
}
template <class Exec, class Element, class Options, class Out>
auto calls<Exec, Element, Options, Out>::check_decode(Exec const& exec, view const& query, view const& key,
                                                      view const& value, output const& out, state const& s,
                                                      Options const& o, scratch const& w, extras const& e) -> violation
{
    return spla::check_decode(exec, query, key, value, out, s, o, w, e);
}
template <class Exec, class Element, class Options, class Out>
void calls<Exec, Element, Options, Out>::block_statistics(Exec const& exec, view const& key, state& s,
                                                          std::int64_t first, std::int64_t count, Options const& o)
{
    spla::block_statistics(exec, key, s, first, count, o);
}
template <class Exec, class Element, class Options, class Out>
void calls<Exec, Element, Options, Out>::select(Exec const& exec, view const& query, view const& key, state& s,
                                                int_lists<space> const& lists, Options const& o)
{
    spla::select(exec, query, key, s, lists, o);
}
template <class Exec, class Element, class Options, class Out>
void calls<Exec, Element, Options, Out>::selected_attention(Exec const& exec, view const& query, view const& key,
                                                            view const& value, output const& out, Options const& o,
                                                            extras const& e)
{
    spla::selected_attention(exec, query, key, value, out, o, e);
}
template <class Exec, class Element, class Options, class Out>
void calls<Exec, Element, Options, Out>::residual_attention(Exec const& exec, view const& query, view const& key,
                                                            view const& value, output const& out, state const& s,
                                                            Options const& o, extras const& e)
{
    spla::residual_attention(exec, query, key, value, out, s, o, e);
}
template <class Exec, class Element, class Options, class Out>
void calls<Exec, Element, Options, Out>::combine(Exec const& exec, output const& sparse, output const& residual,
                                                 output const& out, Options const& o,
                                                 spla::attention_extras<Out> const& e)
{
    spla::combine(exec, sparse, residual, out, o, e);
}

} // namespace spla_test
