// SPDX-FileCopyrightText: The spla authors
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
// Lesson 3: generation. A prompt is prefilled, then tokens arrive one by one: append, decode, append, decode. A batch
// of two sequences; all memory is made before the loop, and nothing is allocated or fenced inside it.
//
// Prints (the numbers are of this size, the plan depends on the machine):
//     spla::decode: portable kernel (host space), ...
//     1500 + 200 tokens of 2 sequences; largest difference from one prefill of all: 1e-06, agrees: worst 0.0. of its
//     bound
#include <spla/reference/reference.hpp>
#include <spla/spla.hpp>

#include <algorithm>
#include <cstdio>
#include <iostream>
#include <string>

namespace reference = spla::reference;
using space = Kokkos::DefaultExecutionSpace;
using tensor = Kokkos::View<float****, Kokkos::LayoutRight, space::memory_space>;

tensor made_up(char const* name, int batch, int tokens, int heads, int width, unsigned seed)
{
    tensor const made(name, batch, tokens, heads, width);
    auto const host = Kokkos::create_mirror_view(made);
    for (std::size_t i = 0; i < host.size(); ++i)
    {
        seed = seed * 1664525u + 1013904223u;
        host.data()[i] = static_cast<float>(seed >> 8) * 0x1p-23f - 1.0f;
    }
    Kokkos::deep_copy(made, host);
    return made;
}

auto tokens_of(tensor const& view, int first, int end)
{
    return Kokkos::subview(view, Kokkos::ALL, Kokkos::make_pair(first, end), Kokkos::ALL, Kokkos::ALL);
}

int main(int count, char* arguments[])
{
    Kokkos::ScopeGuard const kokkos(count, arguments);
    int const batch = 2, prompt = 1500, steps = 200, tokens = prompt + steps, query_heads = 6, key_heads = 2,
              width = 64;
    tensor const query = made_up("query", batch, tokens, query_heads, width, 1),
                 new_key = made_up("new_key", batch, tokens, key_heads, width, 2),
                 new_value = made_up("new_value", batch, tokens, key_heads, width, 3);
    tensor const key("cache of keys", batch, tokens, key_heads, width),
        value("cache of values", batch, tokens, key_heads, width), output("output", batch, tokens, query_heads, width),
        whole("whole", batch, tokens, query_heads, width);

    space const exec;
    spla::options<> const options{.top_k = 4};
    auto const sizes = [&](int queries, int keys) {
        return spla::problem{.batch = batch,
                             .queries = queries,
                             .keys = keys,
                             .query_heads = query_heads,
                             .key_heads = key_heads,
                             .head_dim = width,
                             .value_dim = width};
    };
    spla::plan const of_prompt = spla::plan_prefill(exec, sizes(prompt, prompt), options),
                     of_step = spla::plan_decode(exec, sizes(1, tokens), options);
    auto state = spla::make_sequence_state(exec, sizes(tokens, tokens), options); // room for all that will come
    auto const prompt_scratch = spla::make_workspace(exec, of_prompt),
               step_scratch = spla::make_workspace(exec, of_step);
    spla::warm_up(exec, of_prompt);
    spla::warm_up(exec, of_step);
    std::cout << of_step << '\n';

    // The prompt: append writes the cache, prefill attends. (prefill alone also appends keys that already lie in the
    // cache.)
    spla::append(exec, tokens_of(new_key, 0, prompt), tokens_of(new_value, 0, prompt), key, value, state, options);
    spla::prefill(exec, tokens_of(query, 0, prompt), tokens_of(key, 0, prompt), tokens_of(value, 0, prompt),
                  tokens_of(output, 0, prompt), state, options, prompt_scratch);
    for (int t = prompt; t < tokens; ++t)
    {
        spla::append(exec, tokens_of(new_key, t, t + 1), tokens_of(new_value, t, t + 1), key, value, state, options);
        spla::decode(exec, tokens_of(query, t, t + 1), tokens_of(key, 0, t + 1), tokens_of(value, 0, t + 1),
                     tokens_of(output, t, t + 1), state, options, step_scratch);
    }

    // The same tokens in one call, with the lists of blocks that each query selected.
    auto fresh = spla::make_sequence_state(exec, sizes(tokens, tokens), options);
    auto const scratch = spla::make_workspace(exec, spla::plan_prefill(exec, sizes(tokens, tokens), options));
    Kokkos::View<int****, Kokkos::LayoutRight, space::memory_space> const indices("indices", batch, tokens, key_heads,
                                                                                  options.top_k);
    Kokkos::View<int***, Kokkos::LayoutRight, space::memory_space> const lengths("lengths", batch, tokens, key_heads);
    spla::block_list<decltype(indices), decltype(lengths)> const lists{indices, lengths};
    spla::prefill(exec, query, new_key, new_value, whole, fresh, options, scratch,
                  spla::attention_extras<float>().return_lists(lists));
    exec.fence();

    // Sums in another order differ by rounding: by no more than twice the bound that the reference computes for every
    // number of the definition's result, for the same lists.
    auto const host_indices = Kokkos::create_mirror_view_and_copy(Kokkos::HostSpace{}, indices);
    auto const host_lengths = Kokkos::create_mirror_view_and_copy(Kokkos::HostSpace{}, lengths);
    reference::comparison judged, off_by_one;
    double worst = 0;
    for (int b = 0; b < batch; ++b)
    {
        reference::lists chosen(steps);
        for (int i = 0; i < steps; ++i)
            for (int head = 0; head < key_heads; ++head)
            {
                int const* const list = &host_indices(b, prompt + i, head, 0);
                chosen[i].emplace_back(list, list + host_lengths(b, prompt + i, head));
            }
        reference::sequence sequence;
        sequence.query = sequence.residual_query = reference::heads_of(tokens_of(query, prompt, tokens), b);
        sequence.key = sequence.residual_key = reference::heads_of(new_key, b);
        sequence.value = reference::heads_of(new_value, b);
        double const unit = 0x1p-24; // of float
        auto const truth = reference::attend(sequence, chosen, options, unit, unit);
        auto const mine = reference::heads_of(tokens_of(output, prompt, tokens), b),
                   theirs = reference::heads_of(tokens_of(whole, prompt, tokens), b);
        for (int head = 0; head < query_heads; ++head)
        {
            reference::matrix const bound = 2 * truth.output_bound[head];
            judged.add("head " + std::to_string(head), mine[head], theirs[head], bound);
            // A check is worth what it refuses: every token held against the one before.
            off_by_one.add("", mine[head].bottomRows(steps - 1), theirs[head].topRows(steps - 1),
                           bound.bottomRows(steps - 1));
            worst = std::max(worst, (mine[head] - theirs[head]).cwiseAbs().maxCoeff());
        }
    }
    bool const agrees = judged.passed && !off_by_one.passed;
    std::printf("%d + %d tokens of %d sequences; largest difference from one prefill of all: %.0e, %s\n", prompt, steps,
                batch, worst, agrees ? "agrees" : "DOES NOT AGREE");
    std::printf("every number of the %d: %.0e of its bound at most\n", steps, judged.worst);
    return agrees ? 0 : 1;
}
