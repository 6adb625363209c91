// SPDX-FileCopyrightText: The spla authors
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#include "conformance/conforms.hpp"

using namespace spla_test;

namespace
{
/// Lists that no selection would make: of every competing block, or of about half, a third ... whatever the masses.
template <class Exec>
int_lists<typename Exec::memory_space> lists_of_our_own(shape const& s, spla::options<> const& o, int capacity)
{
    auto const tile = spla::window_of(o).tile;
    auto const tiles = spla::tile_count(s.queries, s.keys, tile);
    auto const made = unwritten_lists<typename Exec::memory_space>(s.batch, tiles, s.key_heads, capacity);
    auto const copy = on_host(made);
    std::mt19937 engine(17);
    for (int b = 0; b < s.batch; ++b)
        for (int t = 0; t < tiles; ++t)
            for (int h = 0; h < s.key_heads; ++h)
            {
                auto const competing =
                    spla::window_of(o).competing((spla::floor_divide(s.keys - s.queries, tile) + t) * tile);
                int length = 0;
                for (auto block = competing.begin; block < competing.end && length < capacity; ++block)
                    if (engine() % (1 + t % 4) == 0) copy.indices(b, t, h, length++) = static_cast<int>(block);
                copy.lengths(b, t, h) = length;
                for (int i = length; i < capacity; ++i) copy.indices(b, t, h, i) = -1;
            }
    from_host(copy, made);
    return made;
}
} // namespace

TEMPLATE_LIST_TEST_CASE("a caller's own lists, longer than top_k, in prefill and decode", "[conformance][lists]",
                        spaces)
{
    using call = calls<TestType, float>;
    TestType const exec;
    for (auto const share : {spla::sharing::per_token(), spla::sharing::first_query(8), spla::sharing::tile_sum(32)})
        for (auto const mode : {spla::residual_mode::subtract, spla::residual_mode::direct})
            for (bool const decodes : {false, true})
            {
                auto o = small_options();
                o.share = share, o.top_k = 2, o.residual = mode,
                o.may_read_unselected = mode == spla::residual_mode::direct;
                shape const s{2, 85, 300, 4, 2, 16, 16}; // begins inside a tile of 8 and of 32
                data<TestType> const d(s, 12);
                results<TestType> r(s, o);
                r.lists = lists_of_our_own<TestType>(s, o, 20);
                auto state = call::make_state(exec, d.problem(), o);
                for (int t = 0; t < 300; t += 100)
                    call::append(exec, tokens(d.key, t, t + 100), tokens(d.value, t, t + 100), d.key, d.value, state,
                                 o);
                spla::attention_extras<float> e;
                e.use_lists(r.lists).return_lse(r.lse_of(0, 85)).return_branches(r.sparse, r.residual);
                if (decodes)
                    call::decode(exec, d.query, d.key, d.value, r.output, state, o,
                                 call::decode_scratch(exec, d.problem(), o, 20), e);
                else
                    call::prefill(exec, d.query, d.key, d.value, r.output, state, o,
                                  call::prefill_scratch(exec, d.problem(), o), e);
                exec.fence();
                verdict v;
                hold_arithmetic(v, d, r, o);
                INFO(spla::name(share.kind) << (decodes ? ", decode\n" : ", prefill\n") << v.text());
                CHECK(v.passed());
                CHECK(v.residual.compared > 0);
            }
}

TEMPLATE_LIST_TEST_CASE("what is invalid in a caller's list is passed over and never read", "[lists]", spaces)
{
    // Ours with entries out of range, repeated, descending and lengths beyond the capacity: as if those were not there.
    using call = calls<TestType, float>;
    TestType const exec;
    auto const o = small_options();
    shape const s{1, 200, 200, 4, 2, 16, 16};
    data<TestType> const d(s, 13);
    results<TestType> good(s, o), bad(s, o);
    good.lists = lists_of_our_own<TestType>(s, o, 3);
    bad.lists = unwritten_lists<typename TestType::memory_space>(1, 200, 2, 8);
    auto const from = on_host(good.lists), to = on_host(bad.lists);
    for (int t = 0; t < 200; ++t)
        for (int h = 0; h < 2; ++h)
        {
            int const end = static_cast<int>(spla::window_of(o).competing(t).end), length = from.lengths(0, t, h);
            int const a = length > 0 ? from.indices(0, t, h, 0) : -1, b = length > 1 ? from.indices(0, t, h, 1) : -1;
            int const c = length > 2 ? from.indices(0, t, h, 2) : -1;
            int const entries[8] = {-5, a, a, 0, b, c, end, 1 << 30}; // 0 is a sink, `end` is forced
            for (int i = 0; i < 8; ++i) to.indices(0, t, h, i) = entries[i];
            to.lengths(0, t, h) = 4000;
        }
    from_host(to, bad.lists);
    for (auto* r : {&good, &bad})
    {
        auto state = call::make_state(exec, d.problem(), o);
        spla::attention_extras<float> e;
        e.use_lists(r->lists).return_lse(r->lse_of(0, 200)).return_branches(r->sparse, r->residual);
        call::prefill(exec, d.query, d.key, d.value, r->output, state, o, call::prefill_scratch(exec, d.problem(), o),
                      e);
        exec.fence();
    }
    CHECK(same_bits(good.output, bad.output));
    CHECK(same_bits(good.sparse, bad.sparse));
    CHECK(same_bits(good.residual, bad.residual));
    CHECK(same_bits(good.lse, bad.lse));
}
