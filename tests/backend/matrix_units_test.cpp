// SPDX-FileCopyrightText: The spla authors
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#include "conformance/conforms.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

using namespace spla_test;

// Sizes that matrix units take (blocks of 64), on every space: what they are held to, portable kernels are held to.
namespace
{
spla::options<> both_options()
{
    return block_options(2);
}
spla::options<> exact_options()
{
    auto o = both_options();
    o.combine = spla::combination_kind::sparse_only;
    return o;
}

template <class Exec, class Element, class Out>
void holds(data<Exec, Element> const& d, spla::options<> const& o)
{
    results<Exec, Element, Out> const r(d.size, o);
    prefill_into(r, d, o, Exec());
    verdict v;
    hold_arithmetic(v, d, r, o);
    INFO(d.size.text() << "\n" << v.text());
    CHECK(v.passed());
}
template <class Exec, class Element, class Out>
void holds(shape const& s, spla::options<> const& o)
{
    holds<Exec, Element, Out>(data<Exec, Element>(s, 5), o);
}
/// Numbers of one sign.
template <class View>
void give_sign(View const& v, float sign)
{
    auto const host = on_host(v);
    using T = typename View::non_const_value_type;
    for (std::size_t i = 0; i < host.span(); ++i)
        host.data()[i] = T(sign * std::abs(static_cast<float>(host.data()[i])));
    from_host(host, v);
}
} // namespace

TEMPLATE_LIST_TEST_CASE("the exact branch by blocks of 64", "[conformance][matrix_units]", host_and_device)
{
    auto const o = exact_options();
    for (shape const& s :
         {shape{1, 150, 420, 4, 1, 64, 64}, shape{2, 70, 517, 6, 2, 128, 128}, shape{1, 130, 390, 7, 1, 96, 80},
          shape{1, 260, 201, 5, 1, 32, 24}, shape{1, 150, 380, 2, 2, 128, 64}, shape{1, 3, 450, 64, 1, 64, 128},
          shape{1, 150, 420, 4, 1, 192, 128}, shape{2, 70, 517, 6, 2, 256, 256}, shape{1, 130, 390, 7, 1, 160, 96},
          shape{1, 260, 201, 5, 1, 200, 24}, shape{1, 3, 450, 64, 1, 64, 136}})
    {
        holds<TestType, spla::bfloat16, float>(s, o);
        holds<TestType, spla::float16, float>(s, o);
    }
}

TEMPLATE_LIST_TEST_CASE("both branches by blocks of 64", "[conformance][matrix_units]", host_and_device)
{
    using spla::combination_kind;
    for (shape const& s :
         {shape{1, 150, 420, 4, 1, 64, 64}, shape{2, 70, 517, 6, 2, 128, 128}, shape{1, 130, 390, 7, 1, 96, 80},
          shape{1, 260, 201, 5, 1, 32, 24}, shape{1, 150, 380, 2, 2, 128, 64}, shape{1, 3, 450, 64, 1, 64, 128}})
        for (auto const combine : {combination_kind::rms_sum, combination_kind::sum, combination_kind::separate})
        {
            auto o = both_options();
            o.combine = combine;
            INFO("combination " << static_cast<int>(combine));
            conforms<TestType, spla::bfloat16>(s, o, 5);
        }
}

TEMPLATE_LIST_TEST_CASE("both branches by blocks of 64: options", "[conformance][matrix_units]", host_and_device)
{
    shape const s{1, 200, 456, 8, 2, 64, 64};
    auto const holds_with = [&](char const* what, auto const& change) {
        auto o = both_options();
        change(o);
        INFO(what);
        conforms<TestType, spla::bfloat16>(s, o, 6);
    };
    holds_with("normalised", [](auto& o) { o.normalised = true; });
    holds_with("first_query<32>", [](auto& o) { o.share = spla::sharing::first_query(32); });
    holds_with("tile_sum<128>", [](auto& o) { o.share = spla::sharing::tile_sum(128, 4); });
    holds_with("everything selected", [](auto& o) { o.top_k = 54; });
    holds_with("nothing selected", [](auto& o) { o.top_k = 0; });
    holds_with("a window of everything", [](auto& o) { o.local_blocks = std::numeric_limits<int>::max(); });
    holds_with("top_p", [](auto& o) { o.top_p = 0.4; });
    holds_with("segments", [](auto& o) { o.segment_tokens = 64; });
    holds_with("two sub-blocks", [](auto& o) { o.sub_blocks = 2; });
    holds_with("summaries in int8", [](auto& o) { o.storage = spla::summary_storage::int8; });
    holds_with("summaries of two sub-blocks in int8",
               [](auto& o) { o.storage = spla::summary_storage::int8, o.sub_blocks = 2, o.sink_blocks = 1; });
    holds_with("the paper's metric", [](auto& o) { o.kept_keys = 0; });
}

