// SPDX-FileCopyrightText: The spla authors
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#include "conformance/conforms.hpp"

using namespace spla_test;

TEMPLATE_LIST_TEST_CASE("prefill agrees with the definition over ragged sizes and odd head ratios", "[conformance]",
                        spaces)
{
    auto const o = small_options();
    for (auto const& s :
         {shape{1, 300, 300, 2, 1, 16, 16}, shape{2, 97, 97, 3, 3, 8, 12}, shape{1, 33, 250, 7, 1, 20, 5},
          shape{1, 1, 161, 5, 1, 16, 16}, shape{1, 15, 15, 4, 2, 16, 16}, shape{1, 16, 16, 4, 2, 16, 16},
          shape{1, 17, 17, 4, 2, 16, 16}, shape{1, 1, 1, 2, 2, 4, 4}, shape{1, 40, 30, 2, 1, 8, 8},
          shape{1, 259, 259, 16, 1, 33, 17}})
    {
        conforms<TestType>(s, o, 7, false);
        conforms<TestType>(s, o, 8, true);
    }
}

TEMPLATE_LIST_TEST_CASE("large tiles use the state form and stay within bounds", "[conformance]", spaces)
{
    auto o = small_options();
    o.block = 64, o.top_k = 2, o.share = spla::sharing::first_query(64), o.segment_tokens = 256;
    conforms<TestType>({1, 700, 700, 8, 1, 8, 8}, o);
    o.normalised = true;
    conforms<TestType>({1, 700, 700, 8, 1, 8, 8}, o);
}

TEMPLATE_LIST_TEST_CASE("no key: every query gets zeros and a log-sum-exp of minus infinity", "[conformance][empty]",
                        spaces)
{
    for (auto const kind :
         {spla::combination_kind::rms_sum, spla::combination_kind::sum, spla::combination_kind::sparse_only})
        for (bool const decodes : {false, true})
        {
            auto o = small_options();
            o.combine = kind;
            data<TestType> const d({2, 20, 0, 2, 1, 8, 8}, 1);
            stepper<TestType> s(d, o);
            if (decodes)
                s.decode(-20, 0);
            else
                s.prefill(-20, 0);
            auto const output = on_host(s.r.output), lse = on_host(s.r.lse);
            int wrong = 0;
            for (std::size_t i = 0; i < output.size(); ++i) wrong += output.data()[i] != 0.0f;
            for (std::size_t i = 0; i < lse.size(); ++i)
                wrong += !(lse.data()[i] == -std::numeric_limits<float>::infinity());
            CHECK(wrong == 0);
            for (auto const& tile : s.r.chosen(1)) CHECK(tile[0].empty());
        }
}

TEMPLATE_LIST_TEST_CASE("no query: keys are appended all the same", "[conformance][empty]", spaces)
{
    auto const o = small_options();
    data<TestType> const d({1, 140, 140, 2, 1, 8, 8}, 2);
    stepper<TestType> s(d, o);
    s.prefill(0, 50);
    s.prefill(90, 90); // no query, keys [50, 90)
    CHECK(s.state.tokens == 90);
    s.decode(90, 90);
    s.append(90, 140);
    s.decode(140, 140);
    CHECK(s.state.tokens == 140);

    data<TestType> tail = d; // queries of the last keys alone
    tail.size.queries = 10;
    tail.query = tokens(d.query, 130, 140);
    stepper<TestType> t(tail, o);
    t.state = s.state;
    t.decode(130, 140);
    auto const v = hold(tail, t.r, o);
    INFO(v.text());
    CHECK(v.passed());
}

TEMPLATE_LIST_TEST_CASE("no sequence: calls do nothing", "[conformance][empty]", spaces)
{
    auto const o = small_options();
    data<TestType> const d({0, 40, 40, 2, 1, 8, 8}, 3);
    stepper<TestType> s(d, o);
    s.prefill(0, 30);
    s.step(30, 40);
    CHECK(s.state.tokens == 40);
    CHECK(hold(d, s.r, o).passed());
}
