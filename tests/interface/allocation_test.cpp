// SPDX-FileCopyrightText: The spla authors
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
// The contract that an engine captures graphs by: after warm_up() no call makes Kokkos allocate or fence.
#include "catch.hpp"
#include "conformance/core.hpp"
#include "conformance/kokkos_events.hpp"

#include <string>
#include <vector>

using namespace spla_test;

namespace
{
struct variant
{
    char const* name;
    spla::options<> o;
};

/// Options that take other kernels or write elsewhere.
std::vector<variant> variants()
{
    spla::options<> o;
    o.top_k = 4, o.segment_tokens = 512; // several segments in a prefill
    std::vector<variant> all{{"defaults", o}};
    auto const add = [&](char const* name, spla::options<> const& changed) { all.push_back({name, changed}); };
    spla::options<> changed = o;
    changed.share = spla::sharing::first_query(16);
    add("first_query", changed);
    changed.share = spla::sharing::tile_sum(128);
    add("tile_sum", changed);
    changed = o, changed.normalised = true;
    add("normalised", changed);
    changed = o, changed.combine = spla::combination_kind::separate;
    add("separate", changed);
    changed = o, changed.combine = spla::combination_kind::sparse_only;
    add("sparse_only", changed);
    changed = o, changed.residual = spla::residual_mode::direct, changed.may_read_unselected = true;
    add("direct", changed);
    changed = o, changed.storage = spla::summary_storage::int8, changed.sub_blocks = 2, changed.top_p = 0.9;
    add("int8, sub_blocks, top_p", changed);
    return all;
}

constexpr int prompt = 1200, whole = 1201;
} // namespace

TEMPLATE_LIST_TEST_CASE("allocations and fences are seen", "[contract]", spaces)
{
    TestType const exec;
    seen_events const fenced = events_of([&] { exec.fence("a fence"); });
    CHECK(fenced.fences == 1);
    CHECK(fenced.last == "a fence");
    seen_events const made = events_of([&] {
        Kokkos::View<float*, typename TestType::memory_space> const v(
            Kokkos::view_alloc(exec, Kokkos::WithoutInitializing, "an allocation"), 100);
    });
    CHECK(made.allocations == 1);
}

TEMPLATE_LIST_TEST_CASE("after warm_up prefill, append and decode neither allocate nor fence", "[contract]", spaces)
{
    using call = calls<TestType, float>;
    using space = typename TestType::memory_space;
    TestType const exec;
    data<TestType> const d({1, whole, whole, 4, 2, 64, 64}, 1);
    auto const key = empty_view<float, space>(1, whole, 2, 64), value = empty_view<float, space>(1, whole, 2, 64);
    for (variant const& v : variants())
    {
        INFO(v.name);
        auto const& o = v.o;
        results<TestType> const r(d.size, o);
        bool const both = o.combine != spla::combination_kind::sparse_only;
        auto const extras = [&](int begin, int end) {
            typename call::extras e;
            e.return_lse(r.lse_of(begin, end));
            if (both) e.return_branches(tokens(r.sparse, begin, end), tokens(r.residual, begin, end));
            return e;
        };
        auto const of_prompt = extras(0, prompt), of_step = extras(prompt, whole);
        auto state = call::make_state(exec, d.problem(), o);
        auto const scratch = call::prefill_scratch(exec, d.problem(), o),
                   step_scratch = call::decode_scratch(exec, d.problem(), o);
        auto const query = tokens(d.query, 0, prompt), last_query = tokens(d.query, prompt, whole);
        auto const output = tokens(r.output, 0, prompt), last_output = tokens(r.output, prompt, whole);
        auto const prompt_key = tokens(d.key, 0, prompt), last_key = tokens(d.key, prompt, whole);
        auto const prompt_value = tokens(d.value, 0, prompt), last_value = tokens(d.value, prompt, whole);
        from_host(on_host(d.key), key);
        from_host(on_host(d.value), value);
        spla::warm_up(exec, spla::plan_prefill(exec, d.problem(), o));
        spla::warm_up(exec, spla::plan_decode(exec, d.problem(), o));
        expect_none("prefill", [&] {
            call::prefill(exec, query, prompt_key, prompt_value, output, state, o, scratch, of_prompt);
        });
        expect_none("append", [&] { call::append(exec, last_key, last_value, key, value, state, o); });
        expect_none("decode",
                    [&] { call::decode(exec, last_query, key, value, last_output, state, o, step_scratch, of_step); });
        exec.fence();
        CHECK(state.tokens == whole);
    }
}

TEMPLATE_LIST_TEST_CASE("after warm_up the stages alone neither allocate nor fence", "[contract]", spaces)
{
    using call = calls<TestType, float>;
    TestType const exec;
    data<TestType> const d({1, whole, whole, 4, 2, 64, 64}, 2);
    for (variant const& v : variants())
    {
        INFO(v.name);
        auto o = v.o;
        o.segment_tokens = 2048; // one append of all
        results<TestType> const r(d.size, o);
        auto state = call::make_state(exec, d.problem(), o);
        typename call::extras given, given_with_lse;
        given.use_lists(r.lists);
        given_with_lse.use_lists(r.lists).return_lse(r.lse_of(0, whole));
        spla::warm_up(exec, spla::plan_prefill(exec, d.problem(), o));
        expect_none("append in place", [&] { call::append(exec, d.key, d.value, d.key, d.value, state, o); });
        expect_none("block_statistics", [&] { call::block_statistics(exec, d.key, state, 0, whole / o.block, o); });
        expect_none("select", [&] { call::select(exec, d.query, d.key, state, r.lists, o); });
        expect_none("selected_attention",
                    [&] { call::selected_attention(exec, d.query, d.key, d.value, r.sparse, o, given_with_lse); });
        if (o.combine == spla::combination_kind::sparse_only) continue; // its state has no residual part
        expect_none("residual_attention",
                    [&] { call::residual_attention(exec, d.query, d.key, d.value, r.residual, state, o, given); });
        if (o.combine == spla::combination_kind::separate) o.combine = spla::combination_kind::rms_sum;
        expect_none("combine", [&] { call::combine(exec, r.sparse, r.residual, r.output, o); });
    }
    exec.fence();
}
