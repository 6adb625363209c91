// SPDX-FileCopyrightText: The spla authors
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once
#include <spla/spla.hpp>

#include <cmath>
#include <cstdint>
#include <vector>

/// Inputs that look like a language model's to a selection: keys in runs about one of a head's topics, queries whose
/// interest drifts slowly between topics, so that neighbouring queries select much, not all, of the same.
namespace spla_bench
{

using exec_space = Kokkos::DefaultExecutionSpace;
template <class T>
using view4 = Kokkos::View<T****, Kokkos::LayoutRight, exec_space::memory_space>;

/// Small and fast: a hundred million numbers in a second or two. Same numbers on every machine.
class generator
{
public:
    explicit generator(std::uint64_t seed) : state_(seed * 0x9e3779b97f4a7c15ull + 0x7f4a7c159e3779b9ull) {}
    std::uint64_t next()
    {
        std::uint64_t z = state_ += 0x9e3779b97f4a7c15ull;
        z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
        z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
        return z ^ (z >> 31);
    }
    /// Nearly normal: the sum of four uniforms, variance 1.
    float normal()
    {
        std::uint64_t const z = next();
        float sum = 0;
        for (int i = 0; i < 4; ++i) sum += static_cast<float>((z >> (16 * i)) & 0xffff);
        return (sum * (1.0f / 65536) - 2.0f) * 1.7320508f;
    }
    int below(int n) { return static_cast<int>(next() % static_cast<std::uint64_t>(n)); }

private:
    std::uint64_t state_;
};

template <class Element>
struct inputs
{
    static constexpr int query_heads = 8, key_heads = 2, topics = 64;
    std::int64_t tokens;
    int dim;
    view4<Element> query, key, value;

    inputs(std::int64_t tokens_, int dim_)
        : tokens(tokens_), dim(dim_), query("query", 1, tokens_, query_heads, dim_),
          key("key", 1, tokens_, key_heads, dim_), value("value", 1, tokens_, key_heads, dim_)
    {
        // A head a thread: each has its own generator, so the numbers do not depend on how many threads there are.
        Kokkos::parallel_for("spla_bench::inputs",
                             Kokkos::RangePolicy<exec_space, Kokkos::Schedule<Kokkos::Dynamic>>(0, query_heads),
                             [*this](int head) { fill_head(head); });
        Kokkos::fence();
    }
    spla::problem problem() const
    {
        spla::problem p;
        p.queries = p.keys = tokens;
        p.query_heads = query_heads, p.key_heads = key_heads;
        p.head_dim = p.value_dim = dim;
        p.element = spla::kind_of<Element>();
        return p;
    }

private:
    void fill_head(int head) const
    {
        constexpr int group = query_heads / key_heads;
        int const key_head = head / group;
        generator shared(1000 + key_head); // topics are the key head's
        std::vector<float> topic(static_cast<std::size_t>(topics) * dim);
        for (float& x : topic) x = shared.normal();
        generator own(head);
        std::vector<float> drift(dim, 0.0f);
        int interest = 0;
        for (std::int64_t t = 0; t < tokens; ++t)
        {
            if (own.below(96) == 0) interest = own.below(topics);
            for (int d = 0; d < dim; ++d)
            {
                drift[d] = 0.97f * drift[d] + 0.03f * 1.6f * topic[interest * dim + d] + 0.12f * own.normal();
                query(0, t, head, d) = Element(drift[d] + 0.5f * own.normal());
            }
        }
        if (head % group != 0) return;
        int about = 0;
        for (std::int64_t t = 0; t < tokens; ++t)
        {
            if (shared.below(80) == 0) about = shared.below(topics);
            for (int d = 0; d < dim; ++d)
            {
                key(0, t, key_head, d) = Element(1.2f * topic[about * dim + d] + 0.8f * shared.normal());
                value(0, t, key_head, d) = Element(shared.normal());
            }
        }
    }
};

} // namespace spla_bench
