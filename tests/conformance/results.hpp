// SPDX-FileCopyrightText: The spla authors
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once
#include "lists.hpp"
#include "problem_data.hpp"

#include <limits>

namespace spla_test
{

/// Everything that the calls of one problem return. Out is the outputs' element: the accumulation type or the inputs'
/// own.
template <class Exec, class Element = float, class Out = spla::accumulator_t<Element>>
struct results
{
    using space = typename Exec::memory_space;
    using accumulator = spla::accumulator_t<Element>;
    any_view<Out, space> output, sparse, residual;
    any_view<accumulator, space> lse; ///< [batch, L, Hq, 1]
    int_lists<space> lists;

    results(shape const& s, std::int64_t tiles, int top_k);
    template <class Options>
    results(shape const& s, Options const& o)
        : results(s, spla::tile_count(s.queries, s.keys, spla::window_of(o).tile), o.top_k)
    {
    }

    /// Log-sum-exp of queries [begin, end) as a call takes it.
    auto lse_of(int begin, int end) const
    {
        return Kokkos::subview(lse, Kokkos::ALL, range(begin, end), Kokkos::ALL, 0);
    }
    /// Asks for everything but the output: branches (with the residual), log-sum-exp and lists.
    spla::attention_extras<Element> extras(bool with_residual = true) const;
    /// The lists of sequence b.
    spla::reference::lists chosen(int b) const { return lists_of(on_host(lists), b); }
};

/// [batch, L, Hq, dim] filled with NaN: every element must be written, or it shows.
template <class Space, class T>
any_view<T, Space> unwritten(shape const& s, int dim, T nan)
{
    host_view<T> const all("unwritten", s.batch, s.queries, s.query_heads, dim);
    std::fill_n(all.data(), all.size(), nan);
    auto const v = empty_view<T, Space>(s.batch, s.queries, s.query_heads, dim);
    from_host(all, v);
    return v;
}

template <class Exec, class Element, class Out>
results<Exec, Element, Out>::results(shape const& s, std::int64_t tiles, int top_k)
    : lists(unwritten_lists<space>(s.batch, tiles, s.key_heads, top_k))
{
    double const nan = std::numeric_limits<double>::quiet_NaN();
    output = unwritten<space>(s, s.value_dim, narrow<Out>(nan));
    sparse = unwritten<space>(s, s.value_dim, narrow<Out>(nan));
    residual = unwritten<space>(s, s.value_dim, narrow<Out>(nan));
    lse = unwritten<space>(s, 1, narrow<accumulator>(nan));
}

template <class Exec, class Element, class Out>
spla::attention_extras<Element> results<Exec, Element, Out>::extras(bool with_residual) const
{
    spla::attention_extras<Element> e;
    e.return_lists(lists).return_lse(lse_of(0, static_cast<int>(lse.extent(1))));
    if (with_residual) e.return_branches(sparse, residual);
    return e;
}

} // namespace spla_test
