// SPDX-FileCopyrightText: The spla authors
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
// Every rule of prefill() and decode() on their views, extras, state and workspace.
#include "rules.hpp"

using namespace spla_test;

namespace
{
auto const shape_rule = rule_kind::shape;
auto const value_rule = rule_kind::value;
auto const state_rule = rule_kind::state;
auto const unsupported = rule_kind::unsupported;
std::string const contiguous = "a contiguous last dimension";

using weights = Kokkos::View<float**, Kokkos::LayoutRight, arguments::space>;
using log_sums = Kokkos::View<float***, Kokkos::LayoutRight, arguments::space>;

/// Rules that both calls have.
std::vector<row> shared_rows()
{
    using a = arguments;
    return {
        {[](a& x) { x.o.top_k = -1; }, {value_rule, "top_k", "-1", "0 or more"}},
        {[](a& x) { x.query = a::filled(40, 3, 8); },
         {shape_rule, "query_heads", "3", "a multiple of the 2 key heads"}},
        {[](a& x) { x.query = a::scattered(40, 4, 8); },
         {unsupported, "query", "a view whose last stride is 320", contiguous}},
        {[](a& x) { x.key = a::scattered(200, 2, 8); },
         {unsupported, "key", "a view whose last stride is 800", contiguous}},
        {[](a& x) { x.value = a::scattered(200, 2, 12); },
         {unsupported, "value", "a view whose last stride is 800", contiguous}},
        {[](a& x) { x.output = a::scattered(40, 4, 12); },
         {unsupported, "output", "a view whose last stride is 320", contiguous}},
        {[](a& x) { x.key = a::filled(200, 2, 7); }, {shape_rule, "key", "[2, 200, 2, 7]", "[2, 200, 2, 8]"}},
        {[](a& x) { x.key = a::filled(200, 2, 8, 1); }, {shape_rule, "key", "[1, 200, 2, 8]", "[2, 200, 2, 8]"}},
        {[](a& x) { x.value = a::filled(199, 2, 12); }, {shape_rule, "value", "[2, 199, 2, 12]", "[2, 200, 2, 12]"}},
        {[](a& x) { x.value = a::filled(200, 1, 12); }, {shape_rule, "value", "[2, 200, 1, 12]", "[2, 200, 2, 12]"}},
        {[](a& x) { x.output = a::filled(40, 4, 11); }, {shape_rule, "output", "[2, 40, 4, 11]", "[2, 40, 4, 12]"}},
        {[](a& x) { x.output = a::filled(39, 4, 12); }, {shape_rule, "output", "[2, 39, 4, 12]", "[2, 40, 4, 12]"}},
        {[](a& x) { x.extras.residual_inputs(a::filled(39, 4, 5), a::filled(200, 2, 5)); },
         {shape_rule, "residual_query", "[2, 39, 4, 5]", "[2, 40, 4, 5]"}},
        {[](a& x) { x.extras.residual_inputs(a::filled(40, 4, 6), a::filled(200, 2, 5)); },
         {shape_rule, "residual_query", "[2, 40, 4, 6]", "[2, 40, 4, 5]"}},
        {[](a& x) { x.extras.residual_inputs(a::filled(40, 4, 5), a::filled(199, 2, 5)); },
         {shape_rule, "residual_key", "[2, 199, 2, 5]", "[2, 200, 2, 5]"}},
        {[](a& x) { x.o.combine = spla::combination_kind::separate; },
         {value_rule, "extras.return_branches", "absent", "both branches' views with combination separate"}},
        {[](a& x) { x.extras.return_branches(a::filled(40, 4, 11), a::filled(40, 4, 11)); },
         {shape_rule, "extras.return_branches sparse", "[2, 40, 4, 11]", "[2, 40, 4, 12]"}},
        {[](a& x) { x.extras.return_lse(log_sums("lse", 2, 39, 4)); },
         {shape_rule, "extras.return_lse", "[2, 39, 4]", "[2, 40, 4]"}},
        {[](a& x) { x.extras.norm_weights(weights("w", 4, 11), weights("w", 4, 11)); },
         {shape_rule, "extras.norm_weights of_sparse", "[4, 11]", "[4, 12]"}},
        {[](a& x) { x.extras.use_lists(unwritten_lists<a::space>(2, 39, 2, 4)); },
         {shape_rule, "extras.use_lists tiles", "39", "at least 40"}},
        {[](a& x) { x.extras.return_lists(unwritten_lists<a::space>(2, 39, 2, 4)); },
         {shape_rule, "extras.return_lists tiles", "39", "at least 40"}},
        {[](a& x) { x.extras.return_lists(unwritten_lists<a::space>(2, 40, 2, 3)); },
         {shape_rule, "extras.return_lists entries", "3", "at least top_k, 4"}},
        {[](a& x) { x.extras.use_lists(x.lists).return_lists(x.lists); },
         {value_rule, "extras.return_lists", "given beside use_lists", "one of the two"}},
        {[](a& x) { x.o.normalised = true; },
         {state_rule, "state.layout().normalised", "false", "true, from this call's sizes and options"}},
        {[](a& x) {
             auto const before = x.state;
             x.state = a::call::state(before.layout(), a::call::state::buffer_type("short", 512));
             x.state.tokens = before.tokens;
         },
         {state_rule, "state.buffer()", "512 bytes",
          "at least " + std::to_string(a::call::make_state(host(), a::capacity(), small_options()).layout().bytes)}},
        {[](a& x) { x.state = a::held(x.o, 160); },
         {state_rule, "state capacity in blocks", "10", "at least 12, the complete blocks of 200 keys"}},
        {[](a& x) { x.state.tokens = 201; }, {state_rule, "key.extent(1)", "200", "at least the state's 201 tokens"}},
        {[](a& x) { x.state.tokens = 161; },
         {state_rule, "query.extent(1)", "40", "at most 39, the tokens that this call appends"}},
        {[](a& x) { x.state.tokens = 200, x.state.state_end = 10, x.state.prefix_first = 9; },
         {state_rule, "query.extent(1)", "40",
          "queries no further back than the last append, whose prefix states the state holds"}},
        {[](a& x) {
             x.set_changed([](auto& o) { o.share = spla::sharing::first_query(64); });
             x.state.prefix_first = 4;
         },
         {state_rule, "state.shared_tile", "-1",
          "2: a call that starts inside a tile needs the list that the tile's first query made"}},
    };
}

void a_short_workspace(arguments& a)
{
    a.scratch = arguments::call::scratch("short", 256);
}
rule short_workspace(arguments::call::scratch const& needed)
{
    return {value_rule, "workspace", "256 bytes",
            "at least " + std::to_string(needed.extent(0)) + " (plan.workspace_bytes)"};
}
} // namespace

