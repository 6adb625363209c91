// SPDX-FileCopyrightText: The spla authors
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once
#include "prefill_case.hpp"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <vector>

/// A sample of rows of exact attention in fp64, at any number of tokens: what is timed is held against them.
namespace spla_bench
{

struct sample
{
    std::int64_t token;
    int head;
};
using samples = std::vector<sample>;
using rows = Kokkos::View<double**, Kokkos::LayoutRight, exec_space::memory_space>;
using host_rows = Kokkos::View<double**, Kokkos::LayoutRight, Kokkos::HostSpace>;
using seen_blocks = Kokkos::View<char**, Kokkos::LayoutRight, exec_space::memory_space>;

/// `count` tokens, evenly, the last among them, of heads in turn.
inline samples samples_of(spla::problem const& p, int count)
{
    samples some;
    for (int i = 1; i <= count; ++i)
        some.push_back({p.queries * i / count - 1, static_cast<int>((i * 5) % p.query_heads)});
    return some;
}

inline std::int64_t blocks_of(prefill_case const& c)
{
    return spla::ceil_divide(c.in.sizes.keys, c.o.block);
}

/// Every block, for dense attention.
inline seen_blocks all_blocks(prefill_case const& c, samples const& some)
{
    seen_blocks const all("seen", some.size(), blocks_of(c));
    Kokkos::deep_copy(all, 1);
    return all;
}

/// Forced blocks and those of the lists.
inline seen_blocks listed_blocks(prefill_case const& c, samples const& some)
{
    auto const indices = Kokkos::create_mirror_view_and_copy(Kokkos::HostSpace{}, c.lists.indices);
    auto const lengths = Kokkos::create_mirror_view_and_copy(Kokkos::HostSpace{}, c.lists.lengths);
    auto const w = spla::window_of(c.o);
    seen_blocks const seen("seen", some.size(), blocks_of(c));
    auto const host = Kokkos::create_mirror_view(seen);
    for (std::size_t i = 0; i < some.size(); ++i)
    {
        auto const head = some[i].head / c.in.sizes.group();
        auto const tile = some[i].token / w.tile;
        for (std::int64_t b = 0; b < blocks_of(c); ++b) host(i, b) = !w.competing(some[i].token).contains(b);
        for (int n = 0; n < lengths(0, tile, head); ++n)
            host(i, static_cast<std::size_t>(indices(0, tile, head, n))) = 1;
    }
    Kokkos::deep_copy(seen, host);
    return seen;
}

/// Softmax over the seen keys, in fp64 throughout.
inline host_rows exact_rows(prefill_case const& c, samples const& some, seen_blocks const& seen)
{
    auto const q = c.in.query, k = c.in.key, v = c.in.value;
    auto const& p = c.in.sizes;
    std::int64_t const keys = p.keys, group = p.group(), dim = p.head_dim, block = c.o.block;
    double const scale = 1 / std::sqrt(static_cast<double>(dim));
    Kokkos::View<sample*, exec_space::memory_space> const which("which", some.size());
    Kokkos::deep_copy(which, Kokkos::View<sample const*, Kokkos::HostSpace>(some.data(), some.size()));
    rows const logits("logits", some.size(), keys), out("truth", some.size(), p.value_dim);
    auto const count = static_cast<std::int64_t>(some.size());
    Kokkos::parallel_for(
        "spla_bench::logits", Kokkos::RangePolicy<exec_space>(0, count * keys), KOKKOS_LAMBDA(std::int64_t n) {
            std::int64_t const i = n / keys, j = n % keys;
            sample const at = which(i);
            double sum = 0;
            for (std::int64_t d = 0; d < dim; ++d)
                sum += static_cast<double>(static_cast<float>(q(0, at.token, at.head, d))) *
                       static_cast<double>(static_cast<float>(k(0, j, at.head / group, d)));
            bool const visible = j <= at.token && seen(i, j / block);
            logits(i, j) = visible ? sum * scale : -Kokkos::Experimental::infinity_v<double>;
        });
    std::int64_t const width = p.value_dim;
    Kokkos::parallel_for(
        "spla_bench::rows", Kokkos::RangePolicy<exec_space>(0, count * width), KOKKOS_LAMBDA(std::int64_t n) {
            std::int64_t const i = n / width, d = n % width;
            double most = -Kokkos::Experimental::infinity_v<double>, weights = 0, sum = 0;
            for (std::int64_t j = 0; j < keys; ++j) most = Kokkos::max(most, logits(i, j));
            for (std::int64_t j = 0; j < keys; ++j)
            {
                double const weight = Kokkos::exp(logits(i, j) - most);
                weights += weight;
                sum += weight * static_cast<double>(static_cast<float>(v(0, j, which(i).head / group, d)));
            }
            out(i, d) = sum / weights;
        });
    return Kokkos::create_mirror_view_and_copy(Kokkos::HostSpace{}, out);
}

/// What a call wrote, of the same rows.
inline host_rows output_rows(prefill_case const& c, samples const& some)
{
    auto const output = c.output;
    Kokkos::View<sample*, exec_space::memory_space> const which("which", some.size());
    Kokkos::deep_copy(which, Kokkos::View<sample const*, Kokkos::HostSpace>(some.data(), some.size()));
    std::int64_t const width = c.in.sizes.value_dim, count = static_cast<std::int64_t>(some.size());
    rows const out("output rows", count, width);
    Kokkos::parallel_for(
        "spla_bench::output_rows", Kokkos::RangePolicy<exec_space>(0, count * width), KOKKOS_LAMBDA(std::int64_t n) {
            sample const at = which(n / width);
            out(n / width, n % width) =
                static_cast<double>(static_cast<float>(output(0, at.token, at.head, n % width)));
        });
    return Kokkos::create_mirror_view_and_copy(Kokkos::HostSpace{}, out);
}

struct row_error
{
    double relative = 0; ///< of all rows, in the Frobenius norm
    double largest = 0;  ///< of one number

    row_error(host_rows const& made, host_rows const& truth)
    {
        double wrong = 0, all = 0;
        for (std::size_t i = 0; i < truth.extent(0); ++i)
            for (std::size_t d = 0; d < truth.extent(1); ++d)
            {
                double const e = std::abs(made(i, d) - truth(i, d));
                wrong += e * e, all += truth(i, d) * truth(i, d);
                largest = std::max(largest, e);
            }
        relative = std::sqrt(wrong / all);
    }
};

/// bf16 weights and a bf16 result leave 0.003 of a row.
constexpr double most_error = 1e-2;

inline bool rows_hold(char const* what, prefill_case const& c, host_rows const& truth, samples const& some)
{
    row_error const error(output_rows(c, some), truth);
    bool const right = error.relative <= most_error;
    if (!right)
        std::fprintf(stderr, "%s at %ld tokens: WRONG rows, relative error %g\n", what,
                     static_cast<long>(c.in.sizes.keys), error.relative);
    return right;
}

/// Output, which the exact branch wrote, against the definition over the case's lists.
inline bool exact_holds(char const* what, prefill_case const& c)
{
    auto const some = samples_of(c.in.sizes, 32);
    return rows_hold(what, c, exact_rows(c, some, listed_blocks(c, some)), some);
}

} // namespace spla_bench
