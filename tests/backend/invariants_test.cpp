// SPDX-FileCopyrightText: The spla authors
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#include "catch.hpp"
#include "conformance.hpp"
#include "spaces.hpp"

#include <cstring>

using namespace spla_test;

namespace
{
spla::options<> small_options()
{
    spla::options<> o;
    o.block = 16, o.local_blocks = 2, o.top_k = 4, o.segment_tokens = 128;
    return o;
}

using tokens = std::pair<int, int>;
template <class View>
auto slice(View const& v, int begin, int end)
{
    return Kokkos::subview(v, Kokkos::ALL, tokens(begin, end), Kokkos::ALL, Kokkos::ALL);
}

template <class View>
bool same_bits(View const& a, View const& b)
{
    auto const x = Kokkos::create_mirror_view_and_copy(Kokkos::HostSpace{}, a);
    auto const y = Kokkos::create_mirror_view_and_copy(Kokkos::HostSpace{}, b);
    return std::memcmp(x.data(), y.data(), x.span() * sizeof(*x.data())) == 0;
}

template <class Exec>
struct stepper
{
    data<Exec, float> const& d;
    spla::options<> o;
    Exec exec;
    results<Exec, float> r;
    spla::sequence_state<typename Exec::memory_space> state;

    stepper(data<Exec, float> const& given, spla::options<> const& options)
        : d(given), o(options), r(given.size, options), state(spla::make_sequence_state(exec, given.problem(), options))
    {
    }
    spla::attention_extras<float> extras(int begin, int end)
    {
        int const t = spla::window_of(o).tile;
        int_lists<typename Exec::memory_space> part;
        part.indices = Kokkos::View<std::int32_t****, Kokkos::LayoutRight, typename Exec::memory_space>(
            "indices", d.size.batch, end / t - begin / t + 2, d.size.key_heads, o.top_k);
        part.lengths = Kokkos::View<std::int32_t***, Kokkos::LayoutRight, typename Exec::memory_space>(
            "lengths", d.size.batch, end / t - begin / t + 2, d.size.key_heads);
        held = part;
        spla::attention_extras<float> e;
        e.return_branches(slice(r.sparse, begin, end), slice(r.residual, begin, end)).return_lists(part);
        return e;
    }
    void keep_lists(int begin, int end)
    {
        exec.fence();
        int const t = spla::window_of(o).tile;
        tokens const to(begin / t, (end - 1) / t + 1), from(0, (end - 1) / t - begin / t + 1);
        Kokkos::deep_copy(Kokkos::subview(r.lists.indices, Kokkos::ALL, to, Kokkos::ALL, Kokkos::ALL),
                          Kokkos::subview(held.indices, Kokkos::ALL, from, Kokkos::ALL, Kokkos::ALL));
        Kokkos::deep_copy(Kokkos::subview(r.lists.lengths, Kokkos::ALL, to, Kokkos::ALL),
                          Kokkos::subview(held.lengths, Kokkos::ALL, from, Kokkos::ALL));
    }
    void prefill(int begin, int end)
    {
        spla::problem p = d.problem();
        p.queries = end - begin, p.keys = end;
        auto const e = extras(begin, end);
        spla::prefill(exec, slice(d.query, begin, end), slice(d.key, 0, end), slice(d.value, 0, end), slice(r.output, begin, end),
                      state, o, spla::make_workspace(exec, spla::plan_prefill(exec, p, o)), e);
        keep_lists(begin, end);
    }
    void decode(int begin, int end)
    {
        spla::problem p = d.problem();
        p.queries = end - begin, p.keys = end;
        spla::append(exec, slice(d.key, begin, end), slice(d.value, begin, end), d.key, d.value, state, o);
        auto const e = extras(begin, end);
        spla::decode(exec, slice(d.query, begin, end), slice(d.key, 0, end), slice(d.value, 0, end), slice(r.output, begin, end),
                     state, o, spla::make_workspace(exec, spla::plan_decode(exec, p, o)), e);
        keep_lists(begin, end);
    }
    int_lists<typename Exec::memory_space> held;
};
} // namespace

