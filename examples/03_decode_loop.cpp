// SPDX-FileCopyrightText: The spla authors
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
// Lesson 3: generation. A prompt is prefilled, then tokens arrive one by one: append, decode, append, decode. A batch
// of two sequences; all memory is made before the loop, and nothing is allocated or fenced inside it.
//
// Prints (the second line's number is of this size, the plan depends on the machine):
//     spla::decode: portable kernel (host space), ...
//     1500 + 200 tokens of 2 sequences; largest difference from one prefill of all: 1e-06, agrees
#include <spla/spla.hpp>

#include <cmath>
#include <cstdio>
#include <iostream>

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

    // The same tokens in one call.
    auto fresh = spla::make_sequence_state(exec, sizes(tokens, tokens), options);
    auto const scratch = spla::make_workspace(exec, spla::plan_prefill(exec, sizes(tokens, tokens), options));
    spla::prefill(exec, query, new_key, new_value, whole, fresh, options, scratch);
    exec.fence();

    auto const a = Kokkos::create_mirror_view_and_copy(Kokkos::HostSpace{}, output),
               b = Kokkos::create_mirror_view_and_copy(Kokkos::HostSpace{}, whole);
    double worst = 0;
    for (std::size_t i = 0; i < a.size(); ++i)
    {
        double const difference = std::abs(a.data()[i] - b.data()[i]);
        if (!(difference <= worst)) worst = difference; // so that NaN stays
    }
    bool const agrees = worst < 1e-4;
    std::printf("%d + %d tokens of %d sequences; largest difference from one prefill of all: %.0e, %s\n", prompt, steps,
                batch, worst, agrees ? "agrees" : "DOES NOT AGREE");
    return agrees ? 0 : 1;
}
