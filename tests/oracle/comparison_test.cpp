// SPDX-FileCopyrightText: The spla authors
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
// The comparison itself: what it passes, what it fails, and what it says.
#include "catch.hpp"

#include <spla/reference/comparison.hpp>

using spla::reference::comparison;
using spla::reference::matrix;

namespace
{
double const nan_value = std::numeric_limits<double>::quiet_NaN();
double const infinity = std::numeric_limits<double>::infinity();

struct matrices
{
    matrix truth = matrix::Constant(5, 4, 2.0), values = truth, bound = matrix::Constant(5, 4, 0.5);

    comparison held() const
    {
        comparison c;
        c.add("head 3 ", values, truth, bound);
        return c;
    }
};
bool says(comparison const& c, std::string const& what)
{
    return c.text().find(what) != std::string::npos;
}
} // namespace

TEST_CASE("comparison: within and outside bounds, and where the worst is", "[comparison]")
{
    matrices m;
    CHECK(m.held().passed);
    m.values(3, 1) = 2.25, m.values(1, 2) = 1.6;
    auto const within = m.held();
    CHECK(within.passed);
    CHECK(within.compared == 20);
    CHECK(within.failed == 0);
    CHECK(within.worst == Approx(0.8));
    CHECK(says(within, "within bounds: 20 compared, 0 outside"));
    CHECK(says(within, "head 3 (1, 2)"));

    m.values(4, 3) = 2.6, m.values(0, 0) = 1.0;
    auto const outside = m.held();
    CHECK_FALSE(outside.passed);
    CHECK(outside.failed == 2);
    CHECK(outside.worst == Approx(2.0));
    CHECK(says(outside, "OUT OF BOUNDS: 20 compared, 2 outside"));
    CHECK(says(outside, "head 3 (0, 0): 1, truth 2, bound 0.5"));
}

TEST_CASE("comparison: a NaN fails, and its place is reported", "[comparison]")
{
    for (bool const beside_another : {false, true})
    {
        matrices m;
        if (beside_another) m.values(0, 0) = 100, m.values(4, 3) = -100;
        m.values(2, 3) = nan_value;
        auto const c = m.held();
        CHECK_FALSE(c.passed);
        CHECK(c.worst == infinity);
        CHECK(says(c, "head 3 (2, 3): nan"));
    }
    for (auto const change :
         {+[](matrices& m) { m.truth(1, 1) = nan_value; }, +[](matrices& m) { m.bound(1, 1) = nan_value; }})
    {
        matrices m;
        change(m);
        CHECK_FALSE(m.held().passed);
        CHECK(says(m.held(), "head 3 (1, 1)"));
    }
}

TEST_CASE("comparison: infinities and zero bounds", "[comparison]")
{
    auto const passes = [](double value, double truth, double bound) {
        comparison c;
        c.add(value, truth, bound, "here");
        return c.passed;
    };
    CHECK(passes(-infinity, -infinity, 0));
    CHECK_FALSE(passes(infinity, -infinity, 1));
    CHECK_FALSE(passes(-1e308, -infinity, 1));
    CHECK_FALSE(passes(-infinity, -1e308, 1));
    CHECK(passes(0, 0, 0));
    CHECK_FALSE(passes(1e-300, 0, 0));
    CHECK(passes(5, 7, infinity)); // undecidable: anything may be said, but not NaN
    CHECK_FALSE(passes(nan_value, 7, infinity));
    CHECK_FALSE(passes(1, 1, -1));
}

TEST_CASE("comparison: other shapes fail; nothing compared says so", "[comparison]")
{
    matrices m;
    m.values = matrix::Constant(4, 5, 2.0);
    CHECK_FALSE(m.held().passed);
    CHECK(says(m.held(), "head 3 : shapes differ"));

    CHECK(says(comparison(), "0 compared"));
    comparison of_nothing;
    of_nothing.add("head 3 ", matrix(0, 4), matrix(0, 4), matrix(0, 4));
    CHECK(of_nothing.compared == 0);
    CHECK(says(of_nothing, "0 compared"));
}
