// SPDX-FileCopyrightText: The spla authors
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once
#include "definition.hpp"
#include "exact_rows.hpp"
#include "random_lists.hpp"
#include "record.hpp"
#include "step_case.hpp"

#include <iostream>

/// What is measured: each study checks what it times and says whether it held.
namespace spla_bench
{

/// Whole and stage by stage, in the three sharings, at every size.
inline bool study_sharings(session const& all)
{
    auto const& s = all.s;
    for (auto const& sharing : sharings)
        if (!holds(1500, s.query_heads / s.key_heads, s.dim, sharing)) return false;
    for (std::int64_t const tokens : s.tokens)
    {
        inputs const in = make_inputs(problem_of(tokens, s.query_heads, s.key_heads, s.dim));
        for (auto const& sharing : sharings)
        {
            prefill_case c(in, options_of(sharing.share, s.segment));
            std::string const name = sharing.name;
            c.whole_with_lists();
            list_figures const work(c);
            if (tokens == s.tokens.front()) std::cout << c.how << '\n';
            auto const add = [&](std::string const& what, double operations, auto const& call) {
                all.r.add("sharings", what, c, all.time(9, call), operations, work.union_ratio);
            };
            add("statistics", 0, [&] { c.statistics(); });
            add("select." + name, work.select, [&] { c.select(); });
            c.exact();
            if (!exact_holds("exact branch", c)) return false;
            add("exact." + name, work.exact, [&] { c.exact(); });
            if (tokens <= s.segment) add("residual." + name, work.residual, [&] { c.residual(); });
            add("whole." + name, work.whole(), [&] { c.whole(); });
        }
    }
    return true;
}

inline bool time_given_lists(session const& all, char const* study, std::string const& what, inputs const& in,
                             spla::options<> const& o)
{
    prefill_case c(in, o);
    make_random_lists(c);
    c.exact();
    if (!exact_holds(what.c_str(), c)) return false;
    list_figures const work(c);
    all.r.add(study, what, c, all.time(9, [&] { c.exact(); }), work.exact, work.union_ratio);
    return true;
}

/// The exact branch on lists given to 128 rows of a matrix (128 / G tokens) and to 128 tokens, 64 blocks for each. The
/// latter visits the very pairs of a peer whose tiles of 128 queries see a first block, 512 keys up to the tile's end
/// and others by chance, 4096 in all.
inline bool study_given(session const& all)
{
    auto const& s = all.s;
    int const rows_tile = static_cast<int>(128 / std::max<std::int64_t>(1, s.query_heads / s.key_heads));
    bool right = true;
    for (std::int64_t const dim : {128, 64})
        for (std::int64_t const tokens : s.tokens)
        {
            inputs const in = make_inputs(problem_of(tokens, s.query_heads, s.key_heads, dim));
            for (int const tile : {rows_tile, 128})
            {
                if (tile > 64 ? tile % 64 != 0 : 64 % tile != 0) continue; // no tile of such a group
                auto o = options_of(spla::sharing::first_query(tile), s.segment);
                o.local_blocks = tile > 64 ? 6 : 7, o.top_k = 55;
                right = right && time_given_lists(all, "given", "exact.given", in, o);
            }
        }
    return right;
}

/// The worst case of lists of one token each: neighbours that have nothing in common.
inline bool study_random(session const& all)
{
    auto const& s = all.s;
    bool right = true;
    for (std::int64_t const tokens : s.tokens)
    {
        inputs const in = make_inputs(problem_of(tokens, s.query_heads, s.key_heads, s.dim));
        right = right &&
                time_given_lists(all, "random", "exact.random", in, options_of(spla::sharing::per_token(), s.segment));
    }
    return right;
}

/// Any number of query heads to a key head, about as many query heads in all, per-token lists, at the first size.
inline bool study_groups(session const& all)
{
    auto const& s = all.s;
    for (std::int64_t const group : {1, 2, 3, 4, 5, 6, 7, 16})
    {
        if (!holds(900, group, s.dim, sharings[0])) return false;
        std::int64_t const key_heads = std::max<std::int64_t>(1, 32 / group);
        inputs const in = make_inputs(problem_of(s.tokens.front(), key_heads * group, key_heads, s.dim));
        prefill_case c(in, options_of(sharings[0].share, s.segment));
        c.whole_with_lists();
        list_figures const work(c);
        auto const add = [&](char const* what, double operations, auto const& call) {
            all.r.add("groups", what, c, all.time(9, call), operations, work.union_ratio);
        };
        c.exact();
        if (!exact_holds("exact branch", c)) return false;
        add("exact.per_token", work.exact, [&] { c.exact(); });
        if (s.tokens.front() <= s.segment) add("residual.per_token", work.residual, [&] { c.residual(); });
        add("whole.per_token", work.whole(), [&] { c.whole(); });
    }
    return true;
}

/// Rows of exact attention as the default combination leaves them where there is no residual.
inline void divide_by_root_mean_square(host_rows const& x, double epsilon)
{
    for (std::size_t i = 0; i < x.extent(0); ++i)
    {
        double squares = 0;
        for (std::size_t d = 0; d < x.extent(1); ++d) squares += x(i, d) * x(i, d);
        double const root = std::sqrt(squares / static_cast<double>(x.extent(1)) + epsilon);
        for (std::size_t d = 0; d < x.extent(1); ++d) x(i, d) /= root;
    }
}

/// Prompts of which all is exact: the whole call beside dense attention.
inline bool study_short(session const& all)
{
    auto const& s = all.s;
    for (std::int64_t const tokens : {512, 1024, 2048, 4096})
    {
        inputs const in = make_inputs(problem_of(tokens, s.query_heads, s.key_heads, s.dim));
        for (auto const& sharing : sharings)
        {
            prefill_case c(in, options_of(sharing.share, s.segment));
            c.whole_with_lists();
            auto const some = samples_of(in.sizes, 32);
            auto const truth = exact_rows(c, some, all_blocks(c, some));
            divide_by_root_mean_square(truth, c.o.epsilon);
            if (!rows_hold("whole call", c, truth, some)) return false;
            list_figures const work(c);
            all.r.add("short", std::string("whole.") + sharing.name, c, all.time(25, [&] { c.whole(); }), work.exact,
                      work.union_ratio);
        }
    }
    return true;
}

/// Largest difference of two outputs, over their largest number.
inline double difference(view4<inputs::element> const& a, view4<inputs::element> const& b)
{
    auto const x = Kokkos::create_mirror_view_and_copy(Kokkos::HostSpace{}, a);
    auto const y = Kokkos::create_mirror_view_and_copy(Kokkos::HostSpace{}, b);
    double most = 0, largest = 0;
    for (std::size_t i = 0; i < x.size(); ++i)
    {
        double const one = static_cast<float>(x.data()[i]), other = static_cast<float>(y.data()[i]);
        double const far = std::abs(one - other);
        most = far <= most ? most : far; // NaN is more
        largest = std::max(largest, std::abs(one));
    }
    return most / largest;
}

/// Prompts as an engine runs them, over pages of 64 tokens: at once, and in chunks. Held against prefill(): sums are
/// carried over other tiles, and rows are rounded to bf16 last.
inline bool study_steps(session const& all)
{
    auto const& s = all.s;
    for (std::int64_t const tokens : s.tokens)
    {
        inputs const in = make_inputs(problem_of(tokens, s.query_heads, s.key_heads, s.dim));
        for (auto const& sharing : sharings)
        {
            prefill_case c(in, options_of(sharing.share, s.segment));
            c.whole_with_lists();
            list_figures const work(c);
            for (std::int64_t const chunk : {tokens, std::int64_t{8192}, std::int64_t{2048}})
            {
                step_case steps(in, c.o, chunk);
                steps.whole();
                Kokkos::fence();
                std::string const what = std::string("whole.") + sharing.name + ".chunks" + std::to_string(chunk);
                if (tokens == s.tokens.front() && chunk == tokens) std::cout << steps.plan() << '\n';
                double const far = difference(c.output, steps.output);
                std::printf("%-30s differs from prefill by %.2e of the largest number\n", what.c_str(), far);
                if (!(far <= 0x1p-6)) return false;
                all.r.add("steps", what, c, all.time(9, [&] { steps.whole(); }), work.whole(), work.union_ratio);
            }
        }
    }
    return true;
}

/// For peers: a line of JSON that says what follows, then query, key and value as they lie in memory.
inline void write_inputs(inputs const& in, samples const& some, std::string const& path)
{
    std::ofstream file(path, std::ios::binary);
    auto const& p = in.sizes;
    file << "{\"tokens\": " << p.keys << ", \"q_heads\": " << p.query_heads << ", \"kv_heads\": " << p.key_heads
         << ", \"d\": " << p.head_dim << ", \"samples\": [";
    for (std::size_t i = 0; i < some.size(); ++i)
        file << (i ? ", [" : "[") << some[i].token << ", " << some[i].head << "]";
    file << "]}\n";
    for (auto const& x : {in.query, in.key, in.value})
    {
        auto const host = Kokkos::create_mirror_view_and_copy(Kokkos::HostSpace{}, x);
        file.write(reinterpret_cast<char const*>(host.data()),
                   static_cast<std::streamsize>(host.size() * sizeof(*host.data())));
    }
}

/// How far the exact branch is from fp64 where it sees all keys, on inputs that a dense peer can be given too.
inline bool study_error(session const& all)
{
    auto const& s = all.s;
    inputs const in = make_inputs(problem_of(4096, s.query_heads, s.key_heads, s.dim));
    prefill_case c(in, options_of(sharings[0].share, s.segment));
    auto const some = samples_of(in.sizes, 256);
    c.whole_with_lists();
    c.exact();
    auto const truth = exact_rows(c, some, all_blocks(c, some));
    row_error const error(output_rows(c, some), truth);
    all.r.add_error("error.exact", c, error.relative, error.largest, some.size());
    if (!s.inputs.empty()) write_inputs(in, some, s.inputs);
    return rows_hold("exact branch", c, truth, some);
}

} // namespace spla_bench
