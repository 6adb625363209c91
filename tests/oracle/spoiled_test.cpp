// SPDX-FileCopyrightText: The spla authors
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
// The oracle on trial: every kind of wrong result that a kernel might return must fail it, in the branch where it is
// wrong, whatever the inputs' type and that of the stored outputs.
#include "catch.hpp"
#include "conformance/core.hpp"

#include <cmath>

using namespace spla_test;

namespace
{
template <class Elements>
struct trial
{
    using Element = typename Elements::input;
    using Out = typename Elements::output;
    using call = calls<host, Element, spla::options<>, Out>;
    using made = results<host, Element, Out>;
    using inputs = data<host, Element>;

    static constexpr int tokens_ = 260;
    shape size{1, tokens_, tokens_, 4, 2, 16, 16};
    spla::options<> o = small_options();
    inputs d{size, 11, false, true};
    made good = run(d);

    trial() : o(all_at_once()) {}
    static spla::options<> all_at_once()
    {
        auto o = small_options();
        o.segment_tokens = 320; // the stage of the residual needs every prefix state at once
        return o;
    }
    made run(inputs const& with) const
    {
        made const r(size, o);
        prefill_into(r, with, o, host());
        return r;
    }
    /// The good results once more, to be spoiled.
    made copy() const { return run(d); }
    verdict judged(made const& r) const
    {
        verdict v;
        hold_selection(v, d, r, o);
        hold_arithmetic(v, d, r, o);
        return v;
    }
    template <class T, class F>
    static void spoil(any_view<T, host::memory_space> const& v, F const& f)
    {
        auto const copy = on_host(v);
        for (std::size_t i = 0; i < copy.size(); ++i)
            copy.data()[i] = narrow<T>(f(spla::detail::widen<double>(copy.data()[i])));
        from_host(copy, v);
    }
    template <class T>
    static void put_nan(any_view<T, host::memory_space> const& v, int token, int head, int x)
    {
        auto const copy = on_host(v);
        copy(0, token, head, x) = narrow<T>(std::nan(""));
        from_host(copy, v);
    }
    /// Both branches by stages from the given inputs, states and lists, and their combination, into r.
    void by_stages(made const& r, inputs const& with, inputs const& of_state,
                   int_lists<host::memory_space> const& exact, int_lists<host::memory_space> const& subtracted) const
    {
        host const exec;
        auto state = call::make_state(exec, d.problem(), o);
        call::append(exec, of_state.key, of_state.value, of_state.key, of_state.value, state, o);
        spla::attention_extras<Element> e;
        e.use_lists(exact).return_lse(r.lse_of(0, tokens_));
        call::selected_attention(exec, with.query, with.key, with.value, r.sparse, o, e);
        e = {};
        e.use_lists(subtracted);
        call::residual_attention(exec, with.query, with.key, with.value, r.residual, state, o, e);
        spla::attention_extras<Out> weights;
        weights.norm_weights(d.sparse_weight, d.residual_weight);
        call::combine(exec, r.sparse, r.residual, r.output, o, weights);
        exec.fence();
    }
    /// The lists without the block of the largest mass of token 250, key head 0.
    int_lists<host::memory_space> without_one_block() const
    {
        auto const truth =
            spla::reference::select(d.host_sequence(0), o, spla::resolve(o.storage, spla::kind_of<Element>()), 0x1p-24);
        auto const& mass = truth.mass[250][0];
        int const best = truth.first[250] + static_cast<int>(std::max_element(mass.begin(), mass.end()) - mass.begin());
        auto const lists = on_host(good.lists);
        for (int i = 0; i < o.top_k; ++i)
            if (lists.indices(0, 250, 0, i) == best) lists.indices(0, 250, 0, i) = -1;
        int_lists<host::memory_space> const spoiled = unwritten_lists<host::memory_space>(1, tokens_, 2, o.top_k);
        from_host(lists, spoiled);
        return spoiled;
    }
};

template <class Input, class Output>
struct elements
{
    using input = Input;
    using output = Output;
};
using same_accuracy = std::tuple<elements<float, float>, elements<spla::bfloat16, float>,
                                 elements<spla::float16, float>, elements<spla::float16, spla::float16>>;
using every_output = std::tuple<elements<float, float>, elements<spla::bfloat16, float>, elements<spla::float16, float>,
                                elements<spla::float16, spla::float16>, elements<spla::bfloat16, spla::bfloat16>>;
} // namespace

TEMPLATE_LIST_TEST_CASE("good results pass, and by stages too", "[oracle]", every_output)
{
    trial<TestType> const t;
    auto const v = t.judged(t.good);
    INFO(v.text());
    CHECK(v.passed());
    for (auto const* c : {&v.sparse, &v.residual, &v.output, &v.lse}) CHECK(c->compared > 1000);
    CHECK(v.residual.worst > 0);
    auto const r = t.copy();
    t.by_stages(r, t.d, t.d, t.good.lists, t.good.lists);
    auto const w = t.judged(r);
    INFO(w.text());
    CHECK(w.passed());
}