TEMPLATE_LIST_TEST_CASE("where everything is selected and nothing but the output is asked for",
                        "[conformance][matrix_units]", host_and_device)
{
    using call = calls<TestType, spla::bfloat16>;
    using spla::combination_kind;
    TestType const exec;
    for (auto const combine : {combination_kind::rms_sum, combination_kind::sum, combination_kind::sparse_only})
        for (auto const& share : {spla::sharing::per_token(), spla::sharing::tile_sum(128, 4)})
            for (shape const& s : {shape{1, 150, 420, 4, 1, 64, 64}, shape{2, 70, 517, 6, 2, 128, 96}})
            {
                auto o = both_options();
                o.top_k = 54, o.combine = combine, o.share = share;
                data<TestType, spla::bfloat16> const d(s, 9);
                auto const r = run_prefill(d, o);
                auto state = call::make_state(exec, d.problem(), o);
                auto const scratch = spla::make_workspace(exec, spla::plan_prefill(exec, d.problem(), o));
                Kokkos::deep_copy(r.output, std::numeric_limits<float>::quiet_NaN());
                spla::prefill(exec, d.query, d.key, d.value, r.output, state, o, scratch);
                exec.fence();
                auto const v = hold(d, r, o);
                INFO(s.text() << ", combination " << static_cast<int>(combine) << "\n" << v.text());
                CHECK(v.passed());
            }
}

TEMPLATE_LIST_TEST_CASE("a prefill by blocks of 64 is its chunks and its decode steps", "[invariants][matrix_units]",
                        host_and_device)
{
    for (bool const appends : {false, true})
    {
        auto const o = both_options();
        data<TestType, spla::bfloat16> const d({2, 330, 330, 4, 2, 64, 64}, 3);
        stepper<TestType, spla::bfloat16> s(d, o);
        if (appends) s.append(0, 130); // without a workspace
        s.prefill(0, 130);
        s.prefill(130, 200);
        s.prefill(200, 301);
        for (int t = 301; t < 320; ++t) s.step(t, t + 1);
        s.step(320, 330);
        auto const whole = run_prefill(d, o);
        auto const v = hold(d, s.r, o), w = hold(d, whole, o);
        INFO(v.text() << "\n" << w.text());
        CHECK(v.passed());
        CHECK(w.passed());
    }
}

TEMPLATE_LIST_TEST_CASE("the stages alone by blocks of 64, the residual's with a workspace", "[stages][matrix_units]",
                        host_and_device)
{
    using call = calls<TestType, spla::bfloat16>;
    TestType const exec;
    auto o = both_options();
    o.segment_tokens = 512, o.combine = spla::combination_kind::separate;
    data<TestType, spla::bfloat16> const d({2, 330, 330, 4, 2, 64, 64}, 8);
    auto state = call::make_state(exec, d.problem(), o);
    call::append(exec, d.key, d.value, d.key, d.value, state, o);
    results<TestType, spla::bfloat16> const r(d.size, o);
    call::select(exec, d.query, d.key, state, r.lists, o);
    spla::attention_extras<spla::bfloat16> e;
    e.use_lists(r.lists);
    auto const scratch = spla::make_workspace(exec, spla::plan_residual_attention(exec, d.problem(), o, o.top_k));
    spla::residual_attention(exec, d.query, d.key, d.value, r.residual, state, o, e, scratch);
    e.return_lse(r.lse_of(0, 330));
    auto const visits = spla::make_workspace(exec, spla::plan_selected_attention(exec, d.problem(), o, o.top_k));
    spla::selected_attention(exec, d.query, d.key, d.value, r.sparse, o, e, visits);
    exec.fence();
    auto const v = hold(d, r, o);
    INFO(v.text());
    CHECK(v.passed());
}

