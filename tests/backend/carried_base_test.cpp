// SPDX-FileCopyrightText: The spla authors
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#include "conformance/conforms.hpp"

#include <cmath>
#include <limits>

using namespace spla_test;

// Neighbouring tiles whose residuals start from one sum, carried from tile to tile by what changes between their lists:
// what tuned kernels do where a call has many tiles. Every space is held to the same; hosts take fewer rows.
namespace
{
template <class Exec>
constexpr int many(int on_device, int on_host)
{
    return spla::detail::runs_on_host<Exec> ? on_host : on_device;
}
spla::options<> few_selected(spla::sharing const& share)
{
    spla::options<> o;
    o.local_blocks = 1, o.top_k = 3, o.share = share;
    return o;
}
/// A problem as one key head has it, and its results.
template <class View>
View heads_of(View const& v, int h, int count)
{
    return Kokkos::subview(v, Kokkos::ALL, Kokkos::ALL, range(h * count, (h + 1) * count), Kokkos::ALL);
}
template <class Exec>
data<Exec, spla::bfloat16> head_of(data<Exec, spla::bfloat16> d, int h)
{
    int const group = d.size.query_heads / d.size.key_heads;
    d.query = heads_of(d.query, h, group), d.key = heads_of(d.key, h, 1), d.value = heads_of(d.value, h, 1);
    d.size.query_heads = group, d.size.key_heads = 1;
    return d;
}
template <class Exec>
results<Exec, spla::bfloat16> head_of(results<Exec, spla::bfloat16> r, shape const& s, int h)
{
    int const group = s.query_heads / s.key_heads;
    r.output = heads_of(r.output, h, group), r.sparse = heads_of(r.sparse, h, group);
    r.residual = heads_of(r.residual, h, group), r.lse = heads_of(r.lse, h, group);
    auto const all = on_host(r.lists);
    auto const tiles = static_cast<int>(all.indices.extent(1)), entries = static_cast<int>(all.indices.extent(3));
    r.lists = unwritten_lists<typename Exec::memory_space>(s.batch, tiles, 1, entries);
    auto const one = on_host(r.lists);
    for (int b = 0; b < s.batch; ++b)
        for (int t = 0; t < tiles; ++t)
        {
            one.lengths(b, t, 0) = all.lengths(b, t, h);
            for (int i = 0; i < entries; ++i) one.indices(b, t, 0, i) = all.indices(b, t, h, i);
        }
    from_host(one, r.lists);
    return r;
}
} // namespace

TEMPLATE_LIST_TEST_CASE("residuals of many neighbouring tiles", "[conformance][carried_base]", host_and_device)
{
    using spla::sharing;
    int const heads = many<TestType>(8, 1), queries = many<TestType>(204, 20);
    auto const holds = [&](shape const& s, sharing const& share, unsigned seed) {
        auto const o = few_selected(share);
        data<TestType, spla::bfloat16> const d(s, seed);
        auto const r = run_prefill(d, o);
        int const h = heads - 1; // all would take the reference minutes
        auto const v = hold(head_of(d, h), head_of(r, d.size, h), o);
        INFO(s.text() << ", tiles of " << o.share.tile << " tokens\n" << v.text());
        CHECK(v.passed());
    };
    holds({1, queries, 564, 64 * heads, heads, 64, 64}, sharing::per_token(), 5); // 2 tokens in 128 rows
    holds({1, queries, 564, 64 * heads, heads, 64, 64}, sharing::first_query(2), 5);
    holds({1, queries, 564, 64 * heads, heads, 64, 64}, sharing::first_query(8), 5);
    holds({1, queries, 517, 40 * heads, heads, 128, 96}, sharing::per_token(), 6);               // 3 tokens in 120 rows
    holds({2, many<TestType>(66, 6), 500, 128 * heads, heads, 24, 32}, sharing::per_token(), 7); // 1 token
    // Chains of 8 tiles, the first of which have no residual.
    holds({1, many<TestType>(520, 20), 560, 128 * heads, heads, 16, 16}, sharing::per_token(), 8);
}

TEMPLATE_LIST_TEST_CASE("residuals of lists of many rows", "[conformance][carried_base]", host_and_device)
{
    using spla::sharing;
    for (auto const& share : {sharing::first_query(64), sharing::tile_sum(128, 4), sharing::tile_sum(256, 16)})
    {
        auto const o = few_selected(share);
        INFO("tiles of " << o.share.tile << " tokens");
        conforms<TestType, spla::bfloat16>({1, 300, 684, 4, 1, 64, 64}, o, 8);
        conforms<TestType, spla::bfloat16>({2, 200, 520, 6, 1, 128, 128}, o, 9); // 768 rows at most
    }
}

TEMPLATE_LIST_TEST_CASE("the output alone, in the inputs' type, is that of a call that is asked for everything",
                        "[invariants][carried_base]", host_and_device)
{
    using call = calls<TestType, spla::bfloat16>;
    TestType const exec;
    for (auto const& share : {spla::sharing::first_query(64), spla::sharing::tile_sum(128, 4)})
        for (int const width : {64, 128})
        {
            auto const o = few_selected(share);
            data<TestType, spla::bfloat16> const d({1, 300, 684, 8, 2, width, width}, 10);
            auto const wide = on_host(run_prefill(d, o).output);
            auto const output =
                unwritten<typename TestType::memory_space>(d.size, width, narrow<spla::bfloat16>(std::nan("")));
            auto state = call::make_state(exec, d.problem(), o);
            auto const scratch = spla::make_workspace(exec, spla::plan_prefill(exec, d.problem(), o));
            spla::prefill(exec, d.query, d.key, d.value, output, state, o, scratch);
            exec.fence();
            auto const narrowed = on_host(output);
            bool same = true;
            for (std::size_t i = 0; i < wide.size(); ++i)
            {
                float const x = wide.data()[i], y = static_cast<float>(narrowed.data()[i]);
                same = same && std::abs(x - y) <= 0x1p-8f * std::abs(x) + 0x1p-18f; // one rounding, and fp32's
            }
            INFO("tiles of " << o.share.tile << " tokens, width " << width);
            CHECK(same);
        }
}

