// SPDX-FileCopyrightText: The spla authors
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
// Every rule of append() on its views and state.
#include "rules.hpp"

using namespace spla_test;

TEST_CASE("rules of append", "[check][rules]")
{
    auto const shape_rule = rule_kind::shape;
    auto const value_rule = rule_kind::value;
    auto const state_rule = rule_kind::state;
    auto const unsupported = rule_kind::unsupported;
    std::string const contiguous = "a contiguous last dimension";
    using a = arguments;
    std::vector<row> const rows{
        {[](a& x) { x.o.local_blocks = -1; }, {value_rule, "local_blocks", "-1", "0 or more"}},
        {[](a& x) { x.new_key = a::scattered(10, 2, 8); },
         {unsupported, "new_key", "a view whose last stride is 40", contiguous}},
        {[](a& x) { x.new_value = a::scattered(10, 2, 12); },
         {unsupported, "new_value", "a view whose last stride is 40", contiguous}},
        {[](a& x) { x.key = a::scattered(200, 2, 8); },
         {unsupported, "key", "a view whose last stride is 800", contiguous}},
        {[](a& x) { x.value = a::scattered(200, 2, 12); },
         {unsupported, "value", "a view whose last stride is 800", contiguous}},
        {[](a& x) { x.new_key = a::filled(10, 2, 7); }, {shape_rule, "new_key", "[2, 10, 2, 7]", "[2, 10, 2, 8]"}},
        {[](a& x) { x.new_key = a::filled(10, 1, 8); }, {shape_rule, "new_key", "[2, 10, 1, 8]", "[2, 10, 2, 8]"}},
        {[](a& x) { x.new_key = a::filled(10, 2, 8, 1); }, {shape_rule, "new_key", "[1, 10, 2, 8]", "[2, 10, 2, 8]"}},
        {[](a& x) { x.new_value = a::filled(9, 2, 12); }, {shape_rule, "new_value", "[2, 9, 2, 12]", "[2, 10, 2, 12]"}},
        {[](a& x) { x.value = a::filled(199, 2, 12); }, {shape_rule, "value", "[2, 199, 2, 12]", "[2, 200, 2, 12]"}},
        {[](a& x) { x.new_key = a::filled(41, 2, 8), x.new_value = a::filled(41, 2, 12); },
         {shape_rule, "key.extent(1)", "200", "at least 201 (160 held and 41 new)"}},
        {[](a& x) {
             x.new_key = a::filled(33, 2, 8), x.new_value = a::filled(33, 2, 12);
             x.set_changed([](auto& o) { o.segment_tokens = 32; });
         },
         {value_rule, "new_key.extent(1)", "33", "at most options.segment_tokens, 32"}},
        {[](a& x) { x.o.kept_keys = 0; },
         {state_rule, "state.layout().kept_keys", "1", "0, from this call's sizes and options"}},
        {[](a& x) {
             x.state = a::call::state(x.state.layout(), a::call::state::buffer_type("short", 512));
             x.state.tokens = 160;
         },
         {state_rule, "state.buffer()", "512 bytes",
          "at least " + std::to_string(a::call::make_state(host(), a::capacity(), small_options()).layout().bytes)}},
        {[](a& x) {
             x.new_key = a::filled(16, 2, 8), x.new_value = a::filled(16, 2, 12);
             x.state = a::held(x.o, 160);
         },
         {state_rule, "state capacity in blocks", "10", "at least 11, the complete blocks of 176 keys"}},
    };
    hold_table(append_call(), rows);
}
