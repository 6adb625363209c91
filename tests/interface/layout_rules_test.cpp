// SPDX-FileCopyrightText: The spla authors
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
// Rules on strides, extents and memory of what a call takes beside its views, and on what a state was made for.
#include "rules.hpp"

#include <limits>

using namespace spla_test;

namespace
{
using a = arguments;
auto const shape_rule = rule_kind::shape;
auto const value_rule = rule_kind::value;
auto const state_rule = rule_kind::state;
auto const unsupported = rule_kind::unsupported;
std::string const contiguous = "a contiguous last dimension";

template <class Layout = Kokkos::LayoutRight>
spla::block_list<Kokkos::View<int****, Layout, a::space>, Kokkos::View<int***, Layout, a::space>>
some_lists(int batch, int tiles, int heads, int entries, int lengths_batch, int lengths_tiles, int lengths_heads)
{
    return {Kokkos::View<int****, Layout, a::space>("indices", batch, tiles, heads, entries),
            Kokkos::View<int***, Layout, a::space>("lengths", lengths_batch, lengths_tiles, lengths_heads)};
}
template <class Layout>
using weights = Kokkos::View<float**, Layout, a::space>;

/// A workspace or state buffer that begins `offset` bytes after an aligned address.
Kokkos::View<std::byte*, a::space> shifted(std::size_t bytes, std::size_t offset)
{
    Kokkos::View<std::byte*, a::space> const all("shifted", bytes + offset);
    return Kokkos::subview(all, std::pair<std::size_t, std::size_t>(offset, bytes + offset));
}

/// Rules of prefill and of decode.
std::vector<row> shared_rows()
{
    using left = Kokkos::LayoutLeft;
    using right = Kokkos::LayoutRight;
    std::string const lengths = "[2, at least 40, 2]";
    return {
        {[](a& x) { x.extras.use_lists(some_lists<left>(2, 40, 2, 4, 2, 40, 2)); },
         {unsupported, "extras.use_lists", "a view whose last stride is 160", contiguous}},
        {[](a& x) { x.extras.use_lists(some_lists(1, 40, 2, 4, 2, 40, 2)); },
         {shape_rule, "extras.use_lists batch", "1", "2"}},
        {[](a& x) { x.extras.use_lists(some_lists(2, 40, 1, 4, 2, 40, 2)); },
         {shape_rule, "extras.use_lists key heads", "1", "2"}},
        {[](a& x) { x.extras.use_lists(some_lists(2, 40, 2, 4, 1, 40, 2)); },
         {shape_rule, "extras.use_lists lengths", "[1, 40, 2]", lengths}},
        {[](a& x) { x.extras.use_lists(some_lists(2, 40, 2, 4, 2, 39, 2)); },
         {shape_rule, "extras.use_lists lengths", "[2, 39, 2]", lengths}},
        {[](a& x) { x.extras.use_lists(some_lists(2, 40, 2, 4, 2, 40, 4)); },
         {shape_rule, "extras.use_lists lengths", "[2, 40, 4]", lengths}},
        {[](a& x) { x.extras.use_lists(some_lists(0, 40, 2, 4, 0, 40, 2)); },
         {shape_rule, "extras.use_lists batch", "0", "2"}},
        {[](a& x) { x.extras.return_lists(some_lists<left>(2, 40, 2, 4, 2, 40, 2)); },
         {unsupported, "extras.return_lists", "a view whose last stride is 160", contiguous}},
        {[](a& x) { x.extras.return_lists(some_lists(3, 40, 2, 4, 3, 40, 2)); },
         {shape_rule, "extras.return_lists batch", "3", "2"}},
        {[](a& x) { x.extras.return_lists(some_lists(2, 40, 4, 4, 2, 40, 2)); },
         {shape_rule, "extras.return_lists key heads", "4", "2"}},
        {[](a& x) { x.extras.return_lists(some_lists(2, 40, 2, 4, 2, 40, 1)); },
         {shape_rule, "extras.return_lists lengths", "[2, 40, 1]", lengths}},
        {[](a& x) { x.extras.norm_weights(weights<right>("w", 4, 12), weights<right>("w", 3, 12)); },
         {shape_rule, "extras.norm_weights of_residual", "[3, 12]", "[4, 12]"}},
        {[](a& x) { x.extras.norm_weights(weights<left>("w", 4, 12), weights<left>("w", 4, 12)); },
         {unsupported, "extras.norm_weights of_sparse", "a view whose last stride is 4", contiguous}},
        {[](a& x) { x.extras.return_branches(a::scattered(40, 4, 12), x.residual); },
         {unsupported, "extras.return_branches sparse", "a view whose last stride is 320", contiguous}},
        {[](a& x) { x.extras.return_branches(x.sparse, a::scattered(40, 4, 12)); },
         {unsupported, "extras.return_branches residual", "a view whose last stride is 320", contiguous}},
        {[](a& x) { x.extras.return_branches(x.sparse, a::filled(40, 4, 11)); },
         {shape_rule, "extras.return_branches residual", "[2, 40, 4, 11]", "[2, 40, 4, 12]"}},
        {[](a& x) { x.extras.residual_inputs(a::scattered(40, 4, 8), a::filled(200, 2, 8)); },
         {unsupported, "residual_query", "a view whose last stride is 320", contiguous}},
        {[](a& x) { x.extras.residual_inputs(a::filled(40, 4, 8), a::scattered(200, 2, 8)); },
         {unsupported, "residual_key", "a view whose last stride is 800", contiguous}},
        {[](a& x) { x.extras.residual_keys(a::filled(200, 2, 8)); },
         {value_rule, "extras.residual_inputs", "keys alone", "queries and keys, or neither"}},
        {[](a& x) {
             x.set_changed([](auto& o) { o.combine = spla::combination_kind::sparse_only; });
             x.extras.return_branches(x.sparse, x.residual);
         },
         {value_rule, "extras.return_branches", "given with sparse_only",
          "absent: sparse_only has no residual branch, and its output is the exact branch"}},
        // What no kernel could reach, were there a device beside the host.
        {[](a& x) {
             x.extras.return_lse(x.lse);
             x.extras.facts.lse.on_host = false, x.extras.facts.lse.space = "Elsewhere";
         },
         {unsupported, "extras.return_lse", "in memory space Elsewhere", "memory that the host reaches"}},
        {[](a& x) {
             x.use_lists();
             x.extras.facts.given_lengths.on_host = false, x.extras.facts.given_lengths.space = "Elsewhere";
         },
         {unsupported, "extras.use_lists lengths", "in memory space Elsewhere", "memory that the host reaches"}},
        // Buffers.
        {[](a& x) { x.scratch = shifted(std::size_t{1} << 20, 8); },
         {value_rule, "workspace", "at an address 8 bytes past a multiple of 64", "aligned to 64 bytes"}},
        {[](a& x) {
             auto const before = x.state;
             x.state = a::call::state(before.layout(), shifted(before.layout().bytes, 4));
             static_cast<spla::sequence_progress&>(x.state) = before;
         },
         {state_rule, "state.buffer()", "at an address 4 bytes past a multiple of 64", "aligned to 64 bytes"}},
    };
}
} // namespace

