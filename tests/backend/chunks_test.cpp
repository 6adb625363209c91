// SPDX-FileCopyrightText: The spla authors
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#include "conformance/conforms.hpp"

using namespace spla_test;

TEMPLATE_LIST_TEST_CASE("a prefill is its chunks and its decode steps", "[invariants][chunks]", spaces)
{
    for (auto const share : {spla::sharing::per_token(), spla::sharing::first_query(8), spla::sharing::first_query(32)})
        for (int const residual_dim : {0, 12})
        {
            auto o = small_options();
            o.share = share;
            data<TestType> const d({2, 330, 330, 4, 2, 16, 24, residual_dim}, 3, true, residual_dim > 0);
            auto const whole = run_prefill(d, o);
            stepper<TestType> s(d, o);
            s.prefill(0, 100);
            s.prefill(100, 101);
            s.prefill(101, 290);
            for (int t = 290; t < 320; ++t) s.step(t, t + 1);
            s.step(320, 330);
            INFO("T " << o.share.tile);
            CHECK(same_bits(on_host(whole.lists), on_host(s.r.lists)));
            auto const v = hold(d, s.r, o);
            INFO(v.text());
            CHECK(v.passed());
        }
}

TEMPLATE_LIST_TEST_CASE("decode of several queries is as many decode steps", "[invariants][chunks]", spaces)
{
    for (auto const share : {spla::sharing::per_token(), spla::sharing::first_query(8), spla::sharing::first_query(32)})
        for (auto const mode : {spla::residual_mode::subtract, spla::residual_mode::direct})
        {
            auto o = small_options();
            o.share = share, o.residual = mode, o.may_read_unselected = mode == spla::residual_mode::direct;
            o.normalised = o.may_read_unselected;
            data<TestType> d({2, 290, 290, 6, 2, 16, 24}, 4);
            stepper<TestType> one(d, o), several(d, o);
            one.prefill(0, 250);
            several.prefill(0, 250);
            for (int t = 250; t < 290; ++t) one.step(t, t + 1);
            several.step(250, 257);
            several.step(257, 280);
            several.step(280, 290);
            INFO("T " << o.share.tile);
            CHECK(same_bits(on_host(one.r.lists), on_host(several.r.lists)));
            for (auto const* s : {&one, &several})
            {
                auto const v = hold(d, s->r, o);
                INFO(v.text());
                CHECK(v.passed());
            }
        }
}

TEMPLATE_LIST_TEST_CASE("queries that see nothing, before those that do", "[invariants][chunks]", spaces)
{
    for (bool const decodes : {false, true})
        for (int const tile : {1, 32})
        {
            auto o = small_options();
            o.block = 8, o.top_k = 2;
            if (tile > 1) o.share = spla::sharing::first_query(tile);
            data<TestType> const d({1, 118, 100, 3, 1, 8, 8}, 5);
            stepper<TestType> s(d, o);
            s.append(0, 100);
            if (decodes)
                s.decode(-18, 100);
            else
                s.prefill(-18, 100);
            auto const v = hold(d, s.r, o);
            INFO(v.text());
            CHECK(v.passed());
            auto const lse = on_host(s.r.lse);
            CHECK(lse(0, 17, 0, 0) == -std::numeric_limits<float>::infinity());
            CHECK(std::isfinite(lse(0, 18, 0, 0)));
        }
}
