// SPDX-FileCopyrightText: The spla authors
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
// Checked mode: the first offence in lists and new tokens, by place and value, and nothing written.
#include "conformance/conforms.hpp"

#include <cmath>
#include <limits>

using namespace spla_test;

namespace
{
constexpr int count = 200; // block 16, 1 sink, 2 local: at the last token blocks 1 to 9 compete

template <class Call>
spla::violation thrown(Call const& call)
{
    try
    {
        call();
    } catch (spla::value_error const& e)
    {
        return e.found();
    }
    FAIL("nothing was thrown");
    return {};
}
template <class View>
void set(View const& view, int b, int t, int h, int d, float x)
{
    auto const copy = on_host(view);
    copy(b, t, h, d) = x;
    from_host(copy, view);
}
} // namespace

TEMPLATE_LIST_TEST_CASE("checked mode names the first key or value that is not finite", "[checked]", spaces)
{
    using call = calls<TestType, float>;
    TestType const exec;
    auto o = small_options();
    o.checked = true;
    data<TestType> const d({2, count, count, 4, 2, 16, 12}, 3);
    auto const scratch = call::prefill_scratch(exec, d.problem(), o);
    results<TestType> const r(d.size, o);
    auto state = call::make_state(exec, d.problem(), o);
    auto const append = [&](int begin, int end) {
        call::append(exec, tokens(d.key, begin, end), tokens(d.value, begin, end), d.key, d.value, state, o);
    };
    append(0, 100); // finite
    set(d.value, 1, 150, 0, 11, std::numeric_limits<float>::infinity());
    set(d.value, 1, 150, 1, 2, std::nanf(""));
    auto const of_append = thrown([&] { append(100, count); });
    CHECK(of_append.message() == "spla::append: new_value[1, 50, 0, 11] is inf; allowed: a finite number");
    CHECK(state.tokens == 100);
    append(100, 150); // before it
    auto const of_prefill = thrown([&] {
        call::prefill(exec, tokens(d.query, 0, 50), d.key, d.value, tokens(r.output, 0, 50), state, o, scratch);
    });
    CHECK(of_prefill.message() == "spla::prefill: value[1, 150, 0, 11] is inf; allowed: a finite number");
    CHECK(state.tokens == 150);
    set(d.key, 0, 199, 1, 0, std::nanf(""));
    CHECK(thrown([&] {
              call::prefill(exec, tokens(d.query, 0, 50), d.key, d.value, tokens(r.output, 0, 50), state, o, scratch);
          }).argument == "key[0, 199, 1, 0]");
    o.checked = false; // the caller's promise is believed
    CHECK_NOTHROW(append(150, count));
    exec.fence();
}

TEMPLATE_LIST_TEST_CASE("checked mode names the first bad entry of the caller's lists", "[checked][lists]", spaces)
{
    using call = calls<TestType, float>;
    TestType const exec;
    for (auto const share : {spla::sharing::per_token(), spla::sharing::first_query(8)})
    {
        auto o = small_options();
        o.share = share, o.checked = true;
        data<TestType> const d({2, count, count, 4, 2, 16, 12}, 4);
        results<TestType> r(d.size, o);
        auto state = call::make_state(exec, d.problem(), o);
        auto const scratch = call::prefill_scratch(exec, d.problem(), o);
        call::prefill(exec, d.query, d.key, d.value, r.output, state, o, scratch); // makes the state
        auto const tiles = spla::tile_count(count, count, spla::window_of(o).tile);
        auto const lists = unwritten_lists<typename TestType::memory_space>(2, tiles, 2, 4);
        call::select(exec, d.query, d.key, state, lists, o);
        exec.fence();
        auto const good = on_host(lists);
        auto const attend = [&](auto const& change) {
            auto const bad = on_host(lists);
            Kokkos::deep_copy(bad.indices, good.indices);
            Kokkos::deep_copy(bad.lengths, good.lengths);
            change(bad);
            from_host(bad, lists);
            typename call::extras e;
            e.use_lists(lists);
            call::selected_attention(exec, d.query, d.key, d.value, r.output, o, e);
            exec.fence();
        };
        int const last = static_cast<int>(tiles) - 1; // of the tile that holds the last token
        std::string const at = "[1, " + std::to_string(last) + ", 1";
        std::string const allowed = "ascending blocks of 1 to 9, which compete";
        CHECK_NOTHROW(attend([](host_lists const&) {})); // spla's own lists
        auto const entry = thrown([&] { attend([&](auto const& l) { l.indices(1, last, 1, 2) = 10; }); });
        CHECK(entry.argument == "extras.use_lists" + at + ", 2]");
        CHECK(entry.actual == "10");
        CHECK(entry.allowed == allowed);
        auto const repeated =
            thrown([&] { attend([&](auto const& l) { l.indices(1, last, 1, 1) = l.indices(1, last, 1, 0); }); });
        CHECK(repeated.argument == "extras.use_lists" + at + ", 1]");
        CHECK(repeated.allowed == allowed);
        auto const length = thrown([&] { attend([&](auto const& l) { l.lengths(1, last, 1) = 5; }); });
        CHECK(length.argument == "extras.use_lists lengths" + at + "]");
        CHECK(length.actual == "5");
        CHECK(length.allowed == "0 to 4");
        auto const early = thrown([&] {
            attend([](auto const& l) { l.lengths(0, 1, 0) = 1, l.indices(0, 1, 0, 0) = 1, l.lengths(1, 2, 1) = -1; });
        });
        CHECK(early.argument == "extras.use_lists[0, 1, 0, 0]");
        CHECK(early.allowed == "no entry: no block competes");
    }
}
