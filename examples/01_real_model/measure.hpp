// SPDX-FileCopyrightText: The spla authors
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once
#include "trace.hpp"

#include <spla/reference/reference.hpp>

#include <chrono>
#include <memory>

/// spla's calls on a trace, with what the tables need of them.
namespace lesson
{

using lists_of_blocks = spla::block_list<Kokkos::View<int****, Kokkos::LayoutRight, space::memory_space>,
                                         Kokkos::View<int***, Kokkos::LayoutRight, space::memory_space>>;

template <class Options>
lists_of_blocks room_for_lists(int queries, int keys, int key_heads, Options const& o)
{
    std::size_t const tiles = spla::tile_count(queries, keys, spla::window_of(o).tile);
    return {{"lesson::indices", 1, tiles, std::size_t(key_heads), std::size_t(o.top_k)},
            {"lesson::lengths", 1, tiles, std::size_t(key_heads)}};
}

/// Outputs of the last queries of a text, with their lists.
struct attended
{
    tensor<float> output; ///< [1, query, query head, Dv]
    lists_of_blocks lists;
    double seconds = 0; ///< the call alone: its memory is made before
};

/// One prefill of the text's last `queries` tokens. The first `held` tokens are appended before the clock starts.
template <class Element, class Options>
attended prefill(trace<Element> const& x, int queries, Options const& o, int held = 0)
{
    space const exec;
    int const keys = x.tokens();
    spla::problem const sizes = x.sizes(queries, keys);
    attended made{tensor<float>("lesson::output", 1, queries, x.query_heads(), x.value.extent(3)),
                  room_for_lists(queries, keys, x.key_heads(), o)};
    auto state = spla::make_sequence_state(exec, sizes, o);
    spla::plan const plan = spla::plan_prefill(exec, sizes, o);
    auto const scratch = spla::make_workspace(exec, plan);
    for (int at = 0; at < held;)
    {
        int const end = std::min(at + o.segment_tokens, held);
        // The cache is the trace itself: the new tokens already lie at their place.
        spla::append(exec, tokens_of(x.key, at, end), tokens_of(x.value, at, end), x.key, x.value, state, o);
        at = end;
    }
    spla::warm_up(exec, plan);
    spla::attention_extras<Element> extras;
    extras.return_lists(made.lists);
    exec.fence();
    auto const begin = std::chrono::steady_clock::now();
    spla::prefill(exec, tokens_of(x.query, keys - queries, keys), x.key, x.value, made.output, state, o, scratch,
                  extras);
    exec.fence();
    made.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
    return made;
}

/// The text's last `steps` tokens one by one, append and decode, after a prefill of the rest.
struct decoded
{
    double worst = 0;                   ///< largest difference from `whole` over a row, relative to the row's length
    spla::reference::comparison judged; ///< every number against `whole`, with a bound computed from types and sizes
    bool same_lists = true;             ///< every step selected what the whole prefill selected
    double seconds_a_token = 0;
};

/// Bounds of the outputs of the text's last `steps` tokens, per query head [step, Dv]: how far arithmetic in float can
/// take them from the definition, for the lists of these tokens, `chosen`.
template <class Element, class Options>
std::vector<spla::reference::matrix> rounding_bounds(trace<Element> const& x, int steps,
                                                     spla::reference::lists const& chosen, Options const& o)
{
    spla::reference::sequence text;
    text.query = text.residual_query = spla::reference::heads_of(tokens_of(x.query, x.tokens() - steps, x.tokens()), 0);
    text.key = text.residual_key = spla::reference::heads_of(x.key, 0);
    text.value = spla::reference::heads_of(x.value, 0);
    double const unit = 0x1p-24; // of float: what spla computes with for 16-bit elements, and the type of the outputs
    return spla::reference::attend(text, chosen, o, unit, unit).output_bound;
}

template <class Element, class Options>
decoded decode_last(trace<Element> const& x, int steps, attended const& whole, Options const& o)
{
    space const exec;
    int const keys = x.tokens(), before = keys - steps;
    auto state = spla::make_sequence_state(exec, x.sizes(keys, keys), o);
    tensor<float> const output("lesson::output", 1, keys, x.query_heads(), x.value.extent(3));
    lists_of_blocks const lists = room_for_lists(steps, keys, x.key_heads(), o);
    spla::plan const prompt = spla::plan_prefill(exec, x.sizes(before, before), o),
                     step = spla::plan_decode(exec, x.sizes(1, keys), o);
    auto const scratch = spla::make_workspace(exec, prompt.workspace_bytes > step.workspace_bytes ? prompt : step);
    spla::warm_up(exec, prompt);
    spla::warm_up(exec, step);
    spla::prefill(exec, tokens_of(x.query, 0, before), tokens_of(x.key, 0, before), tokens_of(x.value, 0, before),
                  tokens_of(output, 0, before), state, o, scratch);
    exec.fence();
    auto const begin = std::chrono::steady_clock::now();
    for (int t = before; t < keys; ++t)
    {
        auto const row = Kokkos::make_pair(t - before, t - before + 1);
        auto const indices = Kokkos::subview(lists.indices, Kokkos::ALL, row, Kokkos::ALL, Kokkos::ALL);
        auto const lengths = Kokkos::subview(lists.lengths, Kokkos::ALL, row, Kokkos::ALL);
        spla::block_list<decltype(indices), decltype(lengths)> const list{indices, lengths};
        spla::append(exec, tokens_of(x.key, t, t + 1), tokens_of(x.value, t, t + 1), x.key, x.value, state, o);
        spla::decode(exec, tokens_of(x.query, t, t + 1), tokens_of(x.key, 0, t + 1), tokens_of(x.value, 0, t + 1),
                     tokens_of(output, t, t + 1), state, o, scratch,
                     spla::attention_extras<Element>().return_lists(list));
    }
    exec.fence();
    decoded made;
    made.seconds_a_token = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count() / steps;

    auto const host = [](auto const& view) { return Kokkos::create_mirror_view_and_copy(Kokkos::HostSpace{}, view); };
    auto const mine = host(output), theirs = host(whole.output);
    auto const my_lists = host(lists.indices), their_lists = host(whole.lists.indices);
    auto const my_lengths = host(lists.lengths), their_lengths = host(whole.lists.lengths);
    int const skipped = static_cast<int>(theirs.extent(1)) - steps;
    spla::reference::lists chosen(steps);
    for (int i = 0; i < steps; ++i)
        for (int head = 0; head < x.key_heads(); ++head)
        {
            made.same_lists = made.same_lists && my_lengths(0, i, head) == their_lengths(0, skipped + i, head);
            for (int n = 0; n < o.top_k; ++n)
                made.same_lists = made.same_lists && my_lists(0, i, head, n) == their_lists(0, skipped + i, head, n);
            int const* const list = &my_lists(0, i, head, 0);
            chosen[i].emplace_back(list, list + my_lengths(0, i, head));
        }
    auto const bound = rounding_bounds(x, steps, chosen, o);
    for (int head = 0; head < x.query_heads(); ++head)
        for (int i = 0; i < steps; ++i)
        {
            double difference = 0, length = 0;
            for (std::size_t d = 0; d < mine.extent(3); ++d)
            {
                double const number = mine(0, before + i, head, d), truth = theirs(0, skipped + i, head, d);
                difference += std::pow(number - truth, 2);
                length += truth * truth;
                // Each way is within the bound of the definition, so both are within twice the bound of one another.
                made.judged.add(number, truth, 2 * bound[head](i, d), "head " + std::to_string(head));
            }
            double const relative = difference > 0 || std::isnan(difference) ? std::sqrt(difference / length) : 0.0;
            if (!(relative <= made.worst)) made.worst = relative; // so that NaN stays
        }
    return made;
}

} // namespace lesson
