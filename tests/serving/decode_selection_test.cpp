// SPDX-FileCopyrightText: The spla authors
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
// Lists of decoded tokens against the definition: sequences of few new tokens and any length in one step, in sizes that
// a kernel of their own takes. Hosts are held to the same.
#include "../catch.hpp"
#include "ragged.hpp"

#include <limits>

using namespace spla_test;

namespace
{
/// One new token or a few, of sequences that are empty, within their window, at a block's border, long.
template <class Exec>
std::vector<data<Exec, spla::bfloat16>> problems(int query_heads, int key_heads, int dim, bool several)
{
    std::vector<data<Exec, spla::bfloat16>> all;
    unsigned seed = 90;
    using sizes = std::vector<std::pair<int, int>>;
    for (auto const& [queries, keys] :
         several ? sizes{{3, 3}, {8, 1288}, {0, 64}, {2, 65}, {5, 643}, {8, 8}, {4, 1028}, {6, 134}}
                 : sizes{{1, 1}, {1, 641}, {0, 64}, {1, 64}, {1, 129}, {1, 1409}, {0, 1}, {1, 1000}})
        all.emplace_back(shape{1, queries, keys, query_heads, key_heads, dim, 64}, ++seed);
    return all;
}

template <class Exec>
void holds(std::vector<data<Exec, spla::bfloat16>> const& d, spla::options<> const& o, cache_layout layout,
           bool has_kernel = true)
{
    using spla::bfloat16;
    ragged_batch<Exec, bfloat16> batch(d, o, layout);
    auto const r = batch.run();
    verdict v;
    for (std::size_t b = 0; b < d.size(); ++b) hold_selection(v, d[b], r[b], o, rounding_of(d[b], o));
    INFO("layout " << static_cast<int>(layout) << ": " << batch.step_plan() << "\n" << v.text());
    bool const hopper = spla::plan_prefill(Exec(), d[0].problem(), block_options()).selection.matrix_units;
    CHECK(batch.step_plan().decode_selection.matrix_units == (hopper && has_kernel));
    CHECK(v.passed());
    CHECK(v.lists > 0);
}

template <class Exec>
bool same_lists(results<Exec, spla::bfloat16> const& a, results<Exec, spla::bfloat16> const& b)
{
    return same_bits(on_host(a.lists), on_host(b.lists));
}
} // namespace

TEMPLATE_LIST_TEST_CASE("lists of decoded tokens, of any group and width", "[serving][decode_selection]",
                        host_and_device)
{
    for (bool const several : {false, true})
        for (auto const& [query_heads, key_heads, dim] :
             {std::tuple{2, 2, 64}, {6, 2, 128}, {8, 2, 64}, {7, 1, 96}, {16, 1, 128}, {40, 1, 8}, {64, 1, 64}})
        {
            INFO(query_heads << " / " << key_heads << " heads of " << dim);
            holds(problems<TestType>(query_heads, key_heads, dim, several), block_options(),
                  several ? cache_layout::pages : cache_layout::slots);
        }
}

TEMPLATE_LIST_TEST_CASE("lists of decoded tokens: options", "[serving][decode_selection]", host_and_device)
{
    // What comes before the queries ends with a tile of 128, so that no earlier query decides for them.
    std::vector<data<TestType, spla::bfloat16>> d;
    unsigned seed = 60;
    for (auto const& [queries, keys] : {std::pair{3, 3}, {8, 1288}, {0, 64}, {5, 645}, {8, 8}, {4, 1028}, {1, 1409}})
        d.emplace_back(shape{1, queries, keys, 16, 8, 64, 64}, ++seed);
    auto const holds_with = [&](char const* what, bool has_kernel, auto const& change) {
        auto o = block_options();
        change(o);
        INFO(what);
        holds(d, o, cache_layout::packed, has_kernel);
    };
    holds_with("first_query<2>", true, [](auto& o) { o.share = spla::sharing::first_query(2); });
    holds_with("first_query<32>", true, [](auto& o) { o.share = spla::sharing::first_query(32); });
    holds_with("first_query<128>", true, [](auto& o) { o.share = spla::sharing::first_query(128); });
    holds_with("tile_sum<128>", false, [](auto& o) { o.share = spla::sharing::tile_sum(128, 4); });
    holds_with("summaries in int8", true, [](auto& o) { o.storage = spla::summary_storage::int8; });
    holds_with("the paper's metric", true, [](auto& o) { o.kept_keys = 0; });
    holds_with("two kept keys", false, [](auto& o) { o.kept_keys = 2; });
    holds_with("two sub-blocks", false, [](auto& o) { o.sub_blocks = 2; });
    holds_with("top_p", true, [](auto& o) { o.top_p = 0.6; });
    holds_with("top_p of everything", true, [](auto& o) { o.top_p = 0.9, o.top_k = 40; });
    holds_with("everything", true, [](auto& o) { o.top_k = 40; });
    holds_with("nothing", true, [](auto& o) { o.top_k = 0; });
    holds_with("windows", true, [](auto& o) { o.sink_blocks = 3, o.local_blocks = 0; });
    holds_with("small blocks", true, [](auto& o) { o.block = 16; });
}

