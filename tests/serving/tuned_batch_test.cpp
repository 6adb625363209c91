// SPDX-FileCopyrightText: The spla authors
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
// Steps of sizes that matrix units take (blocks of 64, 16-bit numbers): prompts and chunks beside decoded tokens, in
// every cache layout, against the definition. Hosts are held to the same.
#include "../catch.hpp"
#include "ragged.hpp"

using namespace spla_test;

namespace
{
constexpr cache_layout layouts[] = {cache_layout::slots, cache_layout::pages, cache_layout::packed};

/// A whole prompt, late chunks, decoded tokens, padding, a short prompt. What comes before the queries ends with a tile
/// of 128, so that no earlier query decides for them.
template <class Exec, class Element>
std::vector<data<Exec, Element>> problems(int query_heads, int key_heads, int dim, int value_dim, int residual_dim = 0)
{
    std::vector<data<Exec, Element>> all;
    unsigned seed = 70;
    for (auto const& [queries, keys] :
         {std::pair{200, 200}, {150, 662}, {1, 641}, {8, 264}, {70, 198}, {0, 64}, {129, 513}, {9, 9}, {3, 3}})
        all.emplace_back(shape{1, queries, keys, query_heads, key_heads, dim, value_dim, residual_dim}, ++seed);
    return all;
}

template <class Exec, class Element>
void holds(std::vector<data<Exec, Element>> const& d, spla::options<> const& o, cache_layout layout,
           spla::batch_limits const& least = {})
{
    ragged_batch<Exec, Element> batch(d, o, layout, least);
    auto const r = batch.run();
    verdict v;
    for (std::size_t b = 0; b < d.size(); ++b)
    {
        auto lost = rounding_of(d[b], o);
        // How far a sum is carried follows from the step's limits.
        lost.state += 0x1p-23 * batch.plan().carried_tiles * (o.top_k + 4) * 4;
        hold_selection(v, d[b], r[b], o, lost);
        hold_arithmetic(v, d[b], r[b], o, lost);
    }
    INFO("layout " << static_cast<int>(layout) << ": " << batch.plan() << "\n" << v.text());
    // Prompts get the kernels that prefill() gets.
    CHECK(batch.plan().exact.matrix_units == spla::plan_prefill(Exec(), d[0].problem(), o).exact.matrix_units);
    CHECK(v.passed());
    CHECK(v.lse.compared > 0);
}

template <class Exec, class Element>
bool same_results(results<Exec, Element> const& a, results<Exec, Element> const& b)
{
    return same_bits(on_host(a.output), on_host(b.output)) && same_bits(on_host(a.lse), on_host(b.lse)) &&
           a.chosen(0) == b.chosen(0);
}
} // namespace

TEMPLATE_LIST_TEST_CASE("a step by blocks of 64, in every layout", "[serving][tuned_batch]", host_and_device)
{
    for (auto const layout : layouts)
    {
        holds(problems<TestType, spla::bfloat16>(8, 2, 64, 64), block_options(2), layout);
        holds(problems<TestType, spla::bfloat16>(6, 2, 128, 96), block_options(2), layout);
    }
}

TEMPLATE_LIST_TEST_CASE("a step by blocks of 64: options", "[serving][tuned_batch]", host_and_device)
{
    auto const d = problems<TestType, spla::bfloat16>(8, 2, 64, 64);
    auto const holds_with = [&](char const* what, auto const& change) {
        auto o = block_options(2);
        change(o);
        INFO(what);
        holds(d, o, cache_layout::pages);
    };
    holds_with("first_query<32>", [](auto& o) { o.share = spla::sharing::first_query(32); });
    holds_with("first_query<128>", [](auto& o) { o.share = spla::sharing::first_query(128); });
    holds_with("tile_sum<128>", [](auto& o) { o.share = spla::sharing::tile_sum(128, 4); });
    holds_with("normalised", [](auto& o) { o.normalised = true, o.combine = spla::combination_kind::sum; });
    holds_with("separate", [](auto& o) { o.combine = spla::combination_kind::separate; });
    holds_with("the exact branch alone", [](auto& o) { o.combine = spla::combination_kind::sparse_only; });
    holds_with("summaries in int8", [](auto& o) { o.storage = spla::summary_storage::int8; });
    holds_with("sub-blocks, sinks", [](auto& o) { o.sub_blocks = 2, o.sink_blocks = 1, o.local_blocks = 2; });
    holds_with("top_p", [](auto& o) { o.top_k = 4, o.top_p = 0.7; });
    holds_with("everything selected", [](auto& o) { o.top_k = 40; });
}

