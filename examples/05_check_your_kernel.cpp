// SPDX-FileCopyrightText: The spla authors
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
// Lesson 5: a kernel of your own, held against spla's reference. The reference follows the definition, in double; the
// bound of every element is computed from types and sizes, so a pass means something and a tolerance need not be
// guessed.
//
// Prints:
//     my kernel: within bounds: 24576 compared, 0 outside, worst ...
//     logits off by 1 %: OUT OF BOUNDS: ...
//     one NaN: OUT OF BOUNDS: 24576 compared, 1 outside, ...
#include <spla/reference/reference.hpp>
#include <spla/spla.hpp>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <limits>
#include <vector>

namespace reference = spla::reference;
using space = Kokkos::DefaultHostExecutionSpace;
using tensor = Kokkos::View<float****, Kokkos::LayoutRight, space::memory_space>;

/// The kernel on trial: the exact branch as a plain loop in float, two passes over the keys that a query may see.
void my_kernel(tensor const& query, tensor const& key, tensor const& value, tensor const& output,
               reference::lists const& chosen, spla::options<> const& o, float scale)
{
    int const tokens = static_cast<int>(key.extent(1)), width = static_cast<int>(key.extent(3));
    int const group = static_cast<int>(query.extent(2) / key.extent(2));
    std::vector<float> logit(tokens);
    for (std::size_t head = 0; head < query.extent(2); ++head)
        for (int p = 0; p < tokens; ++p)
        {
            auto const [first, end] = reference::competing_blocks(p, o);
            auto const& list = chosen[p][head / group];
            float largest = -std::numeric_limits<float>::infinity(), sum = 0;
            std::vector<int> seen;
            for (int j = 0; j <= p; ++j)
            {
                int const b = j / o.block;
                if (b >= first && b < end && !std::binary_search(list.begin(), list.end(), b)) continue;
                seen.push_back(j);
                logit[j] = 0;
                for (int d = 0; d < width; ++d) logit[j] += query(0, p, head, d) * key(0, j, head / group, d);
                largest = std::max(largest, logit[j] *= scale);
            }
            for (int j : seen) sum += logit[j] = std::exp(logit[j] - largest);
            for (int d = 0; d < width; ++d)
            {
                float x = 0;
                for (int j : seen) x += logit[j] * value(0, j, head / group, d);
                output(0, p, head, d) = x / sum;
            }
        }
}

tensor made_up(char const* name, int tokens, int heads, int width, unsigned seed)
{
    tensor const made(name, 1, tokens, heads, width);
    for (std::size_t i = 0; i < made.size(); ++i)
    {
        seed = seed * 1664525u + 1013904223u;
        made.data()[i] = static_cast<float>(seed >> 8) * 0x1p-22f - 2.0f;
    }
    return made;
}

int main(int count, char* arguments[])
{
    Kokkos::ScopeGuard const kokkos(count, arguments);
    int const tokens = 384, query_heads = 4, key_heads = 2, width = 16;
    tensor const query = made_up("query", tokens, query_heads, width, 1),
                 key = made_up("key", tokens, key_heads, width, 2),
                 value = made_up("value", tokens, key_heads, width, 3), output("output", 1, tokens, query_heads, width);
    spla::options<> const o{.block = 32, .local_blocks = 2, .top_k = 3, .combine = spla::combination_kind::sparse_only};

    // The truth: one sequence as matrices, its lists, and attention over them with a bound for every element. The unit
    // roundoff is that of the arithmetic on trial (float), and of its stored outputs (float as well).
    reference::sequence sequence;
    sequence.query = sequence.residual_query = reference::heads_of(query, 0);
    sequence.key = sequence.residual_key = reference::heads_of(key, 0);
    sequence.value = reference::heads_of(value, 0);
    double const unit = 0x1p-24;
    auto const selection = reference::select(sequence, o, spla::summary_storage::fp32, unit);
    auto const truth = reference::attend(sequence, selection.chosen, o, unit, unit);

    auto const judge = [&](char const* name) {
        reference::comparison result;
        auto const mine = reference::heads_of(output, 0);
        for (int head = 0; head < query_heads; ++head)
            result.add("output, head " + std::to_string(head), mine[head], truth.sparse[head],
                       truth.sparse_bound[head]);
        std::printf("%s: %s\n", name, result.text().c_str());
        return result.passed;
    };
    float const scale = 1 / std::sqrt(static_cast<float>(width));
    my_kernel(query, key, value, output, selection.chosen, o, scale);
    bool const mine = judge("my kernel");

    // A check is worth what it refuses.
    my_kernel(query, key, value, output, selection.chosen, o, 1.01f * scale);
    bool const scaled = judge("logits off by 1 %");
    my_kernel(query, key, value, output, selection.chosen, o, scale);
    output(0, 100, 1, 5) = std::numeric_limits<float>::quiet_NaN();
    bool const spoiled = judge("one NaN");
    return mine && !scaled && !spoiled ? 0 : 1;
}