TEMPLATE_LIST_TEST_CASE("appends with a workspace make prefill's states, bit for bit", "[invariants][matrix_units]",
                        host_and_device)
{
    using call = calls<TestType, spla::bfloat16>;
    TestType const exec;
    for (shape const& s : {shape{2, 700, 700, 4, 2, 64, 64}, shape{1, 700, 700, 2, 1, 128, 80}})
        for (bool const normalised : {false, true})
        {
            auto o = both_options();
            o.normalised = normalised, o.combine = spla::combination_kind::sum;
            data<TestType, spla::bfloat16> const d(s, 12);
            auto const linear = [](auto const& state) {
                auto const& l = state.layout();
                auto const host = Kokkos::create_mirror_view_and_copy(Kokkos::HostSpace{}, state.buffer());
                return std::vector<std::byte>(host.data() + l.linear, host.data() + l.prefix);
            };
            auto filled = call::make_state(exec, d.problem(), o);
            results<TestType, spla::bfloat16> const r(d.size, o);
            auto const scratch = spla::make_workspace(exec, spla::plan_prefill(exec, d.problem(), o));
            call::prefill(exec, d.query, d.key, d.value, r.output, filled, o, scratch);
            auto appended = call::make_state(exec, d.problem(), o);
            auto chunk = d.problem();
            chunk.queries = 333;
            auto const how = spla::plan_append(exec, chunk, o);
            auto const room = spla::make_workspace(exec, how);
            for (int first = 0; first < s.keys;)
            {
                int const last = std::min(first + 333, s.keys);
                spla::append(exec, tokens(d.key, first, last), tokens(d.value, first, last), d.key, d.value, appended,
                             o, spla::attention_extras<spla::bfloat16>{}, room);
                first = last;
            }
            exec.fence();
            CHECK(linear(appended) == linear(filled));
            if (how.workspace_bytes == 0) continue;
            auto const small = Kokkos::subview(room, std::pair<std::size_t, std::size_t>(0, how.workspace_bytes / 2));
            auto fresh = call::make_state(exec, d.problem(), o);
            CHECK_THROWS_AS(spla::append(exec, tokens(d.key, 0, 333), tokens(d.value, 0, 333), d.key, d.value, fresh, o,
                                         spla::attention_extras<spla::bfloat16>{}, small),
                            spla::argument_error);
        }
}

TEMPLATE_LIST_TEST_CASE("a workspace for prefill is enough for fewer tokens, and for fewer keys", "[matrix_units]",
                        host_and_device)
{
    auto o = block_options(64);
    for (auto const share :
         {spla::sharing::per_token(), spla::sharing::first_query(32), spla::sharing::tile_sum(128, 4)})
    {
        o.share = share;
        auto const bytes = [&](std::int64_t queries, std::int64_t keys) {
            return spla::plan_prefill(TestType(), bare_sizes(queries, keys), o).workspace_bytes;
        };
        std::int64_t const sizes[] = {1, 9, 63, 64, 65, 127, 129, 1000, 4096, 4097, 8192, 16000, 32768, 40000};
        std::int64_t fewer_keys = 1;
        for (auto const keys : sizes)
        {
            std::int64_t fewer = 1;
            for (auto const queries : sizes)
            {
                if (queries > keys) break;
                INFO(queries << " of " << keys << " tokens");
                CHECK(bytes(queries, keys) >= bytes(fewer, keys));
                CHECK(bytes(queries, keys) >= bytes(std::min(queries, fewer_keys), fewer_keys));
                fewer = queries;
            }
            fewer_keys = keys;
        }
    }
}

TEMPLATE_LIST_TEST_CASE("the exact branch of shared lists, stored in the inputs' type", "[conformance][matrix_units]",
                        host_and_device)
{
    auto o = exact_options();
    for (auto const share :
         {spla::sharing::per_token(), spla::sharing::first_query(32), spla::sharing::tile_sum(128, 4)})
    {
        o.share = share;
        holds<TestType, spla::bfloat16, spla::bfloat16>({1, 200, 456, 8, 2, 64, 64}, o);
        holds<TestType, spla::float16, spla::float16>({1, 130, 450, 3, 1, 128, 128}, o);
        holds<TestType, spla::bfloat16, spla::bfloat16>({1, 130, 450, 3, 1, 256, 256}, o);
    }
}

