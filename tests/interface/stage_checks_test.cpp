// SPDX-FileCopyrightText: The spla authors
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
// Every stage's check returns what the stage throws. And segments of a prefill, which no result depends on.
#include "rules.hpp"

using namespace spla_test;

namespace
{
using a = arguments;
auto const shape_rule = rule_kind::shape;
auto const value_rule = rule_kind::value;
auto const state_rule = rule_kind::state;
auto const unsupported = rule_kind::unsupported;
std::string const contiguous = "a contiguous last dimension";
std::string const from_call = ", from this call's sizes and options";

/// Lists whose entries do not lie side by side.
spla::block_list<Kokkos::View<int****, Kokkos::LayoutLeft, a::space>,
                 Kokkos::View<int***, Kokkos::LayoutLeft, a::space>>
scattered_lists()
{
    return {{"indices", 2, 40, 2, 4}, {"lengths", 2, 40, 2}};
}
} // namespace

TEST_CASE("check_select", "[check][rules]")
{
    std::vector<row> const rows{
        {[](a& x) { x.o.top_p = 0.0; }, {value_rule, "top_p", "0", "above 0, at most 1 (1: off)"}},
        {[](a& x) { x.lists = unwritten_lists<a::space>(1, 40, 2, 4); }, {shape_rule, "lists batch", "1", "2"}},
        {[](a& x) { x.lists = unwritten_lists<a::space>(2, 39, 2, 4); },
         {shape_rule, "lists tiles", "39", "at least 40"}},
        {[](a& x) { x.lists = unwritten_lists<a::space>(2, 40, 3, 4); }, {shape_rule, "lists key heads", "3", "2"}},
        {[](a& x) { x.lists = unwritten_lists<a::space>(2, 40, 2, 3); },
         {shape_rule, "lists entries", "3", "at least top_k, 4"}},
        {[](a& x) { x.lists.lengths = unwritten_lists<a::space>(2, 39, 2, 4).lengths; },
         {shape_rule, "lists lengths", "[2, 39, 2]", "[2, at least 40, 2]"}},
        {[](a& x) {
             x.query = a::filled(40, 4, 8, 3), x.key = a::filled(200, 2, 8, 3);
             x.lists = unwritten_lists<a::space>(3, 40, 2, 4);
         },
         {state_rule, "state.layout().batch", "2", "3" + from_call}},
        {[](a& x) { x.o.local_blocks = 3; }, {state_rule, "state.layout().local_blocks", "2", "3" + from_call}},
        {[](a& x) { x.state = a::held(x.o, 160); },
         {state_rule, "state capacity in blocks", "10", "at least 12, the complete blocks of 200 keys"}},
    };
    hold_table(select_call(), rows, a::appended);
    a const x = a::appended();
    auto const found = spla::check_select(x.exec, x.query, x.key, x.state, scattered_lists(), x.o);
    REQUIRE(found);
    expect(*found, "select", {unsupported, "lists", "a view whose last stride is 160", contiguous});
}

TEST_CASE("check_block_statistics", "[check][rules]")
{
    std::string const complete = "complete blocks of key that the state has room for";
    std::int64_t const most = std::numeric_limits<std::int64_t>::max();
    std::vector<row> const rows{
        {[](a& x) { x.o.block = 0; }, {value_rule, "block", "0", "1 to 1024"}},
        {[](a& x) { x.o.kept_keys = 2; }, {state_rule, "state.layout().kept_keys", "1", "2" + from_call}},
        {[](a& x) { x.o.block = 32; }, {state_rule, "state.layout().block", "16", "32" + from_call}},
        {[](a& x) { x.state = a::call::state(x.state.layout(), a::call::state::buffer_type("short", 512)); },
         {state_rule, "state.buffer()", "512 bytes",
          "at least " + std::to_string(spla::state_layout_of(a::capacity(), small_options()).bytes)}},
        {[most](a& x) { x.first_block = most; },
         {shape_rule, "first + count", std::to_string(std::numeric_limits<std::int64_t>::min() + 1), complete}},
        {[](a& x) { x.first_block = 11; }, {shape_rule, "first + count", "13", complete}},
    };
    hold_table(block_statistics_call(), rows, a::appended);
}

namespace
{
std::vector<row> branch_rows()
{
    return {
        {[](a& x) { x.extras = {}; }, {value_rule, "extras.use_lists", "absent", "the lists of selected blocks"}},
        {[](a& x) { x.extras.use_lists(unwritten_lists<a::space>(1, 40, 2, 4)); },
         {shape_rule, "extras.use_lists batch", "1", "2"}},
        {[](a& x) { x.extras.use_lists(scattered_lists()); },
         {unsupported, "extras.use_lists", "a view whose last stride is 160", contiguous}},
        {[](a& x) { x.extras.residual_inputs(a::filled(39, 4, 8), a::filled(200, 2, 8)); },
         {shape_rule, "residual_query", "[2, 39, 4, 8]", "[2, 40, 4, 8]"}},
        {[](a& x) { x.query = Kokkos::subview(x.output, Kokkos::ALL, Kokkos::ALL, Kokkos::ALL, range(0, 8)); },
         {value_rule, "output", "memory that overlaps query", "memory apart from query"}},
    };
}
} // namespace

