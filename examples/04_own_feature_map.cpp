// SPDX-FileCopyrightText: The spla authors
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
// Lesson 4: a feature map of your own for the residual (linear) branch. It is written for one vector; spla runs it over
// packs of vectors on CPUs and over threads on GPUs, and uses the same rounded features in both of its sums.
//
// Prints:
//     1024 tokens with soft_relu_pair: within bounds: ...
#include <spla/reference/reference.hpp>
#include <spla/spla.hpp>

#include <cstdio>

/// phi(x) = [f(x), f(-x)], f(x) = max(x, 0) + exp(-|x|) / 2: a relu whose corner is rounded, positive everywhere.
struct soft_relu_pair
{
    static constexpr char const* name = "soft_relu_pair";

    KOKKOS_FUNCTION constexpr int features(int width) const { return 2 * width; }

    /// T is a number, or a pack of one number from each of several vectors: + - * / and spla's exp, max and min work on
    /// both.
    template <class T>
    KOKKOS_FUNCTION void operator()(int width, spla::vector_of<T> x, spla::vector_of<T> phi) const
    {
        for (int d = 0; d < width; ++d)
        {
            using spla::exp, spla::max; // found for packs and plain numbers alike
            T const size = max(x[d], T(0) - x[d]);
            T const tail = T(0.5) * exp(T(0) - size);
            phi.set(d, max(x[d], T(0)) + tail);
            phi.set(width + d, max(T(0) - x[d], T(0)) + tail);
        }
    }
};

using space = Kokkos::DefaultExecutionSpace;
using tensor = Kokkos::View<float****, Kokkos::LayoutRight, space::memory_space>;

tensor made_up(char const* name, int tokens, int heads, int width, unsigned seed)
{
    tensor const made(name, 1, tokens, heads, width);
    auto const host = Kokkos::create_mirror_view(made);
    for (std::size_t i = 0; i < host.size(); ++i)
    {
        seed = seed * 1664525u + 1013904223u;
        host.data()[i] = static_cast<float>(seed >> 8) * 0x1p-23f - 1.0f;
    }
    Kokkos::deep_copy(made, host);
    return made;
}

int main(int count, char* arguments[])
{
    Kokkos::ScopeGuard const kokkos(count, arguments);
    int const tokens = 1024, query_heads = 2, key_heads = 1, width = 16;
    tensor const query = made_up("query", tokens, query_heads, width, 1),
                 key = made_up("key", tokens, key_heads, width, 2),
                 value = made_up("value", tokens, key_heads, width, 3), output("output", 1, tokens, query_heads, width),
                 sparse("sparse", 1, tokens, query_heads, width), residual("residual", 1, tokens, query_heads, width);

    // The map is a part of the options' type; everything else is as ever.
    spla::options<spla::taylor<>, soft_relu_pair> const options{.top_k = 2,
                                                                .combine = spla::combination_kind::separate};
    space const exec;
    spla::problem const sizes{.queries = tokens,
                              .keys = tokens,
                              .query_heads = query_heads,
                              .key_heads = key_heads,
                              .head_dim = width,
                              .value_dim = width};
    auto state = spla::make_sequence_state(exec, sizes, options);
    auto const scratch = spla::make_workspace(exec, spla::plan_prefill(exec, sizes, options));
    using memory = space::memory_space;
    spla::block_list<Kokkos::View<int****, Kokkos::LayoutRight, memory>,
                     Kokkos::View<int***, Kokkos::LayoutRight, memory>> const lists{
        {"indices", 1, tokens, key_heads, 2}, {"lengths", 1, tokens, key_heads}};
    spla::attention_extras<float> extras;
    spla::prefill(exec, query, key, value, output, state, options, scratch,
                  extras.return_branches(sparse, residual).return_lists(lists));
    exec.fence();

    // The reference applies the same map, in double, and sums the unselected keys one by one.
    namespace reference = spla::reference;
    reference::sequence sequence;
    sequence.query = sequence.residual_query = reference::heads_of(query, 0);
    sequence.key = sequence.residual_key = reference::heads_of(key, 0);
    sequence.value = reference::heads_of(value, 0);
    auto const indices = Kokkos::create_mirror_view_and_copy(Kokkos::HostSpace{}, lists.indices);
    auto const lengths = Kokkos::create_mirror_view_and_copy(Kokkos::HostSpace{}, lists.lengths);
    reference::lists chosen;
    for (int t = 0; t < tokens; ++t)
        chosen.push_back({{&indices(0, t, 0, 0), &indices(0, t, 0, 0) + lengths(0, t, 0)}});
    auto const truth = reference::attend(sequence, chosen, options, 0x1p-24, 0x1p-24);
    auto const made = reference::heads_of(residual, 0);
    reference::comparison result;
    for (int head = 0; head < query_heads; ++head)
        result.add("residual, head " + std::to_string(head), made[head], truth.residual[head],
                   truth.residual_bound[head]);
    std::printf("%d tokens with %s: %s\n", tokens, soft_relu_pair::name, result.text().c_str());
    return result.passed ? 0 : 1;
}
