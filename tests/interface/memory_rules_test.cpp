// SPDX-FileCopyrightText: The spla authors
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
// Rules on where views lie: memory that is written is apart from all else, and what a state was made from stays the
// same.
#include "rules.hpp"

using namespace spla_test;

namespace
{
using a = arguments;
using view = Kokkos::View<float****, Kokkos::LayoutRight, a::space>;
auto const value_rule = rule_kind::value;
auto const shape_rule = rule_kind::shape;
auto const state_rule = rule_kind::state;

rule overlaps(std::string const& written, std::string const& other)
{
    return {value_rule, written, "memory that overlaps " + other, "memory apart from " + other};
}
rule without_memory(std::string const& argument)
{
    return {shape_rule, argument, "a view without memory", "a view of allocated memory"};
}
Kokkos::View<float****, Kokkos::LayoutRight, a::space> nowhere(int tokens, int heads, int dim)
{
    return {static_cast<float*>(nullptr), 2, static_cast<std::size_t>(tokens), static_cast<std::size_t>(heads),
            static_cast<std::size_t>(dim)};
}

/// Rules of prefill and of decode.
std::vector<row> shared_rows()
{
    return {
        {[](a& x) { x.output = view(x.key.data(), 2, 40, 4, 12); }, overlaps("output", "key")},
        {[](a& x) { x.output = view(x.value.data(), 2, 40, 4, 12); }, overlaps("output", "value")},
        {[](a& x) {
             auto const all = a::filled(80, 4, 12);
             x.output = tokens(all, 0, 40);
             x.query = Kokkos::subview(all, Kokkos::ALL, range(39, 79), Kokkos::ALL, range(4, 12));
         },
         overlaps("output", "query")},
        {[](a& x) { x.extras.return_branches(x.sparse, x.sparse); },
         overlaps("extras.return_branches sparse", "extras.return_branches residual")},
        {[](a& x) { x.extras.return_branches(x.sparse, x.output); },
         overlaps("output", "extras.return_branches residual")},
        {[](a& x) { x.extras.return_branches(x.sparse, view(x.value.data(), 2, 40, 4, 12)); },
         overlaps("extras.return_branches residual", "value")},
        {[](a& x) {
             auto const all = a::filled(80, 4, 12);
             x.output = tokens(all, 0, 40);
             x.extras.residual_inputs(Kokkos::subview(all, Kokkos::ALL, range(20, 60), Kokkos::ALL, range(0, 8)),
                                      x.key);
         },
         overlaps("output", "residual_query")},
        {[](a& x) {
             x.extras.return_lse(Kokkos::View<float***, Kokkos::LayoutRight, a::space>(x.query.data(), 2, 40, 4));
         },
         overlaps("extras.return_lse", "query")},
        {[](a& x) {
             x.lists.lengths = Kokkos::View<int***, Kokkos::LayoutRight, a::space>(x.lists.indices.data(), 2, 40, 2);
             x.extras.return_lists(x.lists);
         },
         overlaps("extras.return_lists", "extras.return_lists lengths")},
        {[](a& x) { x.scratch = x.state.buffer(); }, overlaps("state.buffer()", "workspace")},
        {[](a& x) { x.output = view(reinterpret_cast<float*>(x.state.buffer().data()), 2, 40, 4, 12); },
         overlaps("output", "state.buffer()")},
        {[](a& x) { x.query = nowhere(40, 4, 8); }, without_memory("query")},
        {[](a& x) { x.value = nowhere(200, 2, 12); }, without_memory("value")},
        {[](a& x) { x.output = nowhere(40, 4, 12); }, without_memory("output")},
        {[](a& x) { x.extras.residual_inputs(nowhere(40, 4, 8), x.key); }, without_memory("residual_query")},
        // The state's residual branch has the exact branch's keys.
        {[](a& x) { x.extras.residual_inputs(a::filled(40, 4, 8), a::filled(200, 2, 8)); },
         {state_rule, "extras.residual_inputs", "given", "absent: the state was made from the exact branch's keys"}},
        {[](a& x) { x.state.residual_keys = true; },
         {state_rule, "extras.residual_inputs", "absent",
          "given: the state was made from the residual branch's own keys"}},
    };
}
} // namespace

TEST_CASE("memory rules of prefill", "[check][rules]")
{
    hold_table(prefill_call(), shared_rows());
}

TEST_CASE("memory rules of decode", "[check][rules]")
{
    hold_table(decode_call(), shared_rows(), a::appended);
}