TEMPLATE_LIST_TEST_CASE("one NaN fails, wherever it is", "[oracle]", every_output)
{
    trial<TestType> const t;
    auto const fails = [&](auto const& part, spla::reference::comparison verdict::*where) {
        auto const r = t.copy();
        t.put_nan(r.*part, 200, 1, 0);
        auto const v = t.judged(r);
        CHECK_FALSE(v.passed());
        CHECK_FALSE((v.*where).passed);
        CHECK((v.*where).failed == 1);
        CHECK((v.*where).where.find("head 1 (200, 0)") != std::string::npos);
    };
    using made = typename trial<TestType>::made;
    fails(&made::sparse, &verdict::sparse);
    fails(&made::residual, &verdict::residual);
    fails(&made::output, &verdict::output);
    fails(&made::lse, &verdict::lse);
}

TEMPLATE_LIST_TEST_CASE("another scale, by one per cent", "[oracle]", every_output)
{
    trial<TestType> t;
    auto const truth = t.o;
    t.o.scale = 1.01 / 4.0;
    auto const r = t.run(t.d);
    t.o = truth;
    auto const v = t.judged(r);
    CHECK_FALSE(v.sparse.passed);
    CHECK_FALSE(v.output.passed);
    CHECK_FALSE(v.lse.passed);
    CHECK(v.residual.passed); // phi is applied without the scale
}

TEMPLATE_LIST_TEST_CASE("log-sum-exp in base 2", "[oracle]", every_output)
{
    trial<TestType> const t;
    auto const r = t.copy();
    t.spoil(r.lse, [](double x) { return x * 1.4426950408889634; });
    CHECK_FALSE(t.judged(r).lse.passed);
}

TEMPLATE_LIST_TEST_CASE("the residual added twice", "[oracle]", every_output)
{
    for (auto const kind : {spla::combination_kind::rms_sum, spla::combination_kind::sum})
    {
        trial<TestType> t;
        t.o.combine = kind;
        auto const r = t.run(t.d);
        CHECK(t.judged(r).passed());
        t.spoil(r.residual, [](double x) { return 2 * x; });
        auto twice = t.d; // what adding it twice comes to
        twice.residual_weight = typename trial<TestType>::inputs::weights("twice", 4, 16);
        for (std::size_t i = 0; i < 64; ++i) twice.residual_weight.data()[i] = 2 * t.d.residual_weight.data()[i];
        Kokkos::deep_copy(r.output, t.run(twice).output);
        auto const v = t.judged(r);
        CHECK_FALSE(v.residual.passed);
        CHECK_FALSE(v.output.passed);
        CHECK(v.sparse.passed);
    }
}

TEMPLATE_LIST_TEST_CASE("outputs off by one per cent", "[oracle]", same_accuracy)
{
    trial<TestType> const t;
    for (auto const part :
         {&trial<TestType>::made::sparse, &trial<TestType>::made::residual, &trial<TestType>::made::output})
        t.spoil(t.good.*part, [](double x) { return 1.01 * x; });
    auto const v = t.judged(t.good);
    CHECK_FALSE(v.sparse.passed);
    CHECK_FALSE(v.residual.passed);
    CHECK_FALSE(v.output.passed);
}

// Stored in bf16, whose unit roundoff is 0.4 %, one per cent still shows in the branches; in the combination it is
// below the bound, which allows for the rounding of both branches and of both norms, and is not tried: five per cent
// are.
TEST_CASE("outputs in bf16 off by five per cent", "[oracle]")
{
    trial<elements<spla::bfloat16, spla::bfloat16>> const t;
    t.spoil(t.good.sparse, [](double x) { return 1.01 * x; });
    t.spoil(t.good.residual, [](double x) { return 1.01 * x; });
    t.spoil(t.good.output, [](double x) { return 1.05 * x; });
    auto const v = t.judged(t.good);
    CHECK_FALSE(v.sparse.passed);
    CHECK_FALSE(v.residual.passed);
    CHECK_FALSE(v.output.passed);
}

TEMPLATE_LIST_TEST_CASE("one block dropped, in the exact branch or in the subtraction", "[oracle]", every_output)
{
    trial<TestType> const t;
    auto const fewer = t.without_one_block();
    auto const exact = t.copy(), residual = t.copy();
    t.by_stages(exact, t.d, t.d, fewer, t.good.lists);
    auto const v = t.judged(exact);
    CHECK_FALSE(v.sparse.passed);
    CHECK_FALSE(v.lse.passed);
    CHECK_FALSE(v.output.passed);
    CHECK(v.residual.passed);
    t.by_stages(residual, t.d, t.d, t.good.lists, fewer);
    auto const w = t.judged(residual);
    CHECK_FALSE(w.residual.passed);
    CHECK_FALSE(w.output.passed);
    CHECK(w.sparse.passed);
}

