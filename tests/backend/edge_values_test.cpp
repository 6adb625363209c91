// SPDX-FileCopyrightText: The spla authors
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
// Legal values at the edge of their range, where a formula's limit has to be taken by hand.
#include "conformance/conforms.hpp"

#include <cmath>

using namespace spla_test;

namespace
{
/// A tensor filled by f(token, component), the same for every sequence and head.
template <class Space, class F>
void fill(any_view<float, Space> const& v, F const& f)
{
    auto const copy = on_host(v);
    for (std::size_t b = 0; b < copy.extent(0); ++b)
        for (std::size_t t = 0; t < copy.extent(1); ++t)
            for (std::size_t h = 0; h < copy.extent(2); ++h)
                for (std::size_t d = 0; d < copy.extent(3); ++d)
                    copy(b, t, h, d) = f(static_cast<int>(t), static_cast<int>(d));
    from_host(copy, v);
}
} // namespace

TEMPLATE_LIST_TEST_CASE("zero rows stay zero where epsilon is zero too", "[edges]", spaces)
{
    auto o = small_options();
    o.epsilon = 0, o.top_k = 1000; // everything selected: no residual
    data<TestType> const d({1, 146, 140, 4, 2, 16, 16}, 31);
    auto const r = run_prefill(d, o);
    auto const v = hold(d, r, o);
    INFO(v.text());
    CHECK(v.passed());
    auto const out = on_host(r.output);
    int wrong = 0;
    for (int t = 0; t < 146; ++t)
        for (int x = 0; x < 16; ++x) wrong += t < 6 ? out(0, t, 3, x) != 0 : !std::isfinite(out(0, t, 3, x));
    CHECK(wrong == 0);
}

TEMPLATE_LIST_TEST_CASE("logits of minus infinity weigh nothing, also where they come first", "[edges]", spaces)
{
    auto o = small_options();
    o.combine = spla::combination_kind::sparse_only, o.block = 1, o.kept_keys = 0, o.local_blocks = 64;
    data<TestType> const d({1, 32, 32, 2, 1, 8, 8}, 32);
    fill(d.query, [](int, int x) { return x == 0 ? 1e20f : 0.0f; });
    fill(d.key, [](int t, int x) { return x == 0 ? (t < 20 ? -1e20f : 1e-20f) : 0.0f; });
    auto const r = run_prefill(d, o);
    auto const out = on_host(r.output), value = on_host(d.value), lse = on_host(r.lse);
    for (int x = 0; x < 8; ++x)
    {
        CHECK(out(0, 10, 0, x) == 0.0f);
        double mean = 0;
        for (int t = 20; t < 32; ++t) mean += value(0, t, 0, x) / 12.0;
        CHECK(std::abs(out(0, 31, 0, x) - mean) < 1e-5);
    }
    CHECK(lse(0, 10, 0, 0) == -std::numeric_limits<float>::infinity());
    CHECK(std::isfinite(lse(0, 31, 0, 0)));
}

TEMPLATE_LIST_TEST_CASE("top_p counts in double", "[edges]", spaces)
{
    data<TestType> const d({1, 224, 224, 2, 1, 16, 16}, 33);
    fill(d.key, [](int, int) { return 0.25f; }); // every competing block has the same mass
    for (auto const& [top_p, length] : {std::pair{1e-50, 1}, std::pair{0.1, 1}, std::pair{0.5, 5}, std::pair{0.95, 10}})
    {
        auto o = small_options();
        o.top_k = 20, o.top_p = top_p;
        auto const r = run_prefill(d, o);
        INFO("top_p " << top_p);
        CHECK(on_host(r.lists).lengths(0, 223, 0) == length); // 14 blocks, 1 sink, 2 local and the own: 10 compete
    }
}

