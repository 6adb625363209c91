// SPDX-FileCopyrightText: The spla authors
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
// Every rule of check(), which needs sizes and options alone. The calls throw what it returns, here by way of their
// plans.
#include "rules.hpp"

#include <cmath>

using namespace spla_test;

namespace
{
spla::problem good()
{
    spla::problem p;
    p.queries = p.keys = 128, p.query_heads = 4, p.key_heads = 2;
    return p;
}

template <class Options>
void refuses(spla::problem const& p, Options const& o, rule const& wanted)
{
    INFO(wanted.argument << " " << wanted.actual << ", allowed " << wanted.allowed);
    auto const found = spla::check(p, o, "somewhere");
    REQUIRE(found);
    expect(*found, "somewhere", wanted);
    expect_throw("prefill", wanted, [&] { spla::plan_prefill(host(), p, o); });
    expect_throw("decode", wanted, [&] { spla::plan_decode(host(), p, o); });
}
template <class Options = spla::options<>, class Change>
void refuses(Change const& change, rule const& wanted)
{
    spla::problem p = good();
    Options o;
    REQUIRE_FALSE(spla::check(p, o));
    change(p, o);
    refuses(p, o, wanted);
}

struct many_features
{
    int count;
    KOKKOS_FUNCTION int features(int) const { return count; }
    template <class T>
    KOKKOS_FUNCTION void operator()(int, spla::vector_of<T>, spla::vector_of<T>) const
    {
    }
};

auto const shape_rule = rule_kind::shape;
auto const value = rule_kind::value;
auto const unsupported = rule_kind::unsupported;
double const infinity = std::numeric_limits<double>::infinity();
} // namespace

TEST_CASE("check: sizes", "[check]")
{
    refuses([](auto& p, auto&) { p.batch = -1; }, {shape_rule, "batch", "-1", "0 or more"});
    refuses([](auto& p, auto&) { p.queries = -2; }, {shape_rule, "queries", "-2", "0 or more"});
    refuses([](auto& p, auto&) { p.keys = -1; }, {shape_rule, "keys", "-1", "0 or more"});
    refuses([](auto& p, auto&) { p.query_heads = 0; }, {shape_rule, "query_heads", "0", "1 or more"});
    refuses([](auto& p, auto&) { p.key_heads = 0; }, {shape_rule, "key_heads", "0", "1 or more"});
    refuses([](auto& p, auto&) { p.query_heads = 3; },
            {shape_rule, "query_heads", "3", "a multiple of the 2 key heads"});
    refuses([](auto& p, auto&) { p.query_heads = 2 * 1025; },
            {unsupported, "query heads per key head", "1025", "at most 1024"});
    refuses([](auto& p, auto&) { p.head_dim = 0; }, {unsupported, "head_dim", "0", "1 to 1024"});
    refuses([](auto& p, auto&) { p.head_dim = 1025; }, {unsupported, "head_dim", "1025", "1 to 1024"});
    refuses([](auto& p, auto&) { p.value_dim = 0; }, {unsupported, "value_dim", "0", "1 to 1024"});
    refuses([](auto& p, auto&) { p.value_dim = 5000; }, {unsupported, "value_dim", "5000", "1 to 1024"});
    refuses([](auto& p, auto&) { p.residual_dim = -1; }, {unsupported, "residual_dim", "-1", "0 (head_dim) to 1024"});
    refuses([](auto& p, auto&) { p.residual_dim = 1025; },
            {unsupported, "residual_dim", "1025", "0 (head_dim) to 1024"});
    refuses([](auto& p, auto&) { p.keys = std::int64_t{64} << 31; },
            {unsupported, "keys", "137438953472", "fewer than 2^31 blocks"});
    // At the types' ends no sum of the rules themselves overflows.
    refuses([](auto& p, auto& o) { p.keys = INT64_MAX, o.block = 1, o.kept_keys = 0; },
            {unsupported, "keys", "9223372036854775807", "fewer than 2^31 blocks"});
    spla::problem p = good();
    spla::options<> o;
    p.batch = std::int64_t{1} << 50, o.block = 1, o.kept_keys = 0;
    o.segment_tokens = INT32_MAX, o.share = spla::sharing::first_query(INT32_MAX);
    auto const found = spla::check(p, o);
    REQUIRE(found);
    CHECK(found->argument == "numbers of one tensor, state or workspace");
}

