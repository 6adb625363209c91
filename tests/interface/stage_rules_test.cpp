// SPDX-FileCopyrightText: The spla authors
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
// Rules of the stages alone, on their own views; what they share with prefill and decode: stage_checks_test.cpp.
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

std::vector<row> branch_rows()
{
    return {
        {[](a& x) { x.o.top_k = -1; }, {value_rule, "top_k", "-1", "0 or more"}},
        {[](a& x) { x.key = a::filled(200, 2, 7); }, {shape_rule, "key", "[2, 200, 2, 7]", "[2, 200, 2, 8]"}},
        {[](a& x) { x.value = a::filled(199, 2, 12); }, {shape_rule, "value", "[2, 199, 2, 12]", "[2, 200, 2, 12]"}},
        {[](a& x) { x.output = a::filled(40, 4, 11); }, {shape_rule, "output", "[2, 40, 4, 11]", "[2, 40, 4, 12]"}},
        {[](a& x) { x.query = a::scattered(40, 4, 8); },
         {unsupported, "query", "a view whose last stride is 320", contiguous}},
        {[](a& x) { x.key = a::scattered(200, 2, 8); },
         {unsupported, "key", "a view whose last stride is 800", contiguous}},
        {[](a& x) { x.value = a::scattered(200, 2, 12); },
         {unsupported, "value", "a view whose last stride is 800", contiguous}},
        {[](a& x) { x.output = a::scattered(40, 4, 12); },
         {unsupported, "output", "a view whose last stride is 320", contiguous}},
        {[](a& x) { x.extras = {}; }, {value_rule, "extras.use_lists", "absent", "the lists of selected blocks"}},
        {[](a& x) { x.extras.use_lists(unwritten_lists<a::space>(2, 39, 2, 4)); },
         {shape_rule, "extras.use_lists tiles", "39", "at least 40"}},
    };
}
} // namespace

TEST_CASE("rules of selected_attention", "[check][rules]")
{
    hold_table(selected_attention_call(), branch_rows(), a::with_lists);
}

TEST_CASE("rules of residual_attention", "[check][rules]")
{
    auto rows = branch_rows();
    std::vector<row> const own{
        {[](a& x) { x.o.normalised = true; },
         {state_rule, "state.layout().normalised", "false", "true, from this call's sizes and options"}},
        {[](a& x) {
             x.state = a::call::state(x.state.layout(), a::call::state::buffer_type("short", 512));
             x.state.tokens = 200;
         },
         {state_rule, "state.buffer()", "512 bytes",
          "at least " + std::to_string(a::call::make_state(host(), a::capacity(), small_options()).layout().bytes)}},
        {[](a& x) { x.state = a::held(x.o, 160); },
         {state_rule, "state capacity in blocks", "10", "at least 12, the complete blocks of 200 keys"}},
        {[](a& x) { x.state.tokens = 190; }, {state_rule, "key.extent(1)", "200", "190, the state's tokens"}},
        {[](a& x) { x.state.prefix_first = 9; },
         {state_rule, "query.extent(1)", "40",
          "queries no further back than the last append, whose prefix states the state holds"}},
    };
    rows.insert(rows.end(), own.begin(), own.end());
    hold_table(residual_attention_call(), rows, a::with_lists);
}

TEST_CASE("rules of select", "[check][rules]")
{
    std::vector<row> const rows{
        {[](a& x) { x.o.block = 0; }, {value_rule, "block", "0", "1 to 1024"}},
        {[](a& x) { x.query = a::scattered(40, 4, 8); },
         {unsupported, "query", "a view whose last stride is 320", contiguous}},
        {[](a& x) { x.key = a::filled(200, 2, 7); }, {shape_rule, "key", "[2, 200, 2, 7]", "[2, 200, 2, 8]"}},
        {[](a& x) { x.set_changed([](auto& o) { o.share = spla::sharing::first_query(64); }); },
         {state_rule, "state.shared_tile", "-1",
          "2: a call that starts inside a tile needs the list that the tile's first query made"}},
    };
    hold_table(select_call(), rows, a::appended);
}

TEST_CASE("rules of block_statistics", "[check][rules]")
{
    std::string const complete = "complete blocks of key that the state has room for";
    std::vector<row> const rows{
        {[](a& x) { x.key = a::scattered(200, 2, 8); },
         {unsupported, "key", "a view whose last stride is 800", contiguous}},
        {[](a& x) { x.key = a::filled(200, 2, 8, 1); }, {shape_rule, "key", "[1, 200, 2, 8]", "[2, 200, 2, 8]"}},
        {[](a& x) { x.key = a::filled(200, 1, 8); }, {shape_rule, "key", "[2, 200, 1, 8]", "[2, 200, 2, 8]"}},
        {[](a& x) { x.first_block = -1; }, {shape_rule, "first + count", "1", complete}},
        {[](a& x) { x.blocks = -1; }, {shape_rule, "first + count", "-1", complete}},
        {[](a& x) { x.first_block = 11; }, {shape_rule, "first + count", "13", complete}},
        {[](a& x) { x.first_block = 9, x.state = a::held(x.o, 160); }, {shape_rule, "first + count", "11", complete}},
    };
    hold_table(block_statistics_call(), rows, a::appended);
}

TEST_CASE("rules of combine", "[check][rules]")
{
    std::vector<row> const rows{
        {[](a& x) { x.o.combine = spla::combination_kind::separate; },
         {value_rule, "combine", "separate", "rms_sum, sum or sparse_only"}},
        {[](a& x) { x.residual = a::filled(40, 4, 11); }, {shape_rule, "residual", "[2, 40, 4, 11]", "[2, 40, 4, 12]"}},
        {[](a& x) { x.output = a::filled(39, 4, 12); }, {shape_rule, "output", "[2, 39, 4, 12]", "[2, 40, 4, 12]"}},
        {[](a& x) { x.sparse = a::scattered(40, 4, 12); },
         {unsupported, "sparse", "a view whose last stride is 320", contiguous}},
        {[](a& x) { x.residual = a::scattered(40, 4, 12); },
         {unsupported, "residual", "a view whose last stride is 320", contiguous}},
        {[](a& x) { x.output = a::scattered(40, 4, 12); },
         {unsupported, "output", "a view whose last stride is 320", contiguous}},
    };
    hold_table(combine_call(), rows);
}
