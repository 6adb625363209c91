// SPDX-FileCopyrightText: The spla authors
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
// decode() of a fixed batch in sizes that kernels of their own take, against the definition. Hosts are held to the
// same.
#include "conformance/conforms.hpp"
#include "conformance/kokkos_events.hpp"

#include <cmath>

using namespace spla_test;

namespace
{
template <class Exec>
bool has_hopper()
{
    data<Exec, spla::bfloat16> const d({1, 64, 64, 2, 2, 64, 64}, 1);
    return spla::plan_prefill(Exec(), d.problem(), block_options()).exact.matrix_units;
}

/// All but the queries' tokens appended at once; then those, and decoded together, or the first `before` of them alone.
template <class Exec, class Element = spla::bfloat16>
void holds(shape const& s, spla::options<> const& o, bool selects = true, bool attends = true, int before = 0)
{
    data<Exec, Element> const d(s, 31);
    stepper<Exec, Element> steps(d, o);
    int const first = s.keys - s.queries;
    steps.append(0, first);
    if (before > 0) steps.step(first, first + before);
    steps.append(first + before, s.keys);
    int const portable = launches_of("spla::attention", [&] { steps.decode(first + before, s.keys); });
    auto const v = hold(d, steps.r, o);
    auto const how = spla::plan_decode(Exec(), d.problem(), o);
    INFO(s.text() << "\n" << how << "\n" << v.text());
    CHECK(v.passed());
    CHECK(how.selection.matrix_units == (has_hopper<Exec>() && selects));
    CHECK(how.exact.matrix_units == (has_hopper<Exec>() && attends));
    CHECK((portable == 0) == how.exact.matrix_units);
}
} // namespace

TEMPLATE_LIST_TEST_CASE("decode by blocks of 64, of any group and width", "[conformance][decode]", host_and_device)
{
    for (shape const& s :
         {shape{1, 1, 1409, 4, 1, 64, 64}, shape{2, 1, 1025, 8, 2, 128, 128}, shape{1, 1, 700, 5, 1, 80, 48},
          shape{3, 1, 901, 2, 2, 64, 32}, shape{1, 1, 640, 7, 1, 128, 80}, shape{1, 1, 777, 48, 3, 32, 64},
          shape{1, 1, 1100, 64, 1, 64, 64}, shape{1, 1, 5, 4, 2, 64, 64}, shape{2, 1, 65, 4, 2, 64, 64}})
        holds<TestType>(s, block_options());
}

TEMPLATE_LIST_TEST_CASE("decode by blocks of 64 of several tokens, between which blocks enter the state",
                        "[conformance][decode]", host_and_device)
{
    for (shape const& s : {shape{2, 8, 1284, 4, 2, 64, 64}, shape{1, 5, 642, 8, 1, 128, 64},
                           shape{2, 2, 65, 4, 1, 64, 64}, shape{3, 7, 134, 3, 1, 64, 64}, shape{1, 8, 8, 4, 4, 32, 32}})
        holds<TestType>(s, block_options());
    holds<TestType>({1, 9, 1284, 4, 2, 64, 64}, block_options(), true, false); // more than decode's own kernels take
}

TEMPLATE_LIST_TEST_CASE("a workspace for decode is enough for fewer tokens, and for fewer keys", "[decode]",
                        host_and_device)
{
    for (int const block : {64, 16}) // of 16: selection alone has a kernel of its own
    {
        auto o = block_options();
        o.block = block;
        auto const bytes = [&](std::int64_t queries, std::int64_t keys) {
            return spla::plan_decode(TestType(), bare_sizes(queries, keys), o).workspace_bytes;
        };
        for (std::int64_t queries = 1; queries <= 20; ++queries)
            for (std::int64_t keys = 100; keys < 20'000'000; keys *= 3) // the longest have the portable kernel alone
            {
                INFO(queries << " of " << keys << " tokens, blocks of " << block);
                CHECK(bytes(queries + 1, keys) >= bytes(queries, keys));
                CHECK(bytes(queries, 3 * keys) >= bytes(queries, keys));
            }
    }
}

TEMPLATE_LIST_TEST_CASE("decode by blocks of 64 of a newest key that is not a number", "[not_finite][decode]",
                        host_and_device)
{
    // Wherever it lies among what is merged, alone or with others: no row that sees it may come out clean.
    for (int keys = 65; keys < 900; keys += 64)
    {
        data<TestType, spla::bfloat16> const d({1, 1, keys, 4, 2, 64, 64}, 31);
        stepper<TestType, spla::bfloat16> steps(d, block_options());
        steps.append(0, keys);
        auto const key = on_host(d.key);
        for (int h = 0; h < 2; ++h) key(0, keys - 1, h, 7) = static_cast<spla::bfloat16>(std::nanf(""));
        from_host(key, d.key);
        steps.decode(keys - 1, keys);
        auto const output = on_host(steps.r.output);
        int clean = 0;
        for (int h = 0; h < 4; ++h)
            for (int x = 0; x < 64; ++x) clean += !std::isnan(static_cast<float>(output(0, 0, h, x)));
        INFO(keys << " keys");
        CHECK(clean == 0);
    }
}