TEMPLATE_LIST_TEST_CASE("one block shifted by a token", "[oracle]", every_output)
{
    trial<TestType> const t;
    typename trial<TestType>::inputs const shifted(t.size, 11, false, true);
    auto const key = on_host(shifted.key), value = on_host(shifted.value);
    for (int token = 96; token < 112; ++token)
        for (int h = 0; h < 2; ++h)
            for (int x = 0; x < 16; ++x)
            {
                key(0, token, h, x) = key(0, token + 1, h, x);
                value(0, token, h, x) = value(0, token + 1, h, x);
            }
    from_host(key, shifted.key);
    from_host(value, shifted.value);
    auto const all = t.copy(), state = t.copy();
    t.by_stages(all, shifted, t.d, t.good.lists, t.good.lists);
    auto const v = t.judged(all);
    CHECK_FALSE(v.sparse.passed);
    CHECK_FALSE(v.residual.passed);
    CHECK_FALSE(v.output.passed);
    CHECK_FALSE(v.lse.passed);
    t.by_stages(state, t.d, shifted, t.good.lists, t.good.lists); // in the linear state alone
    auto const w = t.judged(state);
    CHECK_FALSE(w.residual.passed);
    CHECK_FALSE(w.output.passed);
    CHECK(w.sparse.passed);
}

TEMPLATE_LIST_TEST_CASE("the state of one block missing", "[oracle]", every_output)
{
    trial<TestType> const t;
    typename trial<TestType>::inputs const less(t.size, 11, false, true);
    auto const value = on_host(less.value);
    for (int token = 64; token < 80; ++token)
        for (int h = 0; h < 2; ++h)
            for (int x = 0; x < 16; ++x) value(0, token, h, x) = narrow<typename TestType::input>(0.0);
    from_host(value, less.value);
    auto const r = t.copy();
    t.by_stages(r, t.d, less, t.good.lists, t.good.lists);
    auto const v = t.judged(r);
    CHECK_FALSE(v.residual.passed);
    CHECK_FALSE(v.output.passed);
    CHECK(v.sparse.passed);
}

TEMPLATE_LIST_TEST_CASE("norm weights ignored", "[oracle]", every_output)
{
    trial<TestType> const t;
    auto plain = t.d;
    plain.sparse_weight = plain.residual_weight = {};
    auto const v = t.judged(t.run(plain));
    CHECK_FALSE(v.output.passed);
    CHECK(v.sparse.passed);
    CHECK(v.residual.passed);
}

TEMPLATE_LIST_TEST_CASE("every query sees one key too many", "[oracle]", every_output)
{
    trial<TestType> const t;
    auto later = t.d;
    later.size.queries = t.tokens_ - 1;
    later.query = tokens(t.d.query, 0, t.tokens_ - 1); // query i at position i + 1
    typename trial<TestType>::made const r(later.size, t.o), of_truth(later.size, t.o);
    prefill_into(r, later, t.o, host());
    auto truth = later;
    truth.size.keys = t.tokens_ - 1;
    truth.key = tokens(t.d.key, 0, t.tokens_ - 1), truth.value = tokens(t.d.value, 0, t.tokens_ - 1);
    prefill_into(of_truth, truth, t.o, host());
    verdict v, w;
    hold_arithmetic(v, truth, r, t.o);
    hold_arithmetic(w, truth, of_truth, t.o);
    CHECK(w.passed());
    CHECK_FALSE(v.sparse.passed);
    CHECK_FALSE(v.lse.passed);
    CHECK_FALSE(v.output.passed);
}

TEMPLATE_LIST_TEST_CASE("another block selected, or one too few", "[oracle]", every_output)
{
    trial<TestType> const t;
    auto const truth = spla::reference::select(
        t.d.host_sequence(0), t.o, spla::resolve(t.o.storage, spla::kind_of<typename TestType::input>()), 0x1p-24);
    auto const& mass = truth.mass[250][0];
    int const worst = truth.first[250] + static_cast<int>(std::min_element(mass.begin(), mass.end()) - mass.begin());
    std::vector<int> list = truth.chosen[250][0];
    REQUIRE_FALSE(std::binary_search(list.begin(), list.end(), worst));
    list[0] = worst;
    std::sort(list.begin(), list.end());
    auto const spoiled = on_host(t.good.lists);
    for (int i = 0; i < t.o.top_k; ++i) spoiled.indices(0, 250, 0, i) = list[i];
    spoiled.lengths(0, 251, 1) -= 1;
    from_host(spoiled, t.good.lists);
    auto const v = t.judged(t.good);
    CHECK(v.wrong_lists + v.rounding_ties == 2);
    CHECK_FALSE(v.passed());
    bool const summaries_are_exact =
        spla::resolve(t.o.storage, spla::kind_of<typename TestType::input>()) == spla::summary_storage::fp32;
    if (summaries_are_exact) CHECK(v.first_wrong.find("tile 250, key head 0") != std::string::npos);
}