TEST_CASE("layout rules of prefill", "[check][rules]")
{
    hold_table(prefill_call(), shared_rows());
}

TEST_CASE("layout rules of decode", "[check][rules]")
{
    auto rows = shared_rows();
    std::string const held = "queries no further back than the last append, whose prefix states the state holds";
    // Prefix states that were never made: too few slots, or a hole before the running state.
    rows.push_back({[](a& x) { x.state.prefix_count = 1; }, {state_rule, "query.extent(1)", "40", held}});
    rows.push_back({[](a& x) { x.state.prefix_first = 5; }, {state_rule, "query.extent(1)", "40", held}});
    rows.push_back({[](a& x) { x.state.state_end = 12; }, {state_rule, "query.extent(1)", "40", held}});
    hold_table(decode_call(), rows, a::appended);
}

TEST_CASE("residual keys of append", "[check][rules]")
{
    std::vector<row> const rows{
        {[](a& x) { x.extras.residual_keys(a::filled(169, 2, 8)); },
         {shape_rule, "residual_key", "[2, 169, 2, 8]", "[2, 170, 2, 8]"}},
        {[](a& x) { x.extras.residual_keys(a::filled(200, 1, 8)); },
         {shape_rule, "residual_key", "[2, 200, 1, 8]", "[2, 200, 2, 8]"}},
        {[](a& x) { x.extras.residual_keys(a::scattered(200, 2, 8)); },
         {unsupported, "residual_key", "a view whose last stride is 800", contiguous}},
        {[](a& x) { x.extras.residual_keys(a::filled(200, 2, 6)); },
         {state_rule, "state.layout().residual_width", "8", "6, from this call's sizes and options"}},
    };
    // The state was made from the residual branch's own keys, 160 so far.
    auto const own = a::filled(200, 2, 8); // outlives the calls, as extras want it
    auto const make = [&own] {
        a x;
        x.state.residual_keys = true;
        x.extras.residual_keys(own);
        return x;
    };
    hold_table(append_call(), rows, make);
    a x = make();
    auto const enough = a::filled(170, 2, 8);
    x.extras.residual_keys(enough);
    CHECK_NOTHROW(append_call().run(x));
    x.exec.fence();
}