TEST_CASE("rules of prefill", "[check][rules]")
{
    auto rows = shared_rows();
    rows.push_back({a_short_workspace,
                    short_workspace(arguments::call::prefill_scratch(host(), arguments::capacity(), small_options()))});
    hold_table(prefill_call(), rows);
}

TEST_CASE("rules of decode", "[check][rules]")
{
    auto rows = shared_rows();
    rows.push_back({[](arguments& a) { a.state.tokens = 150; },
                    {state_rule, "key.extent(1)", "200", "150, the tokens that the state holds: append first"}});
    rows.push_back({[](arguments& a) { a.set_changed([](auto& o) { o.segment_tokens = 32; }); },
                    {value_rule, "query.extent(1)", "40", "at most options.segment_tokens, 32"}});
    rows.push_back({a_short_workspace,
                    short_workspace(arguments::call::decode_scratch(host(), arguments::capacity(), small_options()))});
    hold_table(decode_call(), rows, arguments::appended);
}

TEST_CASE("lists longer than the plan knows need a larger workspace", "[check][rules]")
{
    arguments a = arguments::appended();
    auto const lists = unwritten_lists<arguments::space>(2, 40, 2, 100); // extras do not keep views alive
    a.extras.use_lists(lists);
    a.scratch = arguments::call::decode_scratch(a.exec, arguments::capacity(), a.o);
    auto const enough = arguments::call::decode_scratch(a.exec, arguments::capacity(), a.o, 100);
    rule const wanted{value_rule, "workspace", std::to_string(a.scratch.extent(0)) + " bytes",
                      "at least " + std::to_string(enough.extent(0)) + " (plan.workspace_bytes)"};
    expect_throw("decode", wanted, [&] {
        arguments::call::decode(a.exec, a.query, a.key, a.value, a.output, a.state, a.o, a.scratch, a.extras);
    });
    CHECK_NOTHROW(arguments::call::decode(a.exec, a.query, a.key, a.value, a.output, a.state, a.o, enough, a.extras));
    a.exec.fence();
}
