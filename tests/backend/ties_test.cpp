// SPDX-FileCopyrightText: The spla authors
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#include "conformance/conforms.hpp"

using namespace spla_test;

namespace
{
/// Copies the keys of block `from` to block `to`, times a factor.
template <class View>
void copy_block(View const& key, int block, int from, int to, float factor = 1)
{
    for (int t = 0; t < block; ++t)
        for (std::size_t h = 0; h < key.extent(2); ++h)
            for (std::size_t x = 0; x < key.extent(3); ++x)
                key(0, to * block + t, h, x) = factor * key(0, from * block + t, h, x);
}
} // namespace

TEMPLATE_LIST_TEST_CASE("ties go to the lower block", "[selection][ties]", spaces)
{
    auto o = small_options();
    o.block = 8, o.local_blocks = 1, o.segment_tokens = 4096;
    for (int const blocks : {12, 90}) // 90: more than are scored together
        for (int const top_k : {3, 7})
            for (int const sub : {1, 2})
            {
                o.top_k = top_k, o.sub_blocks = sub;
                data<TestType> d({1, 3, blocks * o.block, 4, 2, 16, 16}, 3);
                auto const key = on_host(d.key);
                for (int b = 2; b < blocks; ++b) copy_block(key, o.block, 1, b);
                from_host(key, d.key);
                auto const chosen = run_prefill(d, o).chosen(0);
                std::vector<int> lowest(top_k);
                for (int i = 0; i < top_k; ++i) lowest[i] = o.sink_blocks + i;
                for (auto const& tile : chosen)
                    for (auto const& list : tile) CHECK(list == lowest);
            }
}

TEMPLATE_LIST_TEST_CASE("ties within better and worse blocks go to the lower block", "[selection][ties]", spaces)
{
    // Blocks of two kinds, every third of the first: whichever a query prefers, it takes those first, then the others.
    auto o = small_options();
    o.block = 8, o.local_blocks = 1, o.top_k = 12, o.segment_tokens = 512;
    int const blocks = 24;
    data<TestType> d({1, 5, blocks * o.block, 2, 2, 16, 16}, 4);
    auto const key = on_host(d.key);
    std::vector<int> kinds[2];
    for (int b = 3; b < blocks; ++b) copy_block(key, o.block, b % 3 == 1 ? 1 : 2, b);
    from_host(key, d.key);
    for (int b = o.sink_blocks; b < blocks - 1 - o.local_blocks; ++b) kinds[b % 3 != 1].push_back(b);
    auto const expected = [&](int first) {
        std::vector<int> list = kinds[first];
        list.insert(list.end(), kinds[1 - first].begin(), kinds[1 - first].end());
        list.resize(o.top_k);
        std::sort(list.begin(), list.end());
        return list;
    };
    REQUIRE(expected(0) != expected(1));
    int preferred[2] = {0, 0};
    for (auto const& tile : run_prefill(d, o).chosen(0))
        for (auto const& list : tile)
        {
            CHECK((list == expected(0) || list == expected(1)));
            ++preferred[list == expected(1)];
        }
    CHECK(preferred[0] + preferred[1] == 10);
}

TEMPLATE_LIST_TEST_CASE("top_p with ties takes the smallest number of blocks", "[selection][ties]", spaces)
{
    auto o = small_options();
    o.block = 8, o.local_blocks = 1, o.top_k = 12, o.segment_tokens = 512;
    int const blocks = 13; // ten compete, each with a tenth of the mass
    data<TestType> d({1, 1, blocks * o.block, 2, 1, 16, 16}, 5);
    auto const key = on_host(d.key);
    for (int b = 2; b < blocks; ++b) copy_block(key, o.block, 1, b);
    from_host(key, d.key);
    for (auto const& [top_p, wanted] :
         {std::pair(0.05, 1), std::pair(0.11, 2), std::pair(0.45, 5), std::pair(0.95, 10)})
    {
        o.top_p = top_p;
        auto const list = run_prefill(d, o).chosen(0)[0][0];
        INFO("top_p " << top_p);
        CHECK(static_cast<int>(list.size()) == wanted);
        for (int i = 0; i < static_cast<int>(list.size()); ++i) CHECK(list[i] == i + 1);
    }
}

TEMPLATE_LIST_TEST_CASE("near-ties may fall either way, and nothing else may", "[selection][ties]", spaces)
{
    // Blocks that differ from one of two by a few units in the last place: within the score's bound among themselves.
    auto o = small_options();
    o.block = 8, o.local_blocks = 1, o.top_k = 5, o.segment_tokens = 512;
    int const blocks = 24;
    data<TestType> d({1, 20, blocks * o.block, 4, 2, 16, 16}, 6);
    auto const key = on_host(d.key);
    for (int b = 3; b < blocks; ++b) copy_block(key, o.block, 1 + b % 2, b, 1 + static_cast<float>(b) * 0x1p-23f);
    from_host(key, d.key);
    auto const r = run_prefill(d, o);
    verdict v;
    hold_selection(v, d, r, o);
    hold_arithmetic(v, d, r, o);
    INFO(v.text());
    CHECK(v.wrong_lists == 0);
    CHECK((v.sparse.passed && v.residual.passed && v.output.passed && v.lse.passed));
    auto const kind = [](int b) { return b < 3 ? b : 1 + b % 2; };
    for (auto const& tile : r.chosen(0)) // eleven or ten of a kind compete, and all five selected are of one
        for (auto const& list : tile)
            for (int const b : list) CHECK(kind(b) == kind(list[0]));
}
