// SPDX-FileCopyrightText: The spla authors
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once
#include <spla/spla.hpp>

#include <cstdint>

/// Inputs of any size, made where they are used and the same on every device: keys in runs of two blocks about one of a
/// head's topics, queries whose interest drifts from one mixture of topics to the next, so that neighbouring queries
/// select much, not all, of the same (about 1.6 lists for 32 of them, as real models' do).
namespace spla_bench
{

using exec_space = Kokkos::DefaultExecutionSpace;
template <class T>
using view4 = Kokkos::View<T****, Kokkos::LayoutRight, exec_space::memory_space>;

/// A number of the standard normal distribution for each index and stream.
KOKKOS_INLINE_FUNCTION float normal(std::uint64_t index, std::uint64_t stream)
{
    std::uint64_t z = (index + 1) * 0x9e3779b97f4a7c15ull + stream * 0xd1b54a32d192ed03ull;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
    z ^= z >> 31;
    float const radius = static_cast<float>((z & 0xffffff) + 1) / 16777217.0f;
    float const angle = static_cast<float>(z >> 24 & 0xffffff) / 16777216.0f;
    return Kokkos::sqrt(-2.0f * Kokkos::log(radius)) * Kokkos::cos(6.2831853f * angle);
}

struct topic_model
{
    static constexpr std::uint64_t topics = 256, tokens_of_run = 128, drift = 4096;
    int key_head, dim;

    /// Any of the topics, by chance.
    KOKKOS_FUNCTION std::uint64_t pick(std::uint64_t n, std::uint64_t stream) const
    {
        return static_cast<std::uint64_t>(Kokkos::abs(normal(n, stream + 64 * key_head)) * 1048576.0f) % topics;
    }
    KOKKOS_FUNCTION float topic(std::uint64_t number, int d) const { return normal(number * dim + d, 7000 + key_head); }
    KOKKOS_FUNCTION float key(std::int64_t t, int d) const
    {
        float const own = normal(static_cast<std::uint64_t>(t) * dim + d, 100 + key_head);
        return topic(pick(t / tokens_of_run, 1), d) + 0.8f * own;
    }
    /// Interest `who` (0: shared by the group) at a token: half the sum of four topics, drifting to another four.
    KOKKOS_FUNCTION float interest(std::int64_t t, int who, int d) const
    {
        std::uint64_t const period = t / drift;
        float const share = static_cast<float>(t % drift) / drift;
        float sum = 0;
        for (int i = 0; i < 4; ++i)
            sum += (1 - share) * topic(pick(period * 4 + i, 2 + who), d) +
                   share * topic(pick((period + 1) * 4 + i, 2 + who), d);
        return sum / 2;
    }
    KOKKOS_FUNCTION float query(std::int64_t t, int head, int d) const
    {
        float const own = normal(static_cast<std::uint64_t>(t) * dim + d, 200 + 64 * key_head + head);
        return 1.5f * (interest(t, 0, d) + 0.5f * interest(t, 1 + head, d)) + 0.35f * own;
    }
};

/// Calls what(token, head, component) for each number of a view, on the device.
template <class View, class Do>
void for_each_number(View const& view, Do const& what)
{
    auto const heads = static_cast<std::int64_t>(view.extent(2)), dims = static_cast<std::int64_t>(view.extent(3));
    Kokkos::parallel_for(
        "spla_bench::inputs",
        Kokkos::RangePolicy<exec_space, Kokkos::IndexType<std::int64_t>>(0, static_cast<std::int64_t>(view.size())),
        KOKKOS_LAMBDA(std::int64_t i) {
            what(i / (heads * dims), static_cast<int>(i / dims % heads), static_cast<int>(i % dims));
        });
}

struct inputs
{
    using element = spla::bfloat16;
    spla::problem sizes;
    view4<element> query, key, value;
};

inline inputs make_inputs(spla::problem const& p)
{
    using element = inputs::element;
    inputs const made{p, view4<element>("query", 1, p.queries, p.query_heads, p.head_dim),
                      view4<element>("key", 1, p.keys, p.key_heads, p.head_dim),
                      view4<element>("value", 1, p.keys, p.key_heads, p.value_dim)};
    auto const q = made.query, k = made.key, v = made.value;
    int const group = static_cast<int>(p.group()), dim = static_cast<int>(p.head_dim);
    for_each_number(
        q, KOKKOS_LAMBDA(std::int64_t t, int h, int d) {
            q(0, t, h, d) = element(topic_model{h / group, dim}.query(t, h % group, d));
        });
    for_each_number(
        k, KOKKOS_LAMBDA(std::int64_t t, int h, int d) {
            k(0, t, h, d) = element(topic_model{h, dim}.key(t, d));
        });
    for_each_number(
        v, KOKKOS_LAMBDA(std::int64_t t, int h, int d) {
            v(0, t, h, d) = element(normal(static_cast<std::uint64_t>(t) * 512 + d, 300 + h));
        });
    Kokkos::fence();
    return made;
}

} // namespace spla_bench
