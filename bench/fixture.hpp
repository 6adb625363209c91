// SPDX-FileCopyrightText: The spla authors
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once
#include "inputs.hpp"

#include <algorithm>
#include <utility>
#include <vector>

namespace spla_bench
{

using spla::options;
using lists_view = spla::block_list<view4<std::int32_t>, Kokkos::View<std::int32_t***, Kokkos::LayoutRight>>;

template <class View>
auto tokens_of(View const& view, std::int64_t begin, std::int64_t end)
{
    return Kokkos::subview(view, Kokkos::ALL, std::make_pair(begin, end), Kokkos::ALL, Kokkos::ALL);
}

/// Drives everything out of the caches, as the rest of a model does between two steps of one layer.
inline void evict_caches()
{
    static std::vector<float> other(32 << 20); // 128 MiB
    float* const x = other.data();
    Kokkos::parallel_for(
        "spla_bench::evict", Kokkos::RangePolicy<exec_space>(0, static_cast<int>(other.size())),
        KOKKOS_LAMBDA(int i) { x[i] += 1.0f; });
    Kokkos::fence();
}

/// One sequence with everything that the parts need, made once and shared by the benchmarks of its size.
template <class Element>
struct fixture
{
    inputs<Element> in;
    options<> o;
    exec_space exec;
    view4<float> output;
    lists_view lists;
    spla::sequence_state<exec_space::memory_space> state;
    spla::workspace<exec_space::memory_space> scratch;
    double executed = 0;    ///< FLOPs of the exact branch: 4 D Hq x keys visible to each query
    double union_ratio = 1; ///< blocks that a work item visits over blocks that one query selected

    fixture(std::int64_t tokens, int dim, options<> const& wanted = {})
        : in(tokens, dim), o(wanted), output("output", 1, tokens, in.query_heads, dim)
    {
        lists.indices = decltype(lists.indices)("lists", 1, tokens, in.key_heads, o.top_k);
        lists.lengths = decltype(lists.lengths)("lengths", 1, tokens, in.key_heads);
        state = spla::make_sequence_state(exec, in.problem(), o);
        auto const plan = spla::plan_prefill(exec, in.problem(), o);
        scratch = spla::make_workspace(exec, plan);
        spla::warm_up(exec, plan);
        append();
        select();
        exec.fence();
        count(plan.tokens_per_item);
    }
    template <class Function>
    void each_segment(Function const& f)
    {
        for (std::int64_t at = 0; at < in.tokens; at += o.segment_tokens)
            f(at, std::min(at + o.segment_tokens, in.tokens));
    }
    void append()
    {
        state.reset();
        each_segment([&](auto begin, auto end) { append(begin, end); });
    }
    void append(std::int64_t begin, std::int64_t end)
    {
        // Where they already lie, new keys are not copied: as in prefill.
        spla::append(exec, tokens_of(in.key, begin, end), tokens_of(in.value, begin, end), in.key, in.value, state, o);
    }
    void select()
    {
        each_segment([&](auto begin, auto end) {
            spla::select(exec, tokens_of(in.query, begin, end), tokens_of(in.key, 0, end), state, part(begin, end), o);
        });
    }
    auto part(std::int64_t begin, std::int64_t end) const
    {
        auto const i = tokens_of(lists.indices, begin, end);
        auto const l = Kokkos::subview(lists.lengths, Kokkos::ALL, std::make_pair(begin, end), Kokkos::ALL);
        return spla::block_list<decltype(i), decltype(l)>{i, l};
    }
    void exact()
    {
        spla::attention_extras<Element> extras;
        extras.use_lists(lists);
        spla::selected_attention(exec, in.query, in.key, in.value, output, o, extras);
    }
    void residual(std::int64_t begin, std::int64_t end)
    {
        spla::attention_extras<Element> extras;
        extras.use_lists(part(begin, end));
        spla::residual_attention(exec, tokens_of(in.query, begin, end), tokens_of(in.key, 0, end),
                                 tokens_of(in.value, 0, end), tokens_of(output, begin, end), state, o, extras);
    }
    void whole()
    {
        state.reset();
        spla::prefill(exec, in.query, in.key, in.value, output, state, o, scratch);
    }
    bool finite() const
    {
        std::int64_t bad = 0;
        float const* const x = output.data();
        Kokkos::parallel_reduce(
            Kokkos::RangePolicy<exec_space, Kokkos::IndexType<std::int64_t>>(0,
                                                                             static_cast<std::int64_t>(output.size())),
            KOKKOS_LAMBDA(std::int64_t i, std::int64_t & sum) { sum += !(x[i] - x[i] == 0.0f); }, bad);
        return bad == 0;
    }

private:
    void count(int item)
    {
        double keys = 0, visited = 0, chosen = 0;
        auto const w = spla::window_of(o);
        for (std::int64_t first = 0; first < in.tokens; first += item)
            for (int h = 0; h < in.key_heads; ++h)
            {
                std::vector<std::int32_t> together;
                double selected = 0;
                std::int64_t const end = std::min<std::int64_t>(first + item, in.tokens);
                for (std::int64_t p = first; p < end; ++p)
                {
                    int const length = lists.lengths(0, p, h);
                    auto const competing = w.competing(p);
                    keys += static_cast<double>(p + 1 - (competing.count() - length) * o.block);
                    selected += length;
                    for (int i = 0; i < length; ++i) together.push_back(lists.indices(0, p, h, i));
                }
                std::sort(together.begin(), together.end());
                visited += static_cast<double>(std::unique(together.begin(), together.end()) - together.begin());
                chosen += selected / static_cast<double>(end - first);
            }
        executed = 4.0 * in.dim * (in.query_heads / in.key_heads) * keys;
        if (chosen > 0) union_ratio = visited / chosen;
    }
};

} // namespace spla_bench