TEMPLATE_LIST_TEST_CASE("decode by blocks of 64: options", "[conformance][decode]", host_and_device)
{
    shape const s{2, 7, 1287, 6, 2, 64, 64}; // a tile begins, and is under way when the second call comes
    auto const holds_with = [&](auto const& change, bool selects = true, bool attends = true) {
        auto o = block_options();
        change(o);
        holds<TestType>(s, o, selects, attends, 3);
    };
    holds_with([](auto& o) { o.share = spla::sharing::first_query(32); });
    holds_with([](auto& o) { o.share = spla::sharing::first_query(128), o.top_k = 2; });
    holds_with([](auto& o) { o.combine = spla::combination_kind::sparse_only; });
    holds_with([](auto& o) { o.combine = spla::combination_kind::sum, o.sink_blocks = 2; });
    holds_with([](auto& o) { o.storage = spla::summary_storage::int8; });
    holds_with([](auto& o) { o.storage = spla::summary_storage::fp32; }, false);
    holds_with([](auto& o) { o.top_p = 0.6, o.top_k = 16; });
    holds_with([](auto& o) { o.top_k = 30; }); // all that compete
    holds_with([](auto& o) { o.top_k = 0; });
    holds_with([](auto& o) { o.normalised = true; }, true, false);
    holds_with([](auto& o) { o.residual = spla::residual_mode::direct, o.may_read_unselected = true; }, true, false);
    holds_with([](auto& o) { o.block = 32; }, true, false);
    holds<TestType, spla::float16>(s, block_options(), false, false);
}

TEMPLATE_LIST_TEST_CASE("decode by blocks of 64 of views that are not aligned runs portably", "[conformance][decode]",
                        host_and_device)
{
    data<TestType, spla::bfloat16> const d({2, 3, 1284, 4, 2, 64, 64}, 5, true);
    stepper<TestType, spla::bfloat16> steps(d, block_options());
    steps.append(0, 1284);
    CHECK(launches_of("spla::attention", [&] { steps.decode(1281, 1284); }) > 0);
    auto const v = hold(d, steps.r, block_options());
    INFO(v.text());
    CHECK(v.passed());
}

TEMPLATE_LIST_TEST_CASE("decode by blocks of 64 with a caller's lists", "[conformance][decode]", host_and_device)
{
    using call = calls<TestType, spla::bfloat16>;
    TestType const exec;
    auto const o = block_options();
    shape const s{2, 3, 1284, 4, 2, 64, 64};
    int const capacity = 9; // more than top_k
    data<TestType, spla::bfloat16> const d(s, 12);
    results<TestType, spla::bfloat16> r(s, o);
    r.lists = unwritten_lists<typename TestType::memory_space>(s.batch, s.queries, s.key_heads, capacity);
    auto const lists = on_host(r.lists);
    for (int b = 0; b < s.batch; ++b)
        for (int t = 0; t < s.queries; ++t)
            for (int h = 0; h < s.key_heads; ++h)
            {
                int const length = lists.lengths(b, t, h) = (3 * b + 4 * t + 5 * h) % (capacity + 1);
                for (int i = 0; i < length; ++i) lists.indices(b, t, h, i) = 2 * i + (b + t + h) % 2;
            }
    from_host(lists, r.lists);
    auto state = call::make_state(exec, d.problem(), o);
    call::append(exec, d.key, d.value, d.key, d.value, state, o);
    spla::attention_extras<spla::bfloat16> e;
    e.use_lists(r.lists).return_lse(r.lse_of(0, s.queries)).return_branches(r.sparse, r.residual);
    call::decode(exec, d.query, d.key, d.value, r.output, state, o,
                 call::decode_scratch(exec, d.problem(), o, capacity), e);
    exec.fence();
    verdict v;
    hold_arithmetic(v, d, r, o);
    INFO(v.text());
    CHECK(v.passed());
    CHECK(v.residual.compared > 0);
}

TEMPLATE_LIST_TEST_CASE("decode gives the same bits each time", "[invariants][decode]", host_and_device)
{
    auto const o = block_options();
    shape const s{5, 2, 1409, 8, 2, 64, 64};
    data<TestType, spla::bfloat16> const d(s, 7);
    auto const made = [&] {
        stepper<TestType, spla::bfloat16> steps(d, o);
        steps.append(0, 1400);
        for (int t = 1400; t < 1407; ++t) steps.append(t, t + 1);
        steps.step(1407, 1409);
        return steps.r;
    };
    auto const one = made(), again = made();
    CHECK(same_bits(on_host(one.output), on_host(again.output)));
    CHECK(same_bits(on_host(one.lse), on_host(again.lse)));
}
