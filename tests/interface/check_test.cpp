// SPDX-FileCopyrightText: The spla authors
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#include "catch.hpp"

#include <spla/spla.hpp>

using exec_space = Kokkos::DefaultHostExecutionSpace;
using view = Kokkos::View<float****, Kokkos::LayoutRight, exec_space::memory_space>;

namespace
{
spla::problem good()
{
    spla::problem p;
    p.queries = p.keys = 128, p.query_heads = 4, p.key_heads = 2;
    return p;
}
template <class Change>
std::string rule(Change const& change)
{
    spla::problem p = good();
    spla::options<> o;
    change(p, o);
    auto const found = spla::check(p, o);
    return found ? found->argument : "";
}
} // namespace

TEST_CASE("check names the first violated rule", "[check]")
{
    CHECK(rule([](auto&, auto&) {}) == "");
    CHECK(rule([](auto& p, auto&) { p.query_heads = 3; }) == "query_heads");
    CHECK(rule([](auto& p, auto&) { p.key_heads = 0; }) == "key_heads");
    CHECK(rule([](auto& p, auto&) { p.head_dim = 0; }) == "head_dim");
    CHECK(rule([](auto& p, auto&) { p.value_dim = 5000; }) == "value_dim");
    CHECK(rule([](auto& p, auto&) { p.keys = -1; }) == "keys");
    CHECK(rule([](auto&, auto& o) { o.block = 0; }) == "block");
    CHECK(rule([](auto&, auto& o) { o.top_k = -1; }) == "top_k");
    CHECK(rule([](auto&, auto& o) { o.top_p = std::nan(""); }) == "top_p");
    CHECK(rule([](auto&, auto& o) { o.top_p = 0; }) == "top_p");
    CHECK(rule([](auto&, auto& o) { o.scale = std::nan(""); }) == "scale");
    CHECK(rule([](auto&, auto& o) { o.sub_blocks = 3; }) == "sub_blocks");
    CHECK(rule([](auto&, auto& o) { o.kept_keys = 64; }) == "kept_keys");
    CHECK(rule([](auto&, auto& o) { o.sink_blocks = -1; }) == "sink_blocks");
    CHECK(rule([](auto&, auto& o) { o.local_blocks = -1; }) == "local_blocks");
    CHECK(rule([](auto&, auto& o) { o.share.tile = 7; }) == "share.tile");
    CHECK(rule([](auto&, auto& o) { o.share = spla::sharing::first_query(48); }) == "share.tile");
    CHECK(rule([](auto&, auto& o) { o.share.score_every = 2; }) == "share.score_every");
    CHECK(rule([](auto&, auto& o) { o.residual = spla::residual_mode::direct; }) == "residual");
    CHECK(rule([](auto&, auto& o) { o.epsilon = -1; }) == "epsilon");
    CHECK(rule([](auto&, auto& o) { o.segment_tokens = 32; }) == "segment_tokens");
    spla::options<spla::exact_mass> oracle;
    oracle.kept_keys = 1;
    CHECK(spla::check(good(), oracle)->argument == "kept_keys");
}