TEMPLATE_LIST_TEST_CASE("a carried sum never reads what no query of the call selected or forced",
                        "[invariants][carried_base]", host_and_device)
{
    using call = calls<TestType, spla::bfloat16>;
    TestType const exec;
    int const heads = many<TestType>(8, 1), queries = 130, keys = 640;
    auto o = few_selected(spla::sharing::per_token());
    o.combine = spla::combination_kind::separate, o.segment_tokens = 640;
    data<TestType, spla::bfloat16> const d({1, queries, keys, 64 * heads, heads, 64, 64}, 7);
    auto state = call::make_state(exec, d.problem(), o);
    call::append(exec, d.key, d.value, d.key, d.value, state, o);
    // Positions 510 to 639: blocks 1 to 5 compete for all of them. Neighbours select 1 and 2, or 2 and 3.
    auto const lists = unwritten_lists<typename TestType::memory_space>(1, queries, heads, 2);
    auto const made = on_host(lists);
    for (int t = 0; t < queries; ++t)
        for (int h = 0; h < heads; ++h)
        {
            int const first = 1 + t / 5 % 2;
            made.indices(0, t, h, 0) = first, made.indices(0, t, h, 1) = first + 1, made.lengths(0, t, h) = 2;
        }
    from_host(made, lists);
    auto const scratch = spla::make_workspace(exec, spla::plan_residual_attention(exec, d.problem(), o, 2));
    auto const attend = [&](results<TestType, spla::bfloat16> const& r) {
        spla::attention_extras<spla::bfloat16> e;
        e.use_lists(lists);
        spla::residual_attention(exec, d.query, d.key, d.value, r.residual, state, o, e, scratch);
        exec.fence();
    };
    results<TestType, spla::bfloat16> const before(d.size, o), after(d.size, o);
    attend(before);
    auto const poison = [&](auto const& view) {
        auto const copy = on_host(view);
        for (int t = 4 * 64; t < 6 * 64; ++t) // blocks 4 and 5
            for (int h = 0; h < heads; ++h)
                for (int i = 0; i < 64; ++i) copy(0, t, h, i) = spla::bfloat16(std::numeric_limits<float>::quiet_NaN());
        from_host(copy, view);
    };
    poison(d.key);
    poison(d.value);
    attend(after);
    CHECK(same_bits(before.residual, after.residual));
}

/// Where views lie, NaN or not.
template <class Exec, class View>
std::size_t differing_bytes(Exec const& exec, View const& a, View const& b)
{
    std::size_t count = 0, bytes = a.span() * sizeof(typename View::value_type);
    auto const* const x = reinterpret_cast<unsigned char const*>(a.data());
    auto const* const y = reinterpret_cast<unsigned char const*>(b.data());
    Kokkos::parallel_reduce(
        Kokkos::RangePolicy<Exec, Kokkos::IndexType<std::size_t>>(exec, 0, bytes),
        KOKKOS_LAMBDA(std::size_t i, std::size_t & n) { n += x[i] != y[i]; }, count);
    return count;
}

TEMPLATE_LIST_TEST_CASE("a thousand runs give the same bits", "[.full][invariants][carried_base]", host_and_device)
{
    using call = calls<TestType, spla::bfloat16, spla::options<>, spla::bfloat16>;
    TestType const exec;
    int const tokens = many<TestType>(8192, 260), runs = many<TestType>(1000, 3);
    data<TestType, spla::bfloat16> const d({1, tokens, tokens, 8, 2, 128, 128}, 21);
    auto const differing = [&](auto const& a, auto const& b) { return differing_bytes(exec, a, b); };
    for (auto const& share :
         {spla::sharing::per_token(), spla::sharing::first_query(32), spla::sharing::tile_sum(128, 4)})
    {
        auto o = few_selected(share);
        o.top_k = 24;
        auto const scratch = spla::make_workspace(exec, spla::plan_prefill(exec, d.problem(), o));
        results<TestType, spla::bfloat16, spla::bfloat16> const first(d.size, o), again(d.size, o);
        auto const run = [&](auto const& r) {
            auto state = call::make_state(exec, d.problem(), o);
            call::prefill(exec, d.query, d.key, d.value, r.output, state, o, scratch, r.extras());
        };
        run(first);
        std::size_t changed = 0;
        for (int i = 0; i < runs; ++i)
        {
            run(again);
            changed += differing(first.output, again.output) + differing(first.residual, again.residual) +
                       differing(first.lse, again.lse) + differing(first.lists.indices, again.lists.indices);
        }
        INFO("tiles of " << share.tile << " tokens");
        CHECK(changed == 0);
        Kokkos::deep_copy(again.output, narrow<spla::bfloat16>(3.0));
        CHECK(differing(first.output, again.output) > 0);
    }
}