TEST_CASE("check_selected_attention", "[check][rules]")
{
    auto rows = branch_rows();
    rows.push_back(
        {[](a& x) { x.extras.return_lse(Kokkos::View<float***, Kokkos::LayoutRight, a::space>("lse", 2, 40, 3)); },
         {shape_rule, "extras.return_lse", "[2, 40, 3]", "[2, 40, 4]"}});
    hold_table(selected_attention_call(), rows, a::with_lists);
}

TEST_CASE("check_residual_attention", "[check][rules]")
{
    auto rows = branch_rows();
    rows.push_back(
        {[](a& x) {
             x.set_changed([](auto& o) { o.combine = spla::combination_kind::sparse_only; });
             x.o = small_options();
         },
         {state_rule, "state.layout().residual", "false", "true: a state that was not made for sparse_only"}});
    rows.push_back(
        {[](a& x) { x.set_changed([](auto& o) { o.combine = spla::combination_kind::sparse_only; }); },
         {state_rule, "state.layout().residual", "false", "true: a state that was not made for sparse_only"}});
    rows.push_back(
        {[](a& x) { x.o.sink_blocks = 0; }, {state_rule, "state.layout().sink_blocks", "1", "0" + from_call}});
    rows.push_back({[](a& x) { x.state.prefix_count = 0; },
                    {state_rule, "query.extent(1)", "40",
                     "queries no further back than the last append, whose prefix states the state holds"}});
    auto const residual = [](a& x) {
        a::call::residual_attention(x.exec, x.query, x.key, x.value, x.output, x.state, x.o, x.extras);
    };
    hold_table(residual_attention_call(), rows, a::with_lists);

    // It combines nothing: the same, whatever `combine` is.
    a with_sum = a::with_lists(), sparse_only = with_sum;
    sparse_only.output = a::filled(40, 4, 12);
    with_sum.o.combine = spla::combination_kind::sum, sparse_only.o.combine = spla::combination_kind::sparse_only;
    residual(with_sum), residual(sparse_only);
    with_sum.exec.fence();
    CHECK(same_bits(with_sum.output, sparse_only.output));
}

TEST_CASE("check_combine", "[check][rules]")
{
    using weights = Kokkos::View<float**, Kokkos::LayoutRight, a::space>;
    std::vector<row> const rows{
        {[](a& x) { x.o.epsilon = -1e-6; }, {value_rule, "epsilon", "-1e-06", "0 or more"}},
        {[](a& x) { x.o.combine = spla::combination_kind::separate; },
         {value_rule, "combine", "separate", "rms_sum, sum or sparse_only"}},
        {[](a& x) { x.extras.norm_weights(weights("w", 4, 11), weights("w", 4, 12)); },
         {shape_rule, "extras.norm_weights of_sparse", "[4, 11]", "[4, 12]"}},
        {[](a& x) { x.extras.norm_weights(weights("w", 4, 12), weights("w", 2, 12)); },
         {shape_rule, "extras.norm_weights of_residual", "[2, 12]", "[4, 12]"}},
    };
    hold_table(combine_call(), rows);
}

TEST_CASE("results do not depend on segment_tokens, queries before position 0 included", "[rules][segments]")
{
    auto o = small_options();
    o.block = 8, o.local_blocks = 1, o.top_k = 2; // a choice to make in the first segment too
    for (auto const share : {spla::sharing::tile_sum(16), spla::sharing::tile_sum(16, 4),
                             spla::sharing::first_query(16), spla::sharing::per_token()})
        for (int const queries : {190, 180, 400})
        {
            o.share = share;
            data<host> const d({1, queries, 180, 4, 2, 16, 16}, 21);
            INFO(spla::name(share.kind) << " of " << queries << " queries");
            o.segment_tokens = 256;
            auto const whole = run_prefill(d, o);
            for (int const segment : {64, 72, 16})
            {
                o.segment_tokens = segment;
                auto const parts = run_prefill(d, o);
                CHECK(same_bits(on_host(whole.lists), on_host(parts.lists)));
                CHECK(same_bits(whole.output, parts.output));
                CHECK(same_bits(whole.residual, parts.residual));
                CHECK(same_bits(whole.lse, parts.lse));
            }
        }
}
