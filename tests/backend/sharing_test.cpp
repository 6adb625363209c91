// SPDX-FileCopyrightText: The spla authors
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#include "conformance/conforms.hpp"

using namespace spla_test;
using spla::sharing;

TEMPLATE_LIST_TEST_CASE("every sharing", "[conformance][sharing]", spaces)
{
    for (int const tile : {2, 8, 16, 32, 64})
    {
        auto o = small_options();
        for (auto const& share : {sharing::tile_sum(tile), sharing::tile_sum(tile, 3)})
        {
            o.share = share;
            conforms<TestType>({1, 300, 331, 4, 2, 16, 16}, o);
        }
        o.share = sharing::first_query(tile);
        conforms<TestType>({1, 331, 331, 4, 2, 16, 16}, o);
    }
}

TEMPLATE_LIST_TEST_CASE("a tile_sum call that begins inside a tile sums its own queries alone",
                        "[conformance][sharing]", spaces)
{
    // 3 queries before a tile's end; every 4th scores, so that in the first tile none of the call's own would.
    auto o = small_options();
    o.block = 8, o.top_k = 2;
    data<TestType> const d({1, 19, 176, 4, 2, 16, 16}, 5);
    for (int const every : {1, 4})
        for (bool const decodes : {false, true})
        {
            o.share = sharing::tile_sum(16, every);
            stepper<TestType> s(d, o);
            s.append(0, 100);
            s.append(100, 176);
            if (decodes)
                s.decode(157, 176);
            else
                s.prefill(157, 176);
            auto const v = hold(d, s.r, o);
            INFO("every " << every << (decodes ? ", decode\n" : ", prefill\n") << v.text());
            CHECK(v.passed());

            // The tile's other queries, in a call of their own before, change nothing.
            data<TestType> longer({1, 29, 176, 4, 2, 16, 16}, 6);
            auto const all = on_host(longer.query), mine = on_host(d.query);
            for (int t = 0; t < 19; ++t)
                for (int h = 0; h < 4; ++h)
                    for (int x = 0; x < 16; ++x) all(0, t + 10, h, x) = mine(0, t, h, x);
            from_host(all, longer.query);
            longer.key = d.key, longer.value = d.value;
            stepper<TestType> both(longer, o);
            both.append(0, 100);
            both.prefill(147, 157);
            both.prefill(157, 176);
            CHECK(both.r.chosen(0) == s.r.chosen(0));
        }
}

TEMPLATE_LIST_TEST_CASE("first_query: a decode step inside a tile uses the list of the tile's first query",
                        "[conformance][sharing]", spaces)
{
    auto o = small_options();
    o.block = 8, o.top_k = 2, o.share = sharing::first_query(16);
    data<TestType> const d({1, 180, 180, 4, 2, 16, 16}, 7);
    stepper<TestType> s(d, o);
    s.prefill(0, 100);
    for (int t = 100; t < 180; ++t) s.step(t, t + 1);
    auto const v = hold(d, s.r, o);
    INFO(v.text());
    CHECK(v.passed());
}
