// SPDX-FileCopyrightText: The spla authors
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
// Both branches of decoded tokens against the definition: sequences of few new tokens and any length in one step, in
// sizes that a kernel of their own takes. Hosts are held to the same.
#include "../catch.hpp"
#include "ragged.hpp"

#include <limits>

using namespace spla_test;

namespace
{
/// One new token or a few, of sequences that are empty, within their window, at a block's border, long. What comes
/// before the queries ends with a tile of 128 where it matters who decides for them.
template <class Exec, class Element = spla::bfloat16>
std::vector<data<Exec, Element>> problems(int query_heads, int key_heads, int dim, int value_dim, bool several,
                                          int residual_dim = 0)
{
    std::vector<data<Exec, Element>> all;
    unsigned seed = 40;
    using sizes = std::vector<std::pair<int, int>>;
    for (auto const& [queries, keys] :
         several ? sizes{{3, 3}, {8, 1288}, {0, 64}, {2, 66}, {5, 645}, {8, 8}, {4, 1028}, {6, 134}}
                 : sizes{{1, 1}, {1, 641}, {0, 64}, {1, 65}, {1, 129}, {1, 1409}, {0, 1}, {1, 1025}})
        all.emplace_back(shape{1, queries, keys, query_heads, key_heads, dim, value_dim, residual_dim}, ++seed);
    return all;
}

template <class Exec, class Element>
void holds(std::vector<data<Exec, Element>> const& d, spla::options<> const& o, cache_layout layout,
           bool has_kernel = true)
{
    ragged_batch<Exec, Element> batch(d, o, layout);
    auto const r = batch.run();
    verdict v;
    for (std::size_t b = 0; b < d.size(); ++b)
    {
        hold_selection(v, d[b], r[b], o, rounding_of(d[b], o));
        hold_arithmetic(v, d[b], r[b], o, rounding_of(d[b], o));
    }
    INFO("layout " << static_cast<int>(layout) << ": " << batch.step_plan() << "\n" << v.text());
    auto const usual = problems<Exec>(2, 2, 64, 64, false);
    bool const hopper = spla::plan_prefill(Exec(), usual[0].problem(), block_options()).exact.matrix_units;
    CHECK(batch.step_plan().decode_attention.matrix_units == (hopper && has_kernel));
    CHECK(v.passed());
    CHECK(v.lse.compared > 0);
}

/// Room for all that comes before, so that the same kernels make the states of a batch and of one sequence alone.
template <class Exec>
spla::batch_limits room_for(std::vector<data<Exec, spla::bfloat16>> const& d)
{
    spla::batch_limits least;
    for (auto const& one : d)
    {
        least.keys = std::max<std::int64_t>(least.keys, one.size.keys + 128);
        least.prefilled += one.size.keys + 128;
    }
    least.tokens = least.prefilled;
    return least;
}

template <class Exec>
bool same_results(results<Exec, spla::bfloat16> const& a, results<Exec, spla::bfloat16> const& b)
{
    return same_bits(on_host(a.output), on_host(b.output)) && same_bits(on_host(a.lse), on_host(b.lse));
}
} // namespace

TEMPLATE_LIST_TEST_CASE("both branches of decoded tokens, of any group and width", "[serving][decode_attention]",
                        host_and_device)
{
    for (bool const several : {false, true})
        for (auto const& [query_heads, key_heads, dim, value_dim] : {std::tuple{2, 2, 64, 64},
                                                                     {6, 2, 128, 96},
                                                                     {8, 2, 64, 128},
                                                                     {8, 2, 128, 128},
                                                                     {7, 1, 96, 80},
                                                                     {16, 1, 128, 128},
                                                                     {40, 1, 64, 64},
                                                                     {64, 1, 32, 24}})
        {
            INFO(query_heads << " / " << key_heads << " heads of " << dim << ", " << value_dim);
            holds(problems<TestType>(query_heads, key_heads, dim, value_dim, several), block_options(),
                  several ? cache_layout::pages : cache_layout::slots);
        }
}