TEST_CASE("check: options", "[check]")
{
    auto const nan = std::nan("");
    refuses([&](auto&, auto& o) { o.scale = nan; }, {value, "scale", "nan", "a finite number"});
    refuses([&](auto&, auto& o) { o.scale = -infinity; }, {value, "scale", "-inf", "a finite number"});
    refuses([](auto&, auto& o) { o.block = 0; }, {value, "block", "0", "1 to 1024"});
    refuses([](auto&, auto& o) { o.block = 1025; }, {value, "block", "1025", "1 to 1024"});
    refuses([](auto&, auto& o) { o.sink_blocks = -1; }, {value, "sink_blocks", "-1", "0 or more"});
    refuses([](auto&, auto& o) { o.local_blocks = -1; }, {value, "local_blocks", "-1", "0 or more"});
    refuses([](auto&, auto& o) { o.scale = 1e39; }, {value, "scale", "1e+39", "a number that is finite in fp32"});
    refuses([](auto&, auto& o) { o.epsilon = 1e39; }, {value, "epsilon", "1e+39", "a number that is finite in fp32"});
    refuses([](auto&, auto& o) { o.top_k = -1; }, {value, "top_k", "-1", "0 or more"});
    refuses([&](auto&, auto& o) { o.top_p = nan; }, {value, "top_p", "nan", "above 0, at most 1 (1: off)"});
    refuses([](auto&, auto& o) { o.top_p = 0; }, {value, "top_p", "0", "above 0, at most 1 (1: off)"});
    refuses([](auto&, auto& o) { o.top_p = 1.5; }, {value, "top_p", "1.5", "above 0, at most 1 (1: off)"});
    refuses([](auto&, auto& o) { o.sub_blocks = 3; }, {value, "sub_blocks", "3", "a divisor of the block, 64"});
    refuses([](auto&, auto& o) { o.sub_blocks = 0; }, {value, "sub_blocks", "0", "a divisor of the block, 64"});
    refuses([](auto&, auto& o) { o.kept_keys = 64; },
            {value, "kept_keys", "64", "0 to 63 (fewer than the keys of a sub-block)"});
    refuses([](auto&, auto& o) { o.kept_keys = -1; },
            {value, "kept_keys", "-1", "0 to 63 (fewer than the keys of a sub-block)"});
    refuses([](auto&, auto& o) { o.sub_blocks = 32, o.kept_keys = 2; },
            {value, "kept_keys", "2", "0 to 1 (fewer than the keys of a sub-block)"});
    refuses([](auto&, auto& o) { o.residual = spla::residual_mode::direct; },
            {value, "residual", "direct", "automatic or subtract, unless may_read_unselected"});
    refuses([](auto&, auto& o) { o.epsilon = -1; }, {value, "epsilon", "-1", "0 or more"});
    refuses([](auto&, auto& o) { o.epsilon = infinity; }, {value, "epsilon", "inf", "0 or more"});
    refuses([&](auto&, auto& o) { o.epsilon = nan; }, {value, "epsilon", "nan", "0 or more"});
    refuses([](auto&, auto& o) { o.segment_tokens = 32; },
            {value, "segment_tokens", "32", "at least the block and the sharing tile"});
    refuses([](auto&, auto& o) { o.segment_tokens = 64, o.share = spla::sharing::first_query(128); },
            {value, "segment_tokens", "64", "at least the block and the sharing tile"});
}