TEST_CASE("calls throw what their checks return, and write nothing", "[check]")
{
    exec_space const exec;
    spla::options<> o;
    spla::problem const p = good();
    view q("q", 1, 128, 4, 64), k("k", 1, 128, 2, 64), v("v", 1, 128, 2, 64), out("out", 1, 128, 4, 64);
    Kokkos::deep_copy(out, 42.0f);
    auto state = spla::make_sequence_state(exec, p, o);
    auto const scratch = spla::make_workspace(exec, spla::plan_prefill(exec, p, o));
    auto const refused = [&](auto const& query, auto const& key, auto const& value, auto const& output, auto const& space) {
        auto const found = spla::check_prefill(exec, query, key, value, output, state, o, space);
        REQUIRE(found);
        try
        {
            spla::prefill(exec, query, key, value, output, state, o, space);
        }
        catch (spla::argument_error const& e)
        {
            CHECK(std::string(e.what()) == found->message());
            CHECK(e.found().call == "prefill");
        }
        CHECK(state.tokens == 0);
        CHECK(out(0, 5, 0, 0) == 42.0f);
        return found->argument;
    };
    CHECK(refused(view("q", 1, 128, 3, 64), k, v, out, scratch) == "query_heads");
    CHECK(refused(q, view("k", 1, 128, 2, 32), v, out, scratch) == "key");
    CHECK(refused(q, k, view("v", 1, 127, 2, 64), out, scratch) == "value");
    CHECK(refused(q, k, v, view("o", 1, 128, 4, 63), scratch) == "output");
    CHECK(refused(q, k, v, out, spla::workspace<exec_space::memory_space>("none", 16)) == "workspace");
    Kokkos::View<float****, Kokkos::LayoutLeft, exec_space::memory_space> left("left", 1, 128, 4, 64);
    CHECK(refused(left, k, v, out, scratch) == "query");
    o.normalised = true; // the state was made for other options
    CHECK(refused(q, k, v, out, scratch) == "state.layout()");
    o.normalised = false;
    o.combine = spla::combination_kind::separate;
    CHECK(refused(q, k, v, out, scratch) == "extras.return_branches");
    o.combine = spla::combination_kind::rms_sum;
    CHECK_THROWS_AS(spla::decode(exec, q, k, v, out, state, o, scratch), spla::state_error); // nothing appended
    o.share = spla::sharing::first_query(32);
    auto shared = spla::make_sequence_state(exec, p, o);
    using pair = std::pair<int, int>;
    spla::append(exec, k, v, k, v, shared, o);
    auto const tail = Kokkos::subview(q, Kokkos::ALL, pair(120, 128), Kokkos::ALL, Kokkos::ALL);
    auto const tail_out = Kokkos::subview(out, Kokkos::ALL, pair(120, 128), Kokkos::ALL, Kokkos::ALL);
    CHECK_THROWS_AS(spla::prefill(exec, tail, k, v, tail_out, shared, o, scratch), spla::state_error); // inside a tile
}

namespace
{
int events = 0;
void count_allocation(Kokkos_Profiling_SpaceHandle, char const*, void const*, std::uint64_t) { ++events; }
void count_fence(char const*, std::uint32_t, std::uint64_t*) { ++events; }
} // namespace

TEST_CASE("after warm_up nothing allocates or fences", "[contract]")
{
    exec_space const exec;
    spla::options<> o;
    o.top_k = 4;
    spla::problem p = good();
    p.queries = p.keys = 1200;
    view q("q", 1, 1201, 4, 64), k("k", 1, 1201, 2, 64), v("v", 1, 1201, 2, 64), out("out", 1, 1201, 4, 64);
    using pair = std::pair<int, int>;
    auto const part = [](view const& x, int a, int b) { return Kokkos::subview(x, Kokkos::ALL, pair(a, b), Kokkos::ALL, Kokkos::ALL); };
    spla::problem whole = p;
    whole.keys = 1201;
    auto state = spla::make_sequence_state(exec, whole, o);
    auto const prefill_plan = spla::plan_prefill(exec, whole, o), decode_plan = spla::plan_decode(exec, whole, o);
    auto const scratch = spla::make_workspace(exec, prefill_plan);
    auto const decode_scratch = spla::make_workspace(exec, decode_plan);
    spla::warm_up(exec, prefill_plan);
    spla::warm_up(exec, decode_plan);
    Kokkos::Tools::Experimental::set_allocate_data_callback(count_allocation);
    Kokkos::Tools::Experimental::set_begin_fence_callback(count_fence);
    exec.fence();
    CHECK(events == 1); // the counter counts
    events = 0;
    spla::prefill(exec, part(q, 0, 1200), part(k, 0, 1200), part(v, 0, 1200), part(out, 0, 1200), state, o, scratch);
    spla::append(exec, part(k, 1200, 1201), part(v, 1200, 1201), k, v, state, o);
    spla::decode(exec, part(q, 1200, 1201), k, v, part(out, 1200, 1201), state, o, decode_scratch);
    int const counted = events;
    Kokkos::Tools::Experimental::set_allocate_data_callback(nullptr);
    Kokkos::Tools::Experimental::set_begin_fence_callback(nullptr);
    CHECK(counted == 0);
}