namespace
{
/// phi of another type and as many features.
struct another_map : spla::softmax_pair
{
};

/// prefill() of small_options() with a state that was made for these; its first refused field.
template <class Metric, class FeatureMap>
std::optional<spla::violation> with_state_for(spla::options<Metric, FeatureMap> const& made, int batch = 2)
{
    a x;
    auto p = a::capacity();
    p.batch = batch;
    auto state = spla::make_sequence_state(x.exec, p, made);
    return a::call::check_prefill(x.exec, x.query, x.key, x.value, x.output, state, x.o, x.scratch, x.extras);
}
} // namespace

TEST_CASE("a state made for other options is refused by the field that differs", "[check][rules]")
{
    struct change
    {
        std::function<void(spla::options<>&)> make;
        std::string field, is, must;
    };
    using spla::sharing;
    std::vector<change> const changes{
        {[](auto& o) { o.block = 8; }, "block", "8", "16"},
        {[](auto& o) { o.sink_blocks = 2; }, "sink_blocks", "2", "1"},
        {[](auto& o) { o.local_blocks = 3; }, "local_blocks", "3", "2"},
        {[](auto& o) { o.share = sharing::first_query(16); }, "share", "first_query", "per_token"},
        {[](auto& o) { o.share = sharing::tile_sum(16); }, "share", "tile_sum", "per_token"},
        {[](auto& o) { o.sub_blocks = 2; }, "sub_blocks", "2", "1"},
        {[](auto& o) { o.kept_keys = 2; }, "kept_keys", "2", "1"},
        {[](auto& o) { o.storage = spla::summary_storage::int8; }, "storage", "int8", "fp32"},
        {[](auto& o) { o.normalised = true; }, "normalised", "true", "false"},
        {[](auto& o) { o.combine = spla::combination_kind::sparse_only; }, "residual", "false", "true"},
    };
    for (auto const& c : changes)
    {
        auto o = small_options();
        c.make(o);
        auto const found = with_state_for(o);
        REQUIRE(found);
        expect(*found, "prefill",
               {state_rule, "state.layout()." + c.field, c.is, c.must + ", from this call's sizes and options"});
    }
    auto o = small_options();
    CHECK(with_state_for(o, 3)->argument == "state.layout().batch");
    o.segment_tokens = 64;
    CHECK(with_state_for(o)->argument == "state.layout().slots");
    o.segment_tokens = 1 << 20; // more than needed does no harm
    CHECK_FALSE(with_state_for(o));

    // Same vectors and features, but not the same meaning.
    auto const cumulant = with_state_for(small_options<spla::cumulant<>>());
    REQUIRE(cumulant);
    CHECK(cumulant->argument == "state.layout().metric");
    CHECK(cumulant->actual.rfind("spla::cumulant<", 0) == 0); // the rest is the compiler's spelling
    auto const map = with_state_for(small_options<spla::taylor<>, another_map>());
    REQUIRE(map);
    CHECK(map->argument == "state.layout().feature_map");

    spla::options<> first = small_options(), second = first;
    first.share = sharing::first_query(8), second.share = sharing::first_query(16);
    a x;
    x.set(first);
    x.o = second;
    auto const check = [&x] {
        return a::call::check_prefill(x.exec, x.query, x.key, x.value, x.output, x.state, x.o, x.scratch, x.extras);
    };
    CHECK(check()->argument == "state.layout().tile");
    // The state keeps a shared list of top_k entries, no more than its blocks; without sharing, none.
    x.o = first;
    x.o.top_k = 5;
    CHECK(check()->argument == "state.layout().top_k");
    x.o = small_options();
    x.o.top_k = std::numeric_limits<int>::max();
    CHECK(spla::state_layout_of(a::capacity(), x.o).bytes ==
          spla::state_layout_of(a::capacity(), small_options()).bytes);
    x.o.share = sharing::first_query(16);
    CHECK(spla::state_layout_of(a::capacity(), x.o).top_k == 12);
}