TEMPLATE_LIST_TEST_CASE("both branches of decoded tokens: options", "[serving][decode_attention]", host_and_device)
{
    auto const d = problems<TestType>(8, 2, 64, 64, true);
    auto const holds_with = [&](char const* what, bool has_kernel, auto const& change) {
        auto o = block_options();
        change(o);
        INFO(what);
        holds(d, o, cache_layout::packed, has_kernel);
    };
    using spla::combination_kind;
    holds_with("sum", true, [](auto& o) { o.combine = combination_kind::sum; });
    holds_with("separate", true, [](auto& o) { o.combine = combination_kind::separate; });
    holds_with("the exact branch alone", true, [](auto& o) { o.combine = combination_kind::sparse_only; });
    holds_with("normalised", false, [](auto& o) { o.normalised = true, o.combine = combination_kind::sum; });
    holds_with("first_query<2>", true, [](auto& o) { o.share = spla::sharing::first_query(2); });
    holds_with("first_query<128>", true, [](auto& o) { o.share = spla::sharing::first_query(128); });
    holds_with("summaries in int8", true, [](auto& o) { o.storage = spla::summary_storage::int8; });
    holds_with("a window of everything", true, [](auto& o) { o.local_blocks = std::numeric_limits<int>::max(); });
    holds_with("windows", true, [](auto& o) { o.sink_blocks = 3, o.local_blocks = 0; });
    holds_with("most of what competes", true, [](auto& o) { o.top_k = 12; });
    holds_with("everything", true, [](auto& o) { o.top_k = 40; });
    holds_with("nothing", true, [](auto& o) { o.top_k = 0; });
    holds_with("small blocks", false, [](auto& o) { o.block = 16; });
}

TEMPLATE_LIST_TEST_CASE("both branches of decoded tokens with residual inputs, and in fp16",
                        "[serving][decode_attention]", host_and_device)
{
    holds(problems<TestType>(4, 1, 128, 64, true, 64), block_options(), cache_layout::pages, false);
    holds(problems<TestType, spla::float16>(4, 1, 64, 64, true), block_options(), cache_layout::slots, false);
}

TEMPLATE_LIST_TEST_CASE("blocks that enter the state between a step's decoded tokens", "[serving][decode_attention]",
                        host_and_device)
{
    // The first tokens of most sequences read a state that the last ones' is not any more.
    std::vector<data<TestType, spla::bfloat16>> d;
    unsigned seed = 90;
    for (auto const& [queries, keys] :
         std::vector<std::pair<int, int>>{{8, 1284}, {1, 700}, {5, 642}, {4, 1026}, {6, 131}, {2, 65}, {8, 709}})
        d.emplace_back(shape{1, queries, keys, 8, 2, 64, 64}, ++seed);
    holds(d, block_options(), cache_layout::slots);
    holds(d, block_options(), cache_layout::pages);
}

TEMPLATE_LIST_TEST_CASE("a decoded sequence's rows are the same alone, in any layout, and repeated",
                        "[serving][decode_attention][invariants]", host_and_device)
{
    auto const d = problems<TestType>(8, 2, 64, 64, true);
    auto const limits = room_for<TestType>(d);
    auto const together = ragged_batch<TestType, spla::bfloat16>(d, block_options(), cache_layout::pages, limits).run();
    for (auto const layout : {cache_layout::slots, cache_layout::pages, cache_layout::packed})
    {
        auto const again = ragged_batch<TestType, spla::bfloat16>(d, block_options(), layout, limits).run();
        for (std::size_t b = 0; b < d.size(); ++b)
        {
            INFO("layout " << static_cast<int>(layout) << ", sequence " << b);
            CHECK(same_results<TestType>(together[b], again[b]));
            std::vector<data<TestType, spla::bfloat16>> const one{d[b]};
            ragged_batch<TestType, spla::bfloat16> alone(one, block_options(), layout, limits);
            CHECK(same_results<TestType>(together[b], alone.run()[0]));
        }
    }
}

TEMPLATE_LIST_TEST_CASE("a step that puts its tokens into the cache is the step that finds them there",
                        "[serving][decode_attention][invariants]", host_and_device)
{
    for (bool const several : {false, true})
        for (bool const decodes_alone : {false, true})
        {
            auto d = problems<TestType>(4, 2, 64, 64, several);
            // One that is prefilled beside them; else all are decoded, and blocks close and enter the state.
            if (!decodes_alone) d.emplace_back(shape{1, 90, 700, 4, 2, 64, 64}, 77);
            d.emplace_back(shape{1, 1, 640, 4, 2, 64, 64}, 78);
            auto const layout = several ? cache_layout::pages : cache_layout::slots;
            INFO("several " << several << ", alone " << decodes_alone);
            using batch = ragged_batch<TestType, spla::bfloat16>;
            auto const found = batch(d, block_options(), layout, room_for<TestType>(d)).run();
            batch writing(d, block_options(), layout, room_for<TestType>(d), true);
            auto const written = writing.run();
            for (std::size_t b = 0; b < d.size(); ++b) CHECK(same_results<TestType>(found[b], written[b]));
        }
}

