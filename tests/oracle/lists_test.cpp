// SPDX-FileCopyrightText: The spla authors
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
// How lists are held against the reference's masses: what counts as a near-tie, and what never does.
#include "catch.hpp"
#include "conformance/verdict.hpp"

#include <cmath>

using namespace spla_test;

namespace
{
/// One list whose competing blocks [2, 9) have these masses; the score's error makes a relative tolerance of about
/// 0.04.
double const masses[] = {0.30, 0.05, 0.2000, 0.01, 0.2001, 0.15, -1};

verdict judged(std::vector<int> const& list, int top_k, double top_p = 1.0)
{
    spla::reference::selection truth;
    truth.first = {2};
    truth.mass = {{{std::begin(masses), std::end(masses)}}};
    truth.score_error = {{0.01}};
    std::vector<int> order{2, 6, 4, 7, 3, 5, 8}, chosen;
    double sum = 0;
    for (int b : order)
        if (static_cast<int>(chosen.size()) < top_k && (top_p >= 1 || sum < top_p * 0.9101))
            chosen.push_back(b), sum += std::max(0.0, masses[b - 2]);
    std::sort(chosen.begin(), chosen.end());
    truth.chosen = {{chosen}};
    verdict v;
    hold_lists(v, {{list}}, truth, truth.score_error, top_k, top_p);
    CHECK(v.lists == 1);
    return v;
}
bool right(std::vector<int> const& list, int top_k, double top_p = 1.0)
{
    auto const v = judged(list, top_k, top_p);
    return v.wrong_lists == 0 && v.near_ties == 0;
}
bool near(std::vector<int> const& list, int top_k, double top_p = 1.0)
{
    auto const v = judged(list, top_k, top_p);
    return v.wrong_lists == 0 && v.near_ties == 1;
}
bool wrong(std::vector<int> const& list, int top_k, double top_p = 1.0)
{
    auto const v = judged(list, top_k, top_p);
    return v.wrong_lists == 1 && v.near_ties == 0 && !v.passed() && !v.first_wrong.empty();
}
} // namespace

TEST_CASE("lists: equal, near-ties, wrong", "[lists]")
{
    CHECK(right({2, 6}, 2));
    CHECK(near({2, 4}, 2));  // 0.2000 for 0.2001
    CHECK(wrong({2, 7}, 2)); // 0.15 for 0.2001
    CHECK(wrong({4, 6}, 2)); // the best left out
    CHECK(right({2, 3, 4, 5, 6, 7}, 6));
    CHECK(wrong({2, 3, 4, 6, 7, 8}, 6)); // a score that is not finite before one that is
    CHECK(right({2, 3, 4, 5, 6, 7, 8}, 7));
    CHECK(right({}, 0));
}

TEST_CASE("lists: never a near-tie", "[lists]")
{
    CHECK(wrong({2}, 2)); // too short
    CHECK(wrong({}, 2));
    CHECK(wrong({2, 4, 6}, 2)); // too long
    CHECK(wrong({6, 2}, 2));    // descending
    CHECK(wrong({2, 2}, 2));    // twice
    CHECK(wrong({1, 2}, 2));    // outside the competing range
    CHECK(wrong({2, 9}, 2));
    CHECK(wrong({-1, 2}, 2));
}

TEST_CASE("lists: top_p", "[lists]")
{
    CHECK(right({2}, 5, 0.3));
    CHECK(wrong({6}, 5, 0.3));
    CHECK(right({2, 6}, 5, 0.5));
    CHECK(near({2, 4}, 5, 0.5));
    CHECK(wrong({2}, 5, 0.5));       // not enough
    CHECK(wrong({2, 4, 6}, 5, 0.5)); // one more than needed
    CHECK(near({2, 6}, 5, 0.555));   // 0.5001 of 0.5051: within the tolerance of enough
    CHECK(wrong({}, 5, 0.5));
    CHECK(right({2, 6}, 2, 0.99)); // at most top_k
}

TEST_CASE("lists: within the rounding of stored summaries alone", "[lists]")
{
    spla::reference::selection truth;
    truth.first = {0};
    truth.mass = {{{0.5, 0.3, 0.2}}};
    truth.score_error = {{0.5}}; // as coarse as bf16 makes it: any list of the right length is within it
    truth.chosen = {{{0, 1}}};
    verdict v;
    hold_lists(v, {{{0, 2}}}, truth, {{1e-5}}, 2, 1.0);
    CHECK(v.rounding_ties == 1);
    CHECK(v.near_ties == 0);
    CHECK_FALSE(v.passed());
    v.lists = 1000;
    CHECK(v.passed());
    hold_lists(v, {{{2}}}, truth, {{1e-5}}, 2, 1.0);
    CHECK(v.wrong_lists == 1);
}

TEST_CASE("lists: near-ties that are many do not pass", "[lists]")
{
    verdict v;
    v.lists = 1000, v.near_ties = 101;
    CHECK(v.passed());
    v.near_ties = 102;
    CHECK_FALSE(v.passed());
}

TEST_CASE("lists: another number of tiles is wrong", "[lists]")
{
    spla::reference::selection truth;
    truth.chosen = {{{2}}, {{2}}};
    verdict v;
    hold_lists(v, {{{2}}}, truth, {}, 1, 1.0);
    CHECK(v.wrong_lists > 0);
}