TEMPLATE_LIST_TEST_CASE("the exact branch of logits that outgrow the first block's", "[conformance][matrix_units]",
                        host_and_device)
{
    // Rows whose largest logit comes late, and is far above 2^14 times all before, or beyond what exp holds.
    auto o = exact_options();
    for (double const scale : {4.0, 30.0})
    {
        o.scale = scale;
        for (int const width : {64, 192, 256})
            holds<TestType, spla::bfloat16, float>({1, 140, 330, 4, 1, width, width == 192 ? 128 : width}, o);
    }
}

TEMPLATE_LIST_TEST_CASE("the exact branch of logits that are all negative", "[conformance][matrix_units]",
                        host_and_device)
{
    // As integers such numbers lie in the other order; and their softmax may not lose what is far below exp(0).
    auto o = exact_options();
    for (double const scale : {0.05, 4.0, 30.0})
    {
        o.scale = scale;
        for (int const width : {64, 128, 256})
        {
            data<TestType, spla::bfloat16> const d({1, 140, 330, 4, 1, width, width}, 5);
            give_sign(d.query, -1.0f), give_sign(d.key, 1.0f);
            holds<TestType, spla::bfloat16, float>(d, o);
        }
    }
}

TEMPLATE_LIST_TEST_CASE("a row of a batch is that row alone: blocks of 64", "[invariants][matrix_units]",
                        host_and_device)
{
    for (auto const& o : {exact_options(), both_options()})
    {
        data<TestType, spla::bfloat16> const d({3, 260, 260, 4, 2, 64, 64}, 6);
        auto const all = run_prefill(d, o);
        for (int b = 0; b < 3; ++b)
        {
            auto one = d;
            one.size.batch = 1;
            one.query = sequence(d.query, b), one.key = sequence(d.key, b), one.value = sequence(d.value, b);
            auto const alone = run_prefill(one, o);
            CHECK(same_bits(sequence(all.output, b), alone.output));
            CHECK(same_bits(sequence(all.lse, b), alone.lse));
        }
    }
}

TEMPLATE_LIST_TEST_CASE("the exact branch never reads what no query of the call sees", "[invariants][matrix_units]",
                        host_and_device)
{
    TestType const exec;
    auto const o = exact_options();
    for (int const width : {64, 256})
    {
        shape const s{1, 40, 450, 4, 2, width, width}; // own blocks 6 and 7, forced from 5 on
        data<TestType, spla::bfloat16> const d({1, 512, 512, 4, 2, width, width}, 7);
        auto const lists = unwritten_lists<typename TestType::memory_space>(1, 40, 2, 3);
        auto const made = on_host(lists);
        for (int t = 0; t < 40; ++t)
            for (int h = 0; h < 2; ++h)
            {
                made.indices(0, t, h, 0) = 2, made.lengths(0, t, h) = 1;
                made.indices(0, t, h, 1) = made.indices(0, t, h, 2) = -1;
            }
        from_host(made, lists);
        spla::problem p = d.problem();
        p.queries = 40, p.keys = 450;
        auto const visits = spla::make_workspace(exec, spla::plan_selected_attention(exec, p, o, 3));
        auto const attend = [&](results<TestType, spla::bfloat16> const& r) {
            spla::attention_extras<spla::bfloat16> e;
            e.use_lists(lists).return_lse(r.lse_of(0, 40));
            spla::selected_attention(exec, tokens(d.query, 0, 40), tokens(d.key, 0, 450), tokens(d.value, 0, 450),
                                     r.sparse, o, e, visits);
            exec.fence();
        };
        results<TestType, spla::bfloat16> const before(s, o), after(s, o);
        attend(before);
        auto const poison = [width](auto const& view) {
            auto const copy = on_host(view);
            for (int t = 0; t < 512; ++t)
                if (t / 64 == 1 || t / 64 == 3 || t / 64 == 4 || t >= 450)
                    for (int h = 0; h < 2; ++h)
                        for (int i = 0; i < width; ++i)
                            copy(0, t, h, i) = spla::bfloat16(std::numeric_limits<float>::quiet_NaN());
            from_host(copy, view);
        };
        poison(d.key);
        poison(d.value);
        attend(after);
        CHECK(same_bits(before.sparse, after.sparse));
        CHECK(same_bits(before.lse, after.lse));
        auto const finite = on_host(after.sparse);
        CHECK(std::all_of(finite.data(), finite.data() + finite.size(), [](float x) { return std::isfinite(x); }));
    }
}