TEMPLATE_LIST_TEST_CASE("tokens decoded one after another are those of a step of them all",
                        "[serving][decode_attention][invariants]", host_and_device)
{
    constexpr bool of_host = Kokkos::SpaceAccessibility<Kokkos::HostSpace, typename TestType::memory_space>::accessible;
    int const steps = of_host ? 70 : 256; // blocks close, and enter the state
    std::vector<data<TestType, spla::bfloat16>> d;
    d.emplace_back(shape{1, steps, 700 + steps, 4, 2, 64, 64}, 61);
    d.emplace_back(shape{1, steps - 5, 60 + steps, 4, 2, 64, 64}, 62);
    auto const o = block_options();
    ragged_batch<TestType, spla::bfloat16> batch(d, o, cache_layout::pages, room_for<TestType>(d));
    auto const together = batch.run(), one_by_one = batch.run_by_tokens();
    for (std::size_t b = 0; b < d.size(); ++b)
    {
        verdict whole, steps_of_one;
        for (auto const& [v, r] : {std::pair{&whole, &together[b]}, std::pair{&steps_of_one, &one_by_one[b]}})
        {
            hold_selection(*v, d[b], *r, o, rounding_of(d[b], o));
            hold_arithmetic(*v, d[b], *r, o, rounding_of(d[b], o));
        }
        int differing = 0;
        auto const x = on_host(together[b].lists), y = on_host(one_by_one[b].lists);
        for (std::size_t t = 0; t < x.indices.extent(1); ++t)
            for (std::size_t h = 0; h < x.indices.extent(2); ++h)
                for (std::size_t i = 0; i < x.indices.extent(3); ++i)
                    if (x.indices(0, t, h, i) != y.indices(0, t, h, i))
                    {
                        ++differing;
                        break;
                    }
        INFO("sequence " << b << ": " << differing << " lists differ\n" << whole.text() << "\n" << steps_of_one.text());
        CHECK(whole.passed());
        CHECK(steps_of_one.passed());
        CHECK(differing <= whole.near_ties + steps_of_one.near_ties + whole.rounding_ties + steps_of_one.rounding_ties);
    }
}

TEMPLATE_LIST_TEST_CASE("a thousand steps of decoded tokens give the same bits",
                        "[.full][serving][decode_attention][invariants]", host_and_device)
{
    constexpr bool of_host = Kokkos::SpaceAccessibility<Kokkos::HostSpace, typename TestType::memory_space>::accessible;
    auto const d = problems<TestType>(8, 2, 128, 128, false);
    ragged_batch<TestType, spla::bfloat16> batch(d, block_options(), cache_layout::pages, room_for<TestType>(d));
    auto const first = batch.run();
    int changed = 0;
    for (int i = 0; i < (of_host ? 3 : 1000); ++i)
    {
        auto const again = batch.run();
        for (std::size_t b = 0; b < d.size(); ++b) changed += same_results<TestType>(first[b], again[b]) ? 0 : 1;
    }
    CHECK(changed == 0);
}

#if defined(SPLA_TEST_HAS_DEVICE)
TEST_CASE("rows of many decoded sequences are those of each alone", "[serving][decode_attention][invariants]")
{
    // More runs than a device takes at a time: neighbouring ones are then taken together.
    std::vector<data<device, spla::bfloat16>> d;
    for (unsigned b = 0; b < 96; ++b)
        d.emplace_back(shape{1, 1, 1409 - 3 * static_cast<int>(b), 16, 8, 32, 32}, 200 + b);
    auto o = block_options();
    o.top_k = 16; // of up to 20 that compete
    auto const limits = room_for<device>(d);
    auto const together = ragged_batch<device, spla::bfloat16>(d, o, cache_layout::slots, limits).run();
    for (std::size_t b = 0; b < d.size(); b += 5)
    {
        INFO("sequence " << b);
        std::vector<data<device, spla::bfloat16>> const one{d[b]};
        ragged_batch<device, spla::bfloat16> alone(one, o, cache_layout::slots, limits);
        CHECK(same_results<device>(together[b], alone.run()[0]));
    }
}
#endif