TEST_CASE("memory rules of append", "[check][rules]")
{
    std::vector<row> const rows{
        {[](a& x) { x.new_key = tokens(x.key, 155, 165); }, overlaps("key", "new_key")},
        {[](a& x) { x.new_value = tokens(x.value, 100, 110); }, overlaps("value", "new_value")},
        // At the right address, but with other strides.
        {[](a& x) { x.new_key = view(&x.key(0, 160, 0, 0), 2, 10, 2, 8); }, overlaps("key", "new_key")},
        {[](a& x) { x.key = view(x.value.data(), 2, 200, 2, 8); }, overlaps("key", "value")},
        {[](a& x) { x.new_key = nowhere(10, 2, 8); }, without_memory("new_key")},
        {[](a& x) { x.extras.residual_keys(a::filled(200, 2, 8)); },
         {state_rule, "extras.residual_inputs", "given", "absent: the state was made from the exact branch's keys"}},
    };
    hold_table(append_call(), rows);
    // What already lies in its place is not copied, and is legal.
    a in_place;
    in_place.new_key = tokens(in_place.key, 160, 170), in_place.new_value = tokens(in_place.value, 160, 170);
    CHECK_NOTHROW(append_call().run(in_place));
    in_place.exec.fence();
}

TEST_CASE("memory rules of the stages", "[check][rules]")
{
    a x = a::with_lists();
    auto const combine = [&x] { return spla::check_combine(x.exec, x.sparse, x.residual, x.sparse, x.o, x.extras); };
    REQUIRE(combine());
    expect(*combine(), "combine", overlaps("output", "sparse"));

    x.extras.return_lse(x.lse);
    auto const residual = [&x] {
        return spla::check_residual_attention(x.exec, x.query, x.key, x.value, x.output, x.state, x.o, x.extras);
    };
    REQUIRE(residual());
    expect(*residual(), "residual_attention",
           {value_rule, "extras.return_lse", "given", "absent: of the exact branch alone"});
    auto const exact = [&x] {
        return spla::check_selected_attention(x.exec, x.query, x.key, x.value, x.output, x.o, x.extras);
    };
    CHECK_FALSE(exact());
    x.extras.return_branches(x.sparse, x.residual);
    REQUIRE(exact());
    expect(*exact(), "selected_attention",
           {value_rule, "extras.return_branches", "given", "absent: the stage returns its branch alone, in output"});
    x = a::with_lists();
    x.extras.return_lists(x.lists);
    REQUIRE(exact());
    expect(*exact(), "selected_attention", {value_rule, "extras.return_lists", "given", "absent: the lists are given"});

    x = a::appended();
    x.state.summary_end = 8;
    auto const found = spla::check_select(x.exec, x.query, x.key, x.state, x.lists, x.o);
    REQUIRE(found);
    expect(*found, "select",
           {state_rule, "state.summary_end", "8", "at least 10: blocks compete whose summaries were not made"});
}

TEST_CASE("memory that is woven, not shared, is legal", "[check][rules]")
{
    // Keys and values in one cache, head by head and token by token; both branches side by side.
    for (bool const by_head : {true, false})
    {
        a x;
        auto const cache = by_head ? a::filled(200, 2, 20) : a::filled(200, 1, 40);
        if (by_head)
        {
            x.key = Kokkos::subview(cache, Kokkos::ALL, Kokkos::ALL, Kokkos::ALL, range(0, 8));
            x.value = Kokkos::subview(cache, Kokkos::ALL, Kokkos::ALL, Kokkos::ALL, range(8, 20));
        }
        else
        {
            using strided = Kokkos::View<float****, Kokkos::LayoutStride, a::space>;
            x.key = strided(cache.data(), Kokkos::LayoutStride(2, 8000, 200, 40, 2, 8, 8, 1));
            x.value = strided(cache.data() + 16, Kokkos::LayoutStride(2, 8000, 200, 40, 2, 12, 12, 1));
        }
        auto const both = a::filled(40, 4, 24);
        x.extras.return_branches(Kokkos::subview(both, Kokkos::ALL, Kokkos::ALL, Kokkos::ALL, range(0, 12)),
                                 Kokkos::subview(both, Kokkos::ALL, Kokkos::ALL, Kokkos::ALL, range(12, 24)));
        CHECK_FALSE(a::call::check_append(x.exec, x.new_key, x.new_value, x.key, x.value, x.state, x.o, {}));
        CHECK_FALSE(
            a::call::check_prefill(x.exec, x.query, x.key, x.value, x.output, x.state, x.o, x.scratch, x.extras));
        // One number further and they touch.
        x.extras.return_branches(Kokkos::subview(both, Kokkos::ALL, Kokkos::ALL, Kokkos::ALL, range(0, 12)),
                                 Kokkos::subview(both, Kokkos::ALL, Kokkos::ALL, Kokkos::ALL, range(11, 23)));
        CHECK(a::call::check_prefill(x.exec, x.query, x.key, x.value, x.output, x.state, x.o, x.scratch, x.extras));
    }
}
