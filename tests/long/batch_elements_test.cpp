// SPDX-FileCopyrightText: The spla authors
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
// Steps of an engine in every element type, against the definition.
#include "../catch.hpp"
#include "serving/ragged.hpp"

using namespace spla_test;

namespace
{
template <class Exec, class Element>
void conforms()
{
    std::vector<data<Exec, Element>> d;
    unsigned seed = 70;
    for (auto const& [queries, keys] : {std::pair{96, 96}, {72, 200}, {1, 321}, {6, 230}, {0, 64}})
        d.emplace_back(shape{1, queries, keys, 4, 2, 24, 16}, ++seed);
    for (auto const layout : {cache_layout::slots, cache_layout::pages, cache_layout::packed})
    {
        auto o = small_options();
        o.local_blocks = layout == cache_layout::slots ? 12 : 2; // decoded tokens in several runs
        auto const r = ragged_batch<Exec, Element>(d, o, layout).run();
        verdict v;
        for (std::size_t b = 0; b < d.size(); ++b)
        {
            hold_selection(v, d[b], r[b], o);
            hold_arithmetic(v, d[b], r[b], o);
        }
        INFO(spla::name(spla::kind_of<Element>()) << ", layout " << static_cast<int>(layout) << '\n' << v.text());
        CHECK(v.passed());
        CHECK(v.lse.compared > 0);
    }
}
} // namespace

TEMPLATE_LIST_TEST_CASE("steps of an engine in fp64, bf16 and fp16", "[.full][serving]", host_and_device)
{
    conforms<TestType, double>();
    conforms<TestType, spla::bfloat16>();
    conforms<TestType, spla::float16>();
}
