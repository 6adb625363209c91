// SPDX-FileCopyrightText: The spla authors
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#include "conformance/conforms.hpp"

using namespace spla_test;

TEMPLATE_LIST_TEST_CASE("the stages alone make what prefill makes", "[stages]", spaces)
{
    using call = calls<TestType, float>;
    TestType const exec;
    for (auto const kind : {spla::combination_kind::rms_sum, spla::combination_kind::sum})
        for (auto const share :
             {spla::sharing::per_token(), spla::sharing::first_query(8), spla::sharing::tile_sum(32)})
        {
            auto o = small_options();
            o.segment_tokens = 256, o.share = share, o.combine = kind;
            data<TestType> const d({2, 200, 200, 4, 2, 16, 16}, 8);
            auto const r = run_prefill(d, o);
            auto state = call::make_state(exec, d.problem(), o);
            call::append(exec, d.key, d.value, d.key, d.value, state, o);
            results<TestType> s(d.size, o);
            call::select(exec, d.query, d.key, state, s.lists, o);
            spla::attention_extras<float> e;
            e.use_lists(s.lists);
            call::residual_attention(exec, d.query, d.key, d.value, s.residual, state, o, e);
            e.return_lse(s.lse_of(0, 200));
            call::selected_attention(exec, d.query, d.key, d.value, s.sparse, o, e);
            call::combine(exec, s.sparse, s.residual, s.output, o);
            exec.fence();
            CHECK(same_bits(on_host(r.lists), on_host(s.lists)));
            CHECK(same_bits(r.sparse, s.sparse));
            CHECK(same_bits(r.residual, s.residual));
            CHECK(same_bits(r.lse, s.lse));
            auto const v = hold(d, s, o);
            INFO(v.text());
            CHECK(v.passed());
        }
}

TEMPLATE_LIST_TEST_CASE("separate branches, combined with norm weights, are what prefill makes of them", "[stages]",
                        spaces)
{
    using call = calls<TestType, float>;
    TestType const exec;
    auto o = small_options();
    data<TestType> const d({1, 150, 150, 4, 2, 16, 24}, 9, false, true);
    o.combine = spla::combination_kind::separate;
    auto r = run_prefill(d, o);
    auto const untouched = on_host(r.output);
    CHECK(std::all_of(untouched.data(), untouched.data() + untouched.size(), [](float x) { return std::isnan(x); }));
    CHECK(hold(d, r, o).passed());
    for (auto const kind :
         {spla::combination_kind::rms_sum, spla::combination_kind::sum, spla::combination_kind::sparse_only})
    {
        o.combine = kind;
        spla::attention_extras<float> e;
        e.norm_weights(d.sparse_weight, d.residual_weight);
        call::combine(exec, r.sparse, r.residual, r.output, o, e);
        exec.fence();
        auto const v = hold(d, r, o);
        INFO(v.text());
        CHECK(v.passed());
    }
}

TEMPLATE_LIST_TEST_CASE("block_statistics makes the summaries that append makes, block by block", "[stages]", spaces)
{
    using call = calls<TestType, float>;
    TestType const exec;
    for (auto const storage : {spla::summary_storage::fp32, spla::summary_storage::bf16, spla::summary_storage::int8})
    {
        auto o = small_options();
        o.segment_tokens = 256, o.storage = storage, o.sub_blocks = 2;
        data<TestType> const d({2, 200, 200, 4, 2, 16, 16}, 10);
        auto whole = call::make_state(exec, d.problem(), o), parts = call::make_state(exec, d.problem(), o);
        Kokkos::deep_copy(whole.buffer(), std::byte{0x5a});
        Kokkos::deep_copy(parts.buffer(), std::byte{0x5a});
        call::append(exec, d.key, d.value, d.key, d.value, whole, o);
        call::block_statistics(exec, d.key, parts, 0, 5, o);
        call::block_statistics(exec, d.key, parts, 11, 1, o);
        call::block_statistics(exec, d.key, parts, 5, 6, o);
        call::block_statistics(exec, d.key, parts, 12, 0, o);
        exec.fence();
        auto const a = Kokkos::create_mirror_view_and_copy(Kokkos::HostSpace{}, whole.buffer());
        auto const b = Kokkos::create_mirror_view_and_copy(Kokkos::HostSpace{}, parts.buffer());
        auto const end = whole.layout().linear; // summaries and scales lie before
        REQUIRE(end > 0);
        CHECK(std::memcmp(a.data(), b.data(), end) == 0);
        CHECK(std::all_of(b.data() + end, b.data() + b.size(), [](std::byte x) { return x == std::byte{0x5a}; }));
        CHECK(parts.tokens == 0);
        CHECK(whole.summary_end == 12);
        CHECK(parts.summary_end == 11); // block 11 came before 5 to 10: only what follows without a gap is counted
    }
}
