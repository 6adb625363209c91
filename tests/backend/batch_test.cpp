// SPDX-FileCopyrightText: The spla authors
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#include "conformance/conforms.hpp"

using namespace spla_test;

namespace
{
/// The sequences of a problem in another order.
template <class Exec>
data<Exec> in_order(data<Exec> const& d, std::vector<int> const& order)
{
    data<Exec> made = d;
    made.size.batch = static_cast<int>(order.size());
    auto const moved = [&](any_view<float, typename Exec::memory_space> const& v) {
        auto const to =
            empty_view<float, typename Exec::memory_space>(made.size.batch, v.extent(1), v.extent(2), v.extent(3));
        for (std::size_t b = 0; b < order.size(); ++b)
            from_host(on_host(sequence(v, order[b])), sequence(to, static_cast<int>(b)));
        return to;
    };
    made.query = moved(d.query), made.key = moved(d.key), made.value = moved(d.value);
    return made;
}

/// A prefill, a chunk and decode steps.
template <class Exec>
results<Exec> run(data<Exec> const& d, spla::options<> const& o)
{
    stepper<Exec> s(d, o);
    s.prefill(0, 90);
    s.prefill(90, 170);
    for (int t = 170; t < 190; ++t) s.step(t, t + 1);
    s.step(190, 200);
    return s.r;
}

/// Sequence a of one batch and b of another have the same results, bit for bit.
template <class Exec>
bool same_results(results<Exec> const& x, int a, results<Exec> const& y, int b)
{
    return same_bits(sequence(x.output, a), sequence(y.output, b)) &&
           same_bits(sequence(x.sparse, a), sequence(y.sparse, b)) &&
           same_bits(sequence(x.residual, a), sequence(y.residual, b)) &&
           same_bits(sequence(x.lse, a), sequence(y.lse, b)) && x.chosen(a) == y.chosen(b);
}
} // namespace

TEMPLATE_LIST_TEST_CASE("permuting the sequences of a batch permutes its results, and alone each has the same",
                        "[invariants][batch]", spaces)
{
    for (auto const share : {spla::sharing::per_token(), spla::sharing::first_query(8)})
    {
        auto o = small_options();
        o.share = share;
        data<TestType> const d({4, 200, 200, 4, 2, 16, 16}, 4);
        auto const straight = run(d, o);
        std::vector<int> const order{2, 0, 3, 1};
        auto const permuted = run(in_order(d, order), o);
        for (int b = 0; b < 4; ++b)
        {
            CHECK(same_results(permuted, b, straight, order[b]));
            CHECK(same_results(run(in_order(d, {b}), o), 0, straight, b));
        }
        CHECK_FALSE(same_results(permuted, 0, straight, 0)); // sequences do differ
    }
}

TEMPLATE_LIST_TEST_CASE("repetition, and strides, change no bit", "[invariants][batch]", spaces)
{
    auto const o = small_options();
    data<TestType> const d({2, 200, 200, 4, 2, 16, 24}, 5), padded({2, 200, 200, 4, 2, 16, 24}, 5, true);
    auto const once = run(d, o), again = run(d, o), strided = run(padded, o);
    for (int b = 0; b < 2; ++b)
    {
        CHECK(same_results(once, b, again, b));
        CHECK(same_results(once, b, strided, b));
    }
}

TEMPLATE_LIST_TEST_CASE("an instance that is not the default gives the same bits", "[invariants][instance]", spaces)
{
    namespace experimental = Kokkos::Experimental;
    TestType const whole;
    TestType const part = whole.concurrency() > 1 ? experimental::partition_space(whole, 1, 1)[1]
                                                  : experimental::partition_space(whole, 1)[0];
    auto const o = small_options();
    data<TestType> const d({2, 200, 200, 4, 2, 16, 16}, 6);
    CHECK(same_results(run_prefill(d, o), 0, run_prefill(d, o, part), 0));
    CHECK(same_results(run_prefill(d, o), 1, run_prefill(d, o, part), 1));

    stepper<TestType> s(d, o);
    s.exec = part;
    s.prefill(0, 90);
    s.prefill(90, 170);
    for (int t = 170; t < 190; ++t) s.step(t, t + 1);
    s.step(190, 200);
    CHECK(same_results(run(d, o), 0, s.r, 0));
}