TEMPLATE_LIST_TEST_CASE("a step by blocks of 64 with residual inputs, and in fp16", "[serving][tuned_batch]",
                        host_and_device)
{
    for (auto const layout : layouts)
    {
        holds(problems<TestType, spla::bfloat16>(4, 1, 128, 64, 64), block_options(2), layout);
        auto o = block_options(2);
        holds(problems<TestType, spla::float16>(4, 1, 64, 64), o, layout);
        o.combine = spla::combination_kind::sparse_only;
        holds(problems<TestType, spla::float16>(4, 1, 192, 128), o, layout);
    }
}

TEMPLATE_LIST_TEST_CASE("a step by blocks of 64 with a caller's lists", "[serving][tuned_batch]", host_and_device)
{
    auto const d = problems<TestType, spla::bfloat16>(8, 2, 64, 64);
    auto other = block_options(2);
    other.top_k = 3, other.kept_keys = 0, other.scale = 0.05;
    std::vector<int_lists<typename TestType::memory_space>> given;
    for (auto const& r : ragged_batch<TestType, spla::bfloat16>(d, other, cache_layout::packed).run())
        given.push_back(r.lists);
    for (auto const layout : layouts)
    {
        auto const made = ragged_batch<TestType, spla::bfloat16>(d, block_options(2), layout).run_with(given);
        verdict v;
        for (std::size_t b = 0; b < d.size(); ++b) hold_arithmetic(v, d[b], made[b], block_options(2));
        INFO(v.text());
        CHECK(v.passed());
    }
}

TEMPLATE_LIST_TEST_CASE("a step whose limits make long chains, or leave no room for some", "[serving][tuned_batch]",
                        host_and_device)
{
    auto const d = problems<TestType, spla::bfloat16>(8, 2, 64, 64);
    spla::batch_limits least;
    if (!spla::detail::runs_on_host<TestType>) least.keys = least.tokens = 1 << 15;
    holds(d, block_options(2), cache_layout::pages, least);
    auto shared = block_options(2);
    shared.share = spla::sharing::tile_sum(128, 4);
    holds(d, shared, cache_layout::slots, least);
    least = {};
    least.prefilled = 700; // the first prompt and no more
    holds(d, block_options(2), cache_layout::pages, least);
}

TEMPLATE_LIST_TEST_CASE("a sequence's step by blocks of 64 is the same alone, in any layout, and repeated",
                        "[serving][tuned_batch][invariants]", host_and_device)
{
    auto const d = problems<TestType, spla::bfloat16>(8, 2, 64, 64);
    spla::batch_limits least;
    least.keys = 1024, least.tokens = 4096, least.prefilled = 4096;
    auto const together = ragged_batch<TestType, spla::bfloat16>(d, block_options(2), cache_layout::pages, least).run();
    for (auto const layout : layouts)
    {
        auto const again = ragged_batch<TestType, spla::bfloat16>(d, block_options(2), layout, least).run();
        for (std::size_t b = 0; b < d.size(); ++b)
        {
            INFO("layout " << static_cast<int>(layout) << ", sequence " << b);
            CHECK(same_results(together[b], again[b]));
            std::vector<data<TestType, spla::bfloat16>> const one{d[b]};
            CHECK(same_results(together[b],
                               ragged_batch<TestType, spla::bfloat16>(one, block_options(2), layout, least).run()[0]));
        }
    }
}