TEMPLATE_LIST_TEST_CASE("blocks whose scores are not finite rank last for decoded tokens",
                        "[serving][decode_selection]", host_and_device)
{
    auto o = block_options();
    o.combine = spla::combination_kind::sparse_only; // no state that the keys would reach
    // One query head: what leaves the normaliser changes no order.
    auto const d = problems<TestType>(2, 2, 64, false);
    auto const clean = ragged_batch<TestType, spla::bfloat16>(d, o, cache_layout::slots).run();
    auto const infinity = std::numeric_limits<float>::infinity();
    for (float const with : {std::numeric_limits<float>::quiet_NaN(), infinity, -infinity})
    {
        auto spoiled = problems<TestType>(2, 2, 64, false);
        for (std::size_t b = 0; b < spoiled.size(); ++b)
        {
            if (spoiled[b].size.queries == 0 || spoiled[b].size.keys < 640) continue;
            auto const key = on_host(spoiled[b].key);
            for (int const head : {0, 1})
            {
                // One that was not selected is not selected now.
                auto const chosen = clean[b].chosen(0)[0][head];
                int next = o.sink_blocks;
                while (std::binary_search(chosen.begin(), chosen.end(), next)) ++next;
                key(0, 64 * next + 7, head, 3) = narrow<spla::bfloat16>(with);
            }
            from_host(key, spoiled[b].key);
        }
        auto const r = ragged_batch<TestType, spla::bfloat16>(spoiled, o, cache_layout::slots).run();
        INFO("a key is " << with);
        for (std::size_t b = 0; b < d.size(); ++b) CHECK(r[b].chosen(0) == clean[b].chosen(0));
    }
}

TEMPLATE_LIST_TEST_CASE("a sequence's decoded lists are the same alone, in any layout, and repeated",
                        "[serving][decode_selection][invariants]", host_and_device)
{
    auto const d = problems<TestType>(8, 2, 64, true);
    auto const together = ragged_batch<TestType, spla::bfloat16>(d, block_options(), cache_layout::pages).run();
    for (auto const layout : {cache_layout::slots, cache_layout::pages, cache_layout::packed})
    {
        auto const again = ragged_batch<TestType, spla::bfloat16>(d, block_options(), layout).run();
        for (std::size_t b = 0; b < d.size(); ++b)
        {
            INFO("layout " << static_cast<int>(layout) << ", sequence " << b);
            CHECK(same_lists<TestType>(together[b], again[b]));
            std::vector<data<TestType, spla::bfloat16>> const one{d[b]};
            ragged_batch<TestType, spla::bfloat16> alone(one, block_options(), layout);
            CHECK(same_lists<TestType>(together[b], alone.run()[0]));
        }
    }
}

#if defined(SPLA_TEST_HAS_DEVICE)
TEST_CASE("lists of decoded tokens of long sequences", "[serving][decode_selection]")
{
    std::vector<data<device, spla::bfloat16>> d;
    unsigned seed = 120;
    for (auto const& [queries, keys] : {std::pair{1, 100003}, {1, 33000}, {3, 20010}, {0, 1}, {1, 700}})
        d.emplace_back(shape{1, queries, keys, 8, 2, 64, 64}, ++seed);
    auto o = block_options();
    o.top_k = 54;
    for (auto const layout : {cache_layout::slots, cache_layout::pages}) holds(d, o, layout);
    o.storage = spla::summary_storage::int8;
    holds(d, o, cache_layout::pages);
}
#endif
