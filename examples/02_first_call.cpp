// SPDX-FileCopyrightText: The spla authors
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
// Lesson 2: the first call. Memory that you own, wrapped as unmanaged views: spla copies nothing and allocates nothing
// inside.
//
// Prints:
//     2048 tokens, 4 query heads, 2 key heads: output of every token is finite
//     same output from a transposed cache: yes
//     a wrong shape: spla::prefill: value is [1, 1024, 2, 32]; allowed: [1, 2048, 2, 32]
#include <spla/spla.hpp>

#include <cmath>
#include <cstdio>
#include <vector>

using space =
    Kokkos::DefaultHostExecutionSpace; // plain pointers to host memory; device pointers go to a device's space
using unmanaged = Kokkos::MemoryTraits<Kokkos::Unmanaged>;

int main(int count, char* arguments[])
{
    Kokkos::ScopeGuard const kokkos(count, arguments);
    int const tokens = 2048, query_heads = 4, key_heads = 2, width = 32;

    // What a program has: plain arrays [token, head, dim].
    std::vector<float> query(tokens * query_heads * width), key(tokens * key_heads * width), value(key.size()),
        output(query.size());
    for (std::size_t i = 0; i < query.size(); ++i) query[i] = std::sin(0.37f * static_cast<float>(i % 7919));
    for (std::size_t i = 0; i < key.size(); ++i)
        key[i] = std::cos(0.11f * static_cast<float>(i % 6007)),
        value[i] = std::sin(0.05f * static_cast<float>(i % 4001));

    // Views over them, [batch, token, head, dim]. Inputs may be const; nothing is copied.
    using input = Kokkos::View<float const****, Kokkos::LayoutRight, space::memory_space, unmanaged>;
    using result = Kokkos::View<float****, Kokkos::LayoutRight, space::memory_space, unmanaged>;
    input const q(query.data(), 1, tokens, query_heads, width), k(key.data(), 1, tokens, key_heads, width),
        v(value.data(), 1, tokens, key_heads, width);
    result const o(output.data(), 1, tokens, query_heads, width);

    // What is computed, and the memory that the calls need: made once, used by any number of calls.
    space const exec;
    spla::options<> const options{.top_k = 4, .segment_tokens = 1024};
    spla::problem const sizes{.queries = tokens,
                              .keys = tokens,
                              .query_heads = query_heads,
                              .key_heads = key_heads,
                              .head_dim = width,
                              .value_dim = width};
    auto state = spla::make_sequence_state(exec, sizes, options);
    auto const scratch = spla::make_workspace(exec, spla::plan_prefill(exec, sizes, options));

    spla::prefill(exec, q, k, v, o, state, options, scratch);
    exec.fence();
    bool finite = true;
    for (float x : output) finite = finite && std::isfinite(x);
    std::printf("%d tokens, %d query heads, %d key heads: output of every token is %s\n", tokens, query_heads,
                key_heads, finite ? "finite" : "NOT FINITE");

    // Keys stored [head, token, dim] instead: the same call, other strides. Only the last dimension must be contiguous.
    std::vector<float> other(key.size()), again(output.size());
    for (int t = 0; t < tokens; ++t)
        for (int h = 0; h < key_heads; ++h)
            for (int d = 0; d < width; ++d) other[(h * tokens + t) * width + d] = k(0, t, h, d);
    Kokkos::LayoutStride const strides(1, tokens * key_heads * width, tokens, width, key_heads, tokens * width, width,
                                       1);
    Kokkos::View<float const****, Kokkos::LayoutStride, space::memory_space, unmanaged> const by_head(other.data(),
                                                                                                      strides);
    state.reset();
    spla::prefill(exec, q, by_head, v, result(again.data(), 1, tokens, query_heads, width), state, options, scratch);
    exec.fence();
    bool const same = again == output;
    std::printf("same output from a transposed cache: %s\n", same ? "yes" : "NO");

    // A call that cannot be right says which argument, what it is and what is allowed; nothing is written then.
    bool refused = false;
    state.reset();
    try
    {
        spla::prefill(exec, q, k, input(value.data(), 1, tokens / 2, key_heads, width), o, state, options, scratch);
    } catch (spla::argument_error const& e)
    {
        refused = true;
        std::printf("a wrong shape: %s\n", e.what());
    }
    return finite && same && refused ? 0 : 1;
}
