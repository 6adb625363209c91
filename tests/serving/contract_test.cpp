// SPDX-FileCopyrightText: The spla authors
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
// The contract that an engine captures graphs by: after warm_up() no step makes Kokkos allocate or fence.
#include "../conformance/kokkos_events.hpp"
#include "engine.hpp"

using namespace spla_test;

TEMPLATE_LIST_TEST_CASE("after warm_up a step neither allocates nor fences", "[serving][contract]", spaces)
{
    using space = typename TestType::memory_space;
    engine_sizes z;
    z.queries = 40;
    for (int variant = 0; variant < 4; ++variant)
    {
        INFO("variant " << variant);
        auto o = small_options();
        o.local_blocks = 12; // decoded tokens in several runs
        if (variant == 1) o.share = spla::sharing::first_query(8), o.normalised = true;
        if (variant == 2) o.combine = spla::combination_kind::sparse_only;
        if (variant == 3) o.share = spla::sharing::tile_sum(32), o.storage = spla::summary_storage::int8;
        engine<TestType> e(z, o, cache_layout::slots);
        spla::warm_up(e.exec, e.plan);
        int const tokens = 43; // a chunk, a decoded token, padding, and a decode of two
        typename engine<TestType>::indices const offsets("offsets", 5), lengths("lengths", 4), slots("slots", 4);
        auto const set = [](auto const& v, std::vector<int> const& values) {
            auto const host = Kokkos::create_mirror_view(v);
            std::copy(values.begin(), values.end(), host.data());
            Kokkos::deep_copy(v, host);
        };
        set(offsets, {0, 40, 41, 41, 43}), set(lengths, {40, 1, 9, 2}), set(slots, {2, 0, 3, 5});
        using view = typename engine<TestType>::token_view;
        view const query("query", tokens, z.query_heads, z.head_dim),
            output("output", tokens, z.query_heads, z.value_dim);
        view const new_key("key", tokens, z.key_heads, z.head_dim),
            new_value("value", tokens, z.key_heads, z.value_dim);
        spla::sequence_batch<space> const batch{offsets, lengths, slots};
        spla::slot_cache<typename engine<TestType>::cache_view, typename engine<TestType>::cache_view> const cache{
            e.key, e.value};
        Kokkos::deep_copy(output, 7.0f);
        expect_none("write_cache",
                    [&] { spla::write_cache(e.exec, e.plan, batch, new_key, new_value, cache, e.pool); });
        expect_none("run_batch",
                    [&] { spla::run_batch(e.exec, e.plan, batch, query, cache, output, e.pool, e.scratch); });
        expect_none("fork_slots", [&] { spla::fork_slots(e.exec, e.pool, slots, slots); });
        e.exec.fence();
        auto const made = Kokkos::create_mirror_view_and_copy(Kokkos::HostSpace{}, output);
        CHECK(made(42, 3, 11) != 7.0f);
    }
}
