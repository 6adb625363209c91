// SPDX-FileCopyrightText: The spla authors
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
// Every sequence of a ragged batch against the definition: all layouts, branches, lists, weights, residual inputs.
#include "../catch.hpp"
#include "ragged.hpp"

using namespace spla_test;

namespace
{
constexpr cache_layout layouts[] = {cache_layout::slots, cache_layout::pages, cache_layout::packed};

/// A whole prompt, a late chunk, a decode of several runs, a decode of six, a first token, and padding. What comes
/// before the queries ends with a tile of 32, so that no earlier query decides for them.
template <class Exec>
std::vector<data<Exec>> problems(int residual_dim = 0, bool weighted = false)
{
    std::vector<data<Exec>> all;
    unsigned seed = 40;
    for (auto const& [queries, keys] : {std::pair{96, 96}, {72, 200}, {1, 321}, {6, 230}, {1, 1}, {0, 64}, {3, 3}})
    {
        all.emplace_back(shape{1, queries, keys, 6, 2, 16, 12, residual_dim}, ++seed, false, weighted);
        all.back().sparse_weight = all[0].sparse_weight, all.back().residual_weight = all[0].residual_weight;
    }
    return all;
}

template <class Exec>
void hold_all(std::vector<data<Exec>> const& d, std::vector<results<Exec>> const& r, spla::options<> const& o,
              bool selected = true)
{
    verdict v;
    for (std::size_t b = 0; b < d.size(); ++b)
    {
        if (selected) hold_selection(v, d[b], r[b], o);
        hold_arithmetic(v, d[b], r[b], o);
    }
    INFO(v.text());
    CHECK(v.passed());
    CHECK(v.lse.compared > 0);
}

std::vector<spla::options<>> variants()
{
    std::vector<spla::options<>> all(6, small_options());
    all[1].share = spla::sharing::first_query(32);
    all[2].share = spla::sharing::tile_sum(8), all[2].storage = spla::summary_storage::bf16;
    all[3].normalised = true, all[3].combine = spla::combination_kind::sum;
    all[4].local_blocks = 12, all[4].top_k = 6, all[4].sub_blocks = 2;
    all[5].residual = spla::residual_mode::direct, all[5].may_read_unselected = true;
    return all;
}
} // namespace

TEMPLATE_LIST_TEST_CASE("a ragged batch, in every layout, against the definition", "[serving][conformance]", spaces)
{
    auto const d = problems<TestType>();
    int variant = 0;
    for (auto const& o : variants())
    {
        for (auto const layout : layouts)
        {
            INFO("variant " << variant << ", layout " << static_cast<int>(layout));
            hold_all(d, ragged_batch<TestType, float>(d, o, layout).run(), o);
        }
        ++variant;
    }
}

TEMPLATE_LIST_TEST_CASE("a ragged batch with residual inputs and weights of its own", "[serving][conformance]", spaces)
{
    auto const d = problems<TestType>(8, true);
    for (auto const layout : layouts)
    {
        INFO("layout " << static_cast<int>(layout));
        hold_all(d, ragged_batch<TestType, float>(d, small_options(), layout).run(), small_options());
    }
}

TEMPLATE_LIST_TEST_CASE("a ragged batch with a caller's lists", "[serving][conformance]", spaces)
{
    // Lists that this batch would not select: those of few entries, by the mean alone ... of other keys.
    auto const d = problems<TestType>();
    auto other = small_options();
    other.top_k = 3, other.kept_keys = 0, other.scale = 0.05;
    auto const selected = ragged_batch<TestType, float>(d, other, cache_layout::packed).run();
    std::vector<int_lists<typename TestType::memory_space>> given;
    for (auto const& r : selected) given.push_back(r.lists);
    auto const own = ragged_batch<TestType, float>(d, small_options(), cache_layout::pages).run();
    CHECK_FALSE(own[1].chosen(0) == selected[1].chosen(0));
    for (auto const layout : layouts)
    {
        INFO("layout " << static_cast<int>(layout));
        auto const made = ragged_batch<TestType, float>(d, small_options(), layout).run_with(given);
        CHECK(made[1].chosen(0) == selected[1].chosen(0));
        hold_all(d, made, small_options(), false);
    }
}

TEMPLATE_LIST_TEST_CASE("a ragged batch without a residual branch", "[serving][conformance]", spaces)
{
    auto const d = problems<TestType>();
    auto o = small_options();
    o.combine = spla::combination_kind::sparse_only;
    for (auto const layout : layouts) hold_all(d, ragged_batch<TestType, float>(d, o, layout).run(), o);
}