TEMPLATE_LIST_TEST_CASE("a prefill is its chunks and its decode steps", "[invariants]", spaces)
{
    for (auto const share : {spla::sharing::per_token(), spla::sharing::first_query(8), spla::sharing::first_query(32)})
    {
        auto o = small_options();
        o.share = share;
        data<TestType, float> const d({2, 330, 330, 4, 2, 16, 24}, 3);
        auto const whole = run_prefill<TestType>(d, o);
        stepper<TestType> s(d, o);
        s.prefill(0, 100);
        s.prefill(100, 101);
        s.prefill(101, 290);
        for (int t = 290; t < 320; ++t) s.decode(t, t + 1);
        s.decode(320, 330);
        INFO("T " << o.share.tile);
        CHECK(same_bits(whole.lists.lengths, s.r.lists.lengths));
        CHECK(same_bits(whole.lists.indices, s.r.lists.indices));
        auto const v = hold(d, [&] { auto r = s.r; r.lse = whole.lse; return r; }(), o);
        INFO(v.text());
        CHECK(v.passed());
    }
}

TEMPLATE_LIST_TEST_CASE("a sequence's results do not depend on its batch, nor on repetition", "[invariants]", spaces)
{
    auto const o = small_options();
    data<TestType, float> const d({3, 200, 200, 4, 2, 16, 16}, 4);
    auto const batch = run_prefill<TestType>(d, o);
    CHECK(same_bits(batch.output, run_prefill<TestType>(d, o).output));
    for (int b = 0; b < 3; ++b)
    {
        data<TestType, float> one = d;
        one.size.batch = 1;
        tokens const only(b, b + 1);
        auto const row = [&](auto const& v) { return Kokkos::subview(v, only, Kokkos::ALL, Kokkos::ALL, Kokkos::ALL); };
        one.query = row(d.query), one.key = row(d.key), one.value = row(d.value);
        auto const alone = run_prefill<TestType>(one, o);
        view4<float, typename TestType::memory_space> copy("copy", 1, 200, 4, 16);
        Kokkos::deep_copy(copy, row(batch.output));
        CHECK(same_bits(copy, alone.output));
    }
}

TEMPLATE_LIST_TEST_CASE("unselected blocks and slots past the end are never read", "[invariants]", spaces)
{
    using space = typename TestType::memory_space;
    auto o = small_options();
    int const length = 300, capacity = 320;
    data<TestType, float> d({1, length, capacity, 2, 1, 16, 16}, 5);
    TestType const exec;
    auto const key = slice(d.key, 0, length), value = slice(d.value, 0, length);
    spla::problem p = d.problem();
    p.keys = length, p.queries = 6;
    auto state = spla::make_sequence_state(exec, p, o);
    for (int t = 0; t < length; t += 100)
        spla::append(exec, slice(d.key, t, t + 100), slice(d.value, t, t + 100), d.key, d.value, state, o);
    shape const s{1, 6, length, 2, 1, 16, 16};
    results<TestType, float> before(s, o), after(s, o);
    auto const query = slice(d.query, length - 6, length);
    auto const scratch = spla::make_workspace(exec, spla::plan_decode(exec, p, o));
    spla::decode(exec, query, key, value, before.output, state, o, scratch, before.extras());
    exec.fence();
    auto const chosen = before.chosen(0);
    auto const host_key = Kokkos::create_mirror_view_and_copy(Kokkos::HostSpace{}, d.key);
    auto const host_value = Kokkos::create_mirror_view_and_copy(Kokkos::HostSpace{}, d.value);
    int poisoned = 0;
    for (int t = 0; t < capacity; ++t)
    {
        int const b = t / o.block, own = (length - 1) / o.block, own_first = (length - 6) / o.block;
        bool visited = t < length && (b < o.sink_blocks || (b >= own_first - o.local_blocks && b <= own));
        for (auto const& tile : chosen) visited = visited || std::binary_search(tile[0].begin(), tile[0].end(), b);
        if (visited) continue;
        ++poisoned;
        for (int x = 0; x < 16; ++x) host_key(0, t, 0, x) = host_value(0, t, 0, x) = std::nanf("");
    }
    Kokkos::deep_copy(d.key, host_key);
    Kokkos::deep_copy(d.value, host_value);
    REQUIRE(poisoned > 40);
    spla::decode(exec, query, key, value, after.output, state, o, scratch, after.extras());
    exec.fence();
    CHECK(same_bits(before.output, after.output));
    CHECK(same_bits(before.sparse, after.sparse));
    CHECK(same_bits(before.residual, after.residual));
    CHECK(same_bits(before.lse, after.lse));
    (void)sizeof(space);
}