TEMPLATE_LIST_TEST_CASE("an entry out of range hides nothing that follows it", "[edges][lists]", spaces)
{
    using call = calls<TestType, float>;
    TestType const exec;
    auto const o = small_options();
    shape const s{1, 96, 96, 2, 1, 16, 16}; // blocks 1, 2 compete for the last queries
    data<TestType> const d(s, 34);
    auto const run = [&](std::vector<int> const& entries) {
        results<TestType> r(s, o);
        r.lists = unwritten_lists<typename TestType::memory_space>(1, 96, 1, 4);
        auto const copy = on_host(r.lists);
        for (int t = 0; t < 96; ++t)
        {
            copy.lengths(0, t, 0) = static_cast<int>(entries.size());
            for (std::size_t i = 0; i < entries.size(); ++i) copy.indices(0, t, 0, i) = entries[i];
        }
        from_host(copy, r.lists);
        auto state = call::make_state(exec, d.problem(), o);
        spla::attention_extras<float> e;
        e.use_lists(r.lists).return_branches(r.sparse, r.residual);
        call::prefill(exec, d.query, d.key, d.value, r.output, state, o, call::prefill_scratch(exec, d.problem(), o),
                      e);
        exec.fence();
        return r;
    };
    for (auto const& [good, bad] :
         {std::pair{std::vector{2}, std::vector{1000, 2}}, std::pair{std::vector{1, 2}, std::vector{1000, 1, 2}},
          std::pair{std::vector{1, 2}, std::vector{1, 77, 2, 1 << 30}}})
    {
        auto const a = run(good), b = run(bad);
        CHECK(same_bits(a.sparse, b.sparse));
        CHECK(same_bits(a.residual, b.residual));
    }
}

TEMPLATE_LIST_TEST_CASE("a normalised residual is zero where its denominator is lost in rounding, in either form",
                        "[edges]", host_and_device)
{
    // All competing blocks but a tiny one are selected: what is left of the denominator is below its own rounding.
    using options = spla::options<spla::taylor<>, spla::relu_pair>;
    options o;
    o.block = 16, o.sink_blocks = 1, o.local_blocks = 0, o.normalised = true, o.segment_tokens = 96;
    shape const s{1, 96, 96, 4, 1, 8, 8};
    data<TestType> const d(s, 35);
    fill(d.query, [](int t, int x) { return 0.5f + 0.07f * static_cast<float>((3 * t + 5 * x) % 11); });
    fill(d.key, [](int t, int x) {
        return (t / 16 == 1 ? 1e-8f : 1.0f) * (0.5f + 0.09f * static_cast<float>((7 * t + x) % 13));
    });
    for (bool const decodes : {false, true})
    {
        TestType const exec;
        auto const lists = unwritten_lists<typename TestType::memory_space>(1, 96, 1, 4);
        auto const copy = on_host(lists);
        for (int t = 0; t < 96; ++t)
        {
            int length = 0;
            for (int b = 2; b < t / 16; ++b) copy.indices(0, t, 0, length++) = b;
            copy.lengths(0, t, 0) = length;
        }
        from_host(copy, lists);
        auto const residual = empty_view<float, typename TestType::memory_space>(1, 96, 4, 8),
                   sparse = empty_view<float, typename TestType::memory_space>(1, 96, 4, 8),
                   output = empty_view<float, typename TestType::memory_space>(1, 96, 4, 8);
        spla::attention_extras<float> e;
        e.use_lists(lists).return_branches(sparse, residual);
        auto state = spla::make_sequence_state(exec, d.problem(), o);
        auto const p = d.problem();
        if (decodes)
        {
            spla::append(exec, d.key, d.value, d.key, d.value, state, o);
            spla::decode(exec, d.query, d.key, d.value, output, state, o,
                         spla::make_workspace(exec, spla::plan_decode(exec, p, o, 4)), e);
        }
        else
            spla::prefill(exec, d.query, d.key, d.value, output, state, o,
                          spla::make_workspace(exec, spla::plan_prefill(exec, p, o)), e);
        exec.fence();
        auto const made = on_host(residual);
        int wrong = 0;
        for (int t = 48; t < 96; ++t) // blocks 1 and another compete
            for (int h = 0; h < 4; ++h)
                for (int x = 0; x < 8; ++x) wrong += made(0, t, h, x) != 0.0f;
        INFO((decodes ? "decode" : "prefill"));
        CHECK(wrong == 0);
    }
}
