// SPDX-FileCopyrightText: The spla authors
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
// The comparison on trial: every kind of wrong result that a kernel might return must fail it.
#include "catch.hpp"
#include "conformance.hpp"

using namespace spla_test;
using exec_space = Kokkos::DefaultHostExecutionSpace;

namespace
{
template <class View, class F>
void spoil(View const& v, F const& f)
{
    for (std::size_t i = 0; i < v.size(); ++i) v.data()[i] = f(v.data()[i], i);
}
} // namespace

TEST_CASE("spoiled results fail the comparison", "[oracle]")
{
    spla::options<> o;
    o.block = 16, o.local_blocks = 2, o.top_k = 4, o.segment_tokens = 128;
    data<exec_space, float> const d({1, 260, 260, 4, 2, 16, 16}, 11);
    auto const good = run_prefill<exec_space>(d, o);
    REQUIRE(hold(d, good, o).passed());
    auto const fresh = [&] {
        results<exec_space, float> r(d.size, o);
        Kokkos::deep_copy(r.output, good.output), Kokkos::deep_copy(r.sparse, good.sparse), Kokkos::deep_copy(r.residual, good.residual);
        Kokkos::deep_copy(r.lse, good.lse), Kokkos::deep_copy(r.lists.indices, good.lists.indices);
        Kokkos::deep_copy(r.lists.lengths, good.lists.lengths);
        return r;
    };
    SECTION("scale off by one per cent")
    {
        auto spoiled = o;
        spoiled.scale = 1.01 / 4.0;
        CHECK_FALSE(hold(d, run_prefill<exec_space>(d, spoiled), o).passed());
    }
    SECTION("one NaN")
    {
        auto const r = fresh();
        r.output(0, 200, 1, 3) = std::nanf("");
        CHECK_FALSE(hold(d, r, o).passed());
    }
    SECTION("log-sum-exp in base 2")
    {
        auto const r = fresh();
        spoil(r.lse, [](float x, std::size_t) { return x * 1.44269504f; });
        CHECK_FALSE(hold(d, r, o).passed());
    }
    SECTION("residual added twice")
    {
        auto const r = fresh();
        spoil(r.residual, [](float x, std::size_t) { return 2 * x; });
        CHECK_FALSE(hold(d, r, o).passed());
    }
    SECTION("outputs off by one per cent")
    {
        auto const r = fresh();
        spoil(r.output, [](float x, std::size_t) { return 1.01f * x; });
        CHECK_FALSE(hold(d, r, o).passed());
    }
    SECTION("one selected block dropped")
    {
        // The branches are computed without the first entry of a list that is reported whole.
        auto const lists = fresh().lists;
        Kokkos::deep_copy(Kokkos::subview(lists.indices, 0, 250, 0, 0), -1);
        exec_space const exec;
        auto const r = fresh();
        spla::attention_extras<float> e;
        e.use_lists(lists).return_lse(r.lse);
        spla::selected_attention(exec, d.query, d.key, d.value, r.sparse, o, e);
        exec.fence();
        CHECK_FALSE(hold(d, r, o).passed());
    }
    SECTION("another block selected")
    {
        auto const r = fresh();
        int changed = 0;
        for (int t = 150; t < 260 && !changed; ++t) // the best competing block of a list replaced by the worst
        {
            auto const truth = spla::reference::select(d.sequence(0), o, spla::summary_storage::fp32, 0x1p-24);
            auto const& mass = truth.mass[t][0];
            int const worst = truth.first[t] + static_cast<int>(std::min_element(mass.begin(), mass.end()) - mass.begin());
            std::vector<int> list = truth.chosen[t][0];
            if (std::binary_search(list.begin(), list.end(), worst)) continue;
            list[0] = worst;
            std::sort(list.begin(), list.end());
            for (int i = 0; i < 4; ++i) r.lists.indices(0, t, 0, i) = list[i];
            ++changed;
        }
        REQUIRE(changed == 1);
        CHECK(hold(d, r, o).wrong_lists == 1);
    }
}