TEST_CASE("a state cannot be made for what check() refuses", "[check][rules]")
{
    auto const p = a::capacity();
    spla::options<> o = small_options();
    o.block = 0;
    rule const wanted{value_rule, "block", "0", "1 to 1024"};
    expect_throw("make_sequence_state", wanted, [&] { spla::make_sequence_state(host(), p, o); });
    expect_throw("state_layout_of", wanted, [&] { spla::state_layout_of(p, o); });
    auto bad = p;
    bad.head_dim = -3;
    expect_throw("state_layout_of", {unsupported, "head_dim", "-3", "1 to 1024"},
                 [&] { spla::state_layout_of(bad, small_options()); });
    auto no_queries = p;
    no_queries.query_heads = 1; // as it is by default
    CHECK(spla::state_layout_of(no_queries, small_options()) == spla::state_layout_of(p, small_options()));
}

TEST_CASE("sizes follow the problem", "[check][rules]")
{
    auto p = a::capacity();
    p.queries = 1;
    auto o = small_options();
    auto const layout = spla::state_layout_of(p, o);
    o.segment_tokens = 1 << 30;
    CHECK(spla::state_layout_of(p, o).slots == 12 + 1);
    CHECK(layout.slots == 8 + 1);
    o = small_options();
    o.local_blocks = 1 << 30;
    auto const plan = spla::plan_decode(host(), p, o, std::int64_t{1} << 40);
    CHECK(plan.runs == 2); // of 13 blocks
    CHECK(plan.workspace_bytes < 20000);
    CHECK(spla::detail::list_capacity(p, o) == 4);
    o.top_k = 1000;
    CHECK(spla::detail::list_capacity(p, o) == 13);
}

TEST_CASE("a team's scratch beyond what Kokkos can count is a rule", "[check][rules]")
{
    a x;
    auto o = small_options();
    o.block = 1, o.kept_keys = 0, o.local_blocks = 0, o.sink_blocks = 0, o.segment_tokens = 64;
    x.o = o;
    auto p = a::capacity();
    p.keys = std::int64_t{1} << 30;
    rule wanted{unsupported, "team scratch bytes", "", "below 2^31: fewer keys, or narrower heads and blocks"};
    try
    {
        spla::plan_prefill(host(), p, o);
        FAIL_CHECK("nothing was thrown");
    } catch (spla::unsupported_error const& e)
    {
        CHECK(e.found().argument == wanted.argument);
        CHECK(e.found().allowed == wanted.allowed);
    }
    CHECK_FALSE(spla::check(p, o)); // sizes and options alone are legal
}
