// SPDX-FileCopyrightText: The spla authors
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#include "conformance/conforms.hpp"

using namespace spla_test;

namespace
{
/// A prefill, a chunk and decode steps of given data, held against the reference.
template <class Exec>
void conforms_in_parts(data<Exec> const& d, spla::options<> const& o)
{
    stepper<Exec> s(d, o);
    s.prefill(0, 90);
    s.prefill(90, 170);
    s.step(170, 171);
    s.step(171, 200);
    auto const v = hold(d, s.r, o);
    INFO(v.text());
    CHECK(v.passed());
}
template <class Exec>
data<Exec> problem()
{
    return data<Exec>({1, 200, 200, 4, 2, 16, 16}, 8);
}
template <class View, class F>
void change(View const& v, F const& f)
{
    auto const copy = on_host(v);
    for (std::size_t t = 0; t < copy.extent(1); ++t)
        for (std::size_t h = 0; h < copy.extent(2); ++h)
            for (std::size_t x = 0; x < copy.extent(3); ++x)
                copy(0, t, h, x) = f(copy(0, t, h, x), static_cast<int>(t));
    from_host(copy, v);
}
} // namespace

TEMPLATE_LIST_TEST_CASE("logits of many hundreds", "[conformance][extreme]", spaces)
{
    for (double const scale : {10.0, 60.0})
    {
        auto o = small_options();
        o.scale = scale;
        auto const d = problem<TestType>();
        auto const x = d.host_sequence(0);
        CHECK(scale * (x.query[0] * x.key[0].transpose()).cwiseAbs().maxCoeff() > 300);
        conforms_in_parts(d, o);
    }
}

TEMPLATE_LIST_TEST_CASE("blocks of identical keys, zero keys and zero queries", "[conformance][extreme]", spaces)
{
    for (auto const storage : {spla::summary_storage::fp32, spla::summary_storage::bf16, spla::summary_storage::int8})
    {
        auto o = small_options();
        o.storage = storage;
        auto const same = problem<TestType>(); // block 2: one key 16 times; no variance, every distance a tie
        auto const copy = on_host(same.key);
        for (int t = 33; t < 48; ++t)
            for (int h = 0; h < 2; ++h)
                for (int x = 0; x < 16; ++x) copy(0, t, h, x) = copy(0, 32, h, x);
        from_host(copy, same.key);
        conforms_in_parts(same, o);

        auto const zero_keys = problem<TestType>();
        change(zero_keys.key, [](float x, int t) { return t >= 48 && t < 80 ? 0.0f : x; });
        conforms_in_parts(zero_keys, o);

        auto const no_keys = problem<TestType>(); // every block a tie
        change(no_keys.key, [](float, int) { return 0.0f; });
        conforms_in_parts(no_keys, o);

        auto const zero_queries = problem<TestType>();
        change(zero_queries.query, [](float x, int t) { return t % 3 == 0 ? 0.0f : x; });
        conforms_in_parts(zero_queries, o);
    }
}

TEMPLATE_LIST_TEST_CASE("large and small numbers", "[conformance][extreme]", spaces)
{
    for (float const factor : {1e4f, 1e-4f})
    {
        auto o = small_options();
        o.scale = 0.25 / factor;
        auto const keys = problem<TestType>();
        change(keys.key, [&](float x, int) { return factor * x; });
        conforms_in_parts(keys, o);
        auto const values = problem<TestType>();
        change(values.value, [&](float x, int) { return factor * x; });
        conforms_in_parts(values, small_options());
    }
}

TEMPLATE_LIST_TEST_CASE("all mass on one key", "[conformance][extreme]", spaces)
{
    // All other masses fall below 2^-100 and count as zero: ties, lowest first.
    auto o = small_options();
    auto const d = problem<TestType>();
    change(d.key, [](float x, int t) { return t == 70 ? 40 * x : x; });
    conforms_in_parts(d, o);
    o.top_p = 0.5;
    conforms_in_parts(d, o);
}
