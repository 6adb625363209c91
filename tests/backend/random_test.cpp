// SPDX-FileCopyrightText: The spla authors
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#include "catch.hpp"
#include "conformance/random_problem.hpp"

#include <cstdlib>
#include <map>

using namespace spla_test;

namespace
{
/// Problems of `count` seeds; SPLA_TEST_SEED=n in the environment runs the one that a failure named, alone.
template <class Exec>
void hold_problems(unsigned first, unsigned count)
{
    if (char const* const only = std::getenv("SPLA_TEST_SEED"))
        first = static_cast<unsigned>(std::atoi(only)), count = 1;
    for (unsigned seed = first; seed < first + count; ++seed)
    {
        random_problem const p(seed);
        INFO(p.text());
        data<Exec> const d(p.size, p.seed, p.padded, p.weighted);
        auto const v = hold(d, play(p, d), p.o);
        INFO(v.text());
        CHECK(v.passed());
    }
}
} // namespace

TEST_CASE("random problems are of every kind", "[random]")
{
    std::map<std::string, int> count;
    int const problems = 2000;
    for (unsigned seed = 1000; seed < 1000 + problems; ++seed)
    {
        random_problem const p(seed);
        auto const have = [&](bool holds, std::string const& what) { count[what] += holds; };
        auto const competing = spla::window_of(p.o).competing(p.size.keys - 1).count();
        have(p.size.batch > 0 && competing > p.o.top_k && p.o.top_k > 0, "some selected");
        have(p.size.batch > 0 && competing > 0 && p.o.top_k == 0, "none selected");
        have(p.size.batch == 0, "no sequence");
        have(p.size.keys == 0, "no key");
        have(p.size.queries > p.size.keys, "blind queries");
        have(p.size.head_dim != p.size.value_dim, "widths differ");
        have(p.size.residual_dim > 0, "residual inputs");
        have((p.o.block & (p.o.block - 1)) != 0, "block no power of two");
        have(p.o.share.tile > p.o.block, "tile above block");
        have(p.o.share.kind == spla::sharing_kind::tile_sum && (p.size.keys - p.size.queries) % p.o.share.tile != 0,
             "inside a tile");
        have(p.o.top_p < 1, "top_p");
        have(p.o.kept_keys > 0 && p.o.sub_blocks > 1, "kept keys of sub-blocks");
        have(p.size.keys > p.o.segment_tokens, "several segments");
        have(true, "course " + std::to_string(static_cast<int>(p.calls)));
        have(true, "sharing " + std::to_string(static_cast<int>(p.o.share.kind)));
        have(true, "storage " + std::to_string(static_cast<int>(p.o.storage)));
        have(true, "combination " + std::to_string(static_cast<int>(p.o.combine)));
        have(true, "residual " + std::to_string(static_cast<int>(p.o.residual)));
        have(true, "heads of a group " + std::to_string(p.size.query_heads / p.size.key_heads));
    }
    CHECK(count.size() == 13 + 4 + 3 + 4 + 4 + 3 + 8);
    for (auto const& [what, n] : count)
    {
        INFO(what << ": " << n);
        CHECK(n >= problems / 100);
    }
    CHECK(count["some selected"] >= problems / 3);
}

TEMPLATE_LIST_TEST_CASE("random problems", "[conformance][random]", spaces)
{
    hold_problems<TestType>(100, 60);
}

TEMPLATE_LIST_TEST_CASE("thousands of random problems", "[.full][random]", spaces)
{
    hold_problems<TestType>(1000, 4000);
}