TEST_CASE("check: sharing", "[check]")
{
    std::string const tiles = "a divisor or a multiple of the block, 64";
    refuses([](auto&, auto& o) { o.share.tile = 0; }, {value, "share.tile", "0", "1 or more"});
    refuses([](auto&, auto& o) { o.share.tile = 2; }, {value, "share.tile", "2", "1 with per_token"});
    refuses([](auto&, auto& o) { o.share = spla::sharing::first_query(48); }, {value, "share.tile", "48", tiles});
    refuses([](auto&, auto& o) { o.share = spla::sharing::tile_sum(96); }, {value, "share.tile", "96", tiles});
    refuses([](auto&, auto& o) { o.share = spla::sharing::tile_sum(32, 0); },
            {value, "share.score_every", "0", "1 or more"});
    refuses([](auto&, auto& o) { o.share.score_every = 2; },
            {value, "share.score_every", "2", "1 unless the sharing is tile_sum"});
    refuses(
        [](auto&, auto& o) {
            o.share = {spla::sharing_kind::first_query, 32, 2};
        },
        {value, "share.score_every", "2", "1 unless the sharing is tile_sum"});
}

TEST_CASE("check: metric and feature map", "[check]")
{
    using oracle = spla::options<spla::exact_mass>;
    refuses<oracle>([](auto&, auto& o) { o.kept_keys = 1; },
                    {value, "kept_keys", "1", "0 with exact_mass, which keeps no summary"});
    refuses<oracle>([](auto&, auto& o) { o.sub_blocks = 2; },
                    {value, "sub_blocks", "2", "1 with exact_mass, which keeps no summary"});
    spla::options<spla::taylor<>, many_features> o;
    for (int const count : {0, 4097})
    {
        o.feature_map.count = count;
        refuses(good(), o, {unsupported, "feature_map.features()", std::to_string(count), "1 to 4096"});
    }
}

TEST_CASE("check: what is at the limit is allowed", "[check]")
{
    auto const allowed = [](auto const& change) {
        spla::problem p = good();
        spla::options<> o;
        change(p, o);
        auto const found = spla::check(p, o);
        INFO((found ? found->message() : ""));
        CHECK_FALSE(found);
    };
    allowed([](auto& p, auto&) { p.batch = 0, p.queries = 0, p.keys = 0; });
    allowed([](auto& p, auto&) { p.queries = 1000, p.keys = 3; });
    allowed([](auto& p, auto&) { p.query_heads = 2048; });
    allowed([](auto& p, auto&) { p.head_dim = 1, p.value_dim = 1, p.residual_dim = 1024; });
    allowed([](auto& p, auto&) { p.head_dim = 1024, p.value_dim = 1024; });
    allowed([](auto& p, auto&) { p.keys = (std::int64_t{64} << 31) - 1; });
    allowed([](auto&, auto& o) { o.block = 1, o.kept_keys = 0; });
    allowed([](auto&, auto& o) { o.block = 1024, o.kept_keys = 1023; });
    allowed([](auto&, auto& o) { o.sub_blocks = 64, o.kept_keys = 0; });
    allowed([](auto&, auto& o) { o.top_k = 0, o.sink_blocks = 0, o.local_blocks = 0; });
    allowed([](auto&, auto& o) { o.scale = 0.0, o.top_p = 1e-9; });
    allowed([](auto&, auto& o) { o.scale = -3.0; });
    allowed([](auto&, auto& o) { o.segment_tokens = 64; });
    allowed([](auto&, auto& o) { o.share = spla::sharing::tile_sum(192, 1000); });
}

TEST_CASE("check: the first of several violated rules is named", "[check]")
{
    auto const first = [](auto const& change) {
        spla::problem p = good();
        spla::options<> o;
        change(p, o);
        return spla::check(p, o)->argument;
    };
    CHECK(first([](auto& p, auto& o) { p.key_heads = 0, o.block = 0; }) == "key_heads");
    CHECK(first([](auto&, auto& o) { o.block = 0, o.sub_blocks = 0, o.share.tile = 0; }) == "block");
    CHECK(first([](auto&, auto& o) { o.sub_blocks = 0, o.kept_keys = -1; }) == "sub_blocks");
}
