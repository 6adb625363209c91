// SPDX-FileCopyrightText: The spla authors
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#include "catch.hpp"
#include "conformance/core.hpp"

using namespace spla_test;

namespace
{
/// Statistics and selection alone: a metric has no part in what follows.
template <class Exec, class Metric>
void selects(spla::options<Metric> o)
{
    o.segment_tokens = 256;
    data<Exec> const d({1, 230, 230, 4, 2, 16, 16}, 1);
    stepper<Exec, float, spla::options<Metric>> s(d, o);
    s.append(0, 97);
    s.append(97, 230);
    calls<Exec, float, spla::options<Metric>>::select(s.exec, d.query, d.key, s.state, s.r.lists, o);
    s.exec.fence();
    verdict v;
    hold_selection(v, d, s.r, o);
    INFO(Metric::name << ' ' << Metric::covariance_name << ", " << o.kept_keys << " kept, " << o.sub_blocks
                      << " sub-blocks\n"
                      << v.text());
    CHECK(v.passed());
}

template <class Exec, class Metric>
void selects_in_every_way()
{
    auto o = small_options<Metric>();
    for (int const kept : {0, 2})
        for (int const sub : {1, 2})
        {
            o.kept_keys = kept, o.sub_blocks = sub;
            selects<Exec>(o);
        }
}
} // namespace

TEMPLATE_LIST_TEST_CASE("metrics: means and diagonals", "[conformance][metric]", host_and_device)
{
    selects_in_every_way<TestType, spla::mean_only>();
    selects_in_every_way<TestType, spla::taylor<spla::diagonal>>();
    selects_in_every_way<TestType, spla::cumulant<spla::diagonal>>();
}

TEMPLATE_LIST_TEST_CASE("metrics: low rank and whole covariances", "[conformance][metric]", host_and_device)
{
    selects_in_every_way<TestType, spla::taylor<spla::low_rank<2>>>();
    selects_in_every_way<TestType, spla::taylor<spla::full>>();
    selects_in_every_way<TestType, spla::cumulant<spla::full>>();
}

TEMPLATE_LIST_TEST_CASE("metrics: exact_mass, the oracle, in prefill and alone", "[conformance][metric]",
                        host_and_device)
{
    auto const o = small_options<spla::exact_mass>();
    selects<TestType>(o);
    data<TestType> const d({1, 230, 230, 4, 2, 16, 16}, 2);
    auto const r = run_prefill(d, o);
    verdict v;
    hold_selection(v, d, r, o);
    hold_arithmetic(v, d, r, small_options()); // the branches know of no metric
    INFO(v.text());
    CHECK(v.passed());
}