TEMPLATE_LIST_TEST_CASE("a NaN key reaches exactly the queries that see it", "[invariants]", spaces)
{
    auto o = small_options();
    o.combine = spla::combination_kind::sparse_only;
    data<TestType, float> d({1, 64, 64, 3, 1, 16, 16}, 6);
    auto const host = Kokkos::create_mirror_view_and_copy(Kokkos::HostSpace{}, d.value);
    host(0, 40, 0, 3) = std::nanf("");
    Kokkos::deep_copy(d.value, host);
    auto const r = run_prefill<TestType>(d, o);
    auto const out = Kokkos::create_mirror_view_and_copy(Kokkos::HostSpace{}, r.output);
    for (int t = 0; t < 64; ++t)
        for (int h = 0; h < 3; ++h) CHECK(std::isnan(out(0, t, h, 3)) == (t >= 40));
}

TEMPLATE_LIST_TEST_CASE("everything selected is dense attention and no residual", "[invariants]", spaces)
{
    auto o = small_options();
    o.top_k = 1000, o.combine = spla::combination_kind::separate;
    data<TestType, float> const d({1, 200, 200, 2, 1, 16, 16}, 7);
    auto const r = run_prefill<TestType>(d, o);
    auto const residual = Kokkos::create_mirror_view_and_copy(Kokkos::HostSpace{}, r.residual);
    bool zero = true;
    for (std::size_t i = 0; i < residual.size(); ++i) zero = zero && residual.data()[i] == 0.0f;
    CHECK(zero);
    auto dense = o; // one block as large as the sequence: nothing to select
    dense.block = 200, dense.top_k = 0, dense.segment_tokens = 200;
    auto const truth = run_prefill<TestType>(d, dense);
    auto const a = spla::reference::heads_of(r.sparse, 0), b = spla::reference::heads_of(truth.sparse, 0);
    for (std::size_t h = 0; h < a.size(); ++h) CHECK((a[h] - b[h]).cwiseAbs().maxCoeff() < 1e-5);
}

TEMPLATE_LIST_TEST_CASE("the stages alone make what prefill makes", "[stages]", spaces)
{
    auto const o = small_options();
    data<TestType, float> const d({2, 200, 200, 4, 2, 16, 16}, 8);
    auto const r = run_prefill<TestType>(d, o);
    TestType const exec;
    auto full = o;
    full.segment_tokens = 256;
    auto state = spla::make_sequence_state(exec, d.problem(), full);
    spla::append(exec, d.key, d.value, d.key, d.value, state, full);
    results<TestType, float> s(d.size, full);
    spla::select(exec, d.query, d.key, state, s.lists, full);
    spla::attention_extras<float> extras;
    extras.use_lists(s.lists).return_lse(s.lse);
    spla::selected_attention(exec, d.query, d.key, d.value, s.sparse, full, extras);
    spla::residual_attention(exec, d.query, d.key, d.value, s.residual, state, full, extras);
    spla::combine(exec, s.sparse, s.residual, s.output, full);
    exec.fence();
    CHECK(same_bits(r.lists.indices, s.lists.indices));
    CHECK(same_bits(r.sparse, s.sparse));
    CHECK(same_bits(r.lse, s.lse));
    auto const v = hold(d, s, full);
    INFO(v.text());
    CHECK(v.passed());

    // A caller's list may hold anything; what is invalid is passed over, never dereferenced.
    Kokkos::deep_copy(Kokkos::subview(s.lists.indices, Kokkos::ALL, Kokkos::ALL, Kokkos::ALL, 3), 1 << 30);
    Kokkos::deep_copy(Kokkos::subview(s.lists.indices, Kokkos::ALL, Kokkos::ALL, Kokkos::ALL, 1), -5);
    Kokkos::deep_copy(s.lists.lengths, 4000);
    spla::selected_attention(exec, d.query, d.key, d.value, s.sparse, full, extras);
    exec.fence();
    auto const out = Kokkos::create_mirror_view_and_copy(Kokkos::HostSpace{}, s.sparse);
    bool finite = true;
    for (std::size_t i = 0; i < out.size(); ++i) finite = finite && std::isfinite(out.data()[i]);
    CHECK(finite);
}
