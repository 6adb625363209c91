// SPDX-FileCopyrightText: The spla authors
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#include "conformance/conforms.hpp"

#include <cmath>

using namespace spla_test;

namespace
{
constexpr float infinity = std::numeric_limits<float>::infinity();

/// Sets component `x` of the key or value of one token and head.
template <class Space>
void overwrite(any_view<float, Space> const& v, int token, int head, int x, float with)
{
    auto const copy = on_host(v);
    copy(0, token, head, x) = with;
    from_host(copy, v);
}

template <class Row>
int not_finite(Row const& view, int i, int h)
{
    int count = 0;
    for (std::size_t d = 0; d < view.extent(3); ++d) count += !std::isfinite(view(0, i, h, d));
    return count;
}
template <class View>
bool same_row(View const& a, View const& b, int i, int h)
{
    return std::memcmp(&a(0, i, h, 0), &b(0, i, h, 0), a.extent(3) * sizeof(float)) == 0;
}

/// All keys are appended clean; then one number of one key is overwritten. Queries [first, M) that see the key get it,
/// all others keep every bit: those that did not select its block, those before it, those of another key head.
template <class Exec>
void key_reaches(float with, int token, bool decodes, bool normalised)
{
    auto o = small_options();
    o.normalised = normalised;
    int const keys = 330, count = 125, first = keys - count, head = 1, x = 5;
    data<Exec> const d({1, count, keys, 6, 2, 16, 24}, 9);
    auto const run = [&](bool spoil) {
        data<Exec> const mine({1, count, keys, 6, 2, 16, 24}, 9);
        stepper<Exec> s(mine, o);
        for (int t = 0; t < first; t += 41) s.append(t, t + 41);
        s.append(first, keys);
        if (spoil) overwrite(mine.key, token, head, x, with);
        if (decodes)
            s.decode(first, keys);
        else
            s.prefill(first, keys);
        return s.r;
    };
    auto const clean = run(false), spoiled = run(true);
    auto const chosen = clean.chosen(0);
    REQUIRE(spoiled.chosen(0) == chosen); // the block's summary was made before
    auto const query = on_host(d.query);
    auto const a = on_host(clean.sparse), b = on_host(spoiled.sparse), r = on_host(clean.residual),
               s = on_host(spoiled.residual), out = on_host(clean.output), bad = on_host(spoiled.output),
               l = on_host(clean.lse), m = on_host(spoiled.lse);
    int reached = 0, kept = 0, wrong = 0, subtracted = 0;
    for (int i = 0; i < count; ++i)
        for (int h = 0; h < 6; ++h)
        {
            int const p = first + i, block = token / o.block;
            auto const& list = chosen[i][h / 3];
            bool const selected = h / 3 == head && std::binary_search(list.begin(), list.end(), block);
            bool const forced = h / 3 == head && (block < o.sink_blocks || block >= p / o.block - o.local_blocks);
            bool const sees = (selected || forced) && token <= p;
            // A logit of minus infinity has weight zero: such a row sees the key and rightly stays finite.
            bool const vanishes = std::isinf(with) && query(0, i, h, x) * with < 0;
            int const all = 24;
            if (sees && vanishes)
                wrong += not_finite(b, i, h) != 0 || !std::isfinite(m(0, i, h, 0));
            else if (sees)
                wrong += not_finite(b, i, h) != all || not_finite(bad, i, h) != all || std::isfinite(m(0, i, h, 0));
            else
                wrong += !same_row(a, b, i, h) || !same_row(l, m, i, h);
            if (selected)
                wrong += not_finite(s, i, h) != all, ++subtracted; // phi of the key is subtracted
            else
                wrong += !same_row(r, s, i, h);
            if (!sees && !selected) wrong += !same_row(out, bad, i, h);
            (sees ? reached : kept) += 1;
        }
    INFO("key " << token << " is " << with << (decodes ? ", decode" : ", prefill") << ": " << reached
                << " rows reached, " << subtracted << " by selection, " << kept << " not");
    CHECK(wrong == 0);
    CHECK(reached > 20);
    CHECK(kept > 20);
}
} // namespace

TEMPLATE_LIST_TEST_CASE("a key that is not finite reaches exactly the queries that see it", "[invariants][not_finite]",
                        spaces)
{
    for (float const with : {std::nanf(""), infinity, -infinity})
        for (int const token : {3, 150, 178, 250, 322}) // a sink, three that compete or are near, the newest
            for (bool const decodes : {false, true}) key_reaches<TestType>(with, token, decodes, token == 178);
}

TEMPLATE_LIST_TEST_CASE("a value that is not finite reaches exactly the queries that see it",
                        "[invariants][not_finite]", spaces)
{
    auto o = small_options();
    o.combine = spla::combination_kind::sparse_only;
    data<TestType> d({1, 64, 64, 3, 1, 16, 16}, 6);
    overwrite(d.value, 40, 0, 3, std::nanf(""));
    auto const out = on_host(run_prefill(d, o).output);
    for (int t = 0; t < 64; ++t)
        for (int h = 0; h < 3; ++h)
            for (int x = 0; x < 16; ++x) CHECK(std::isnan(out(0, t, h, x)) == (t >= 40 && x == 3));
}

TEMPLATE_LIST_TEST_CASE("a block whose score is not finite ranks last", "[selection][not_finite]", spaces)
{
    // One head, so that the others' order does not depend on what is left out of the normaliser. Without the residual:
    // a key that is not finite when appended is a broken promise, and stays in the linear state.
    auto o = small_options();
    o.combine = spla::combination_kind::sparse_only;
    int const bad = 6;
    for (float const with : {std::nanf(""), infinity, -infinity})
        for (int const kept : {0, 1})
            for (int const top_k : {4, 9})
            {
                o.kept_keys = kept, o.top_k = top_k;
                data<TestType> d({1, 250, 250, 1, 1, 16, 16}, 10);
                auto const clean = run_prefill(d, o).chosen(0);
                overwrite(d.key, bad * o.block + 7, 0, 2, with);
                auto const spoiled = run_prefill(d, o).chosen(0);
                int selected_before = 0, wrong = 0;
                for (int p = 0; p < 250; ++p)
                {
                    auto const n = spla::window_of(o).competing(p).count();
                    auto const& list = spoiled[p][0];
                    bool const has = std::binary_search(list.begin(), list.end(), bad);
                    bool const competes = spla::window_of(o).competing(p).contains(bad);
                    selected_before += n > top_k && std::binary_search(clean[p][0].begin(), clean[p][0].end(), bad);
                    wrong += static_cast<int>(list.size()) != std::min<int>(static_cast<int>(n), top_k);
                    wrong += has != (competes && n <= top_k); // only where everything is selected
                    for (int const b : clean[p][0])
                        wrong += b != bad && !std::binary_search(list.begin(), list.end(), b);
                }
                INFO("key is " << with << ", kept " << kept << ", top_k " << top_k);
                CHECK(wrong == 0);
                CHECK(selected_before > 10);
            }
}
