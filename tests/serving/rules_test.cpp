// SPDX-FileCopyrightText: The spla authors
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
// Every rule of a step: on its views, by check_batch() and by what run_batch() throws; on what its arrays hold, in
// checked mode; and unchecked, where a sequence that breaks one is passed over.
#include "../catch.hpp"
#include "../conformance/core.hpp"
#include "../conformance/step_core.hpp"

#include <functional>

using namespace spla_test;

namespace
{
using space = host::memory_space;
using indices = Kokkos::View<std::int32_t*, space>;
using table_view = Kokkos::View<std::int32_t**, Kokkos::LayoutRight, space>;
using token_view = Kokkos::View<float***, Kokkos::LayoutStride, space>;
using cache_view = Kokkos::View<float****, Kokkos::LayoutStride, space>;
using spla::rule_kind;

token_view token_rows(int tokens, int heads, int dim)
{
    Kokkos::View<float***, Kokkos::LayoutRight, space> const v("tokens", tokens, heads, dim);
    Kokkos::deep_copy(v, 0.5f);
    return v;
}
cache_view cache_rows(int rows, int tokens, int heads, int dim)
{
    Kokkos::View<float****, Kokkos::LayoutRight, space> const v("cache", rows, tokens, heads, dim);
    Kokkos::deep_copy(v, 0.25f);
    return v;
}
indices numbers(std::vector<int> const& values)
{
    indices const v("numbers", values.size());
    std::copy(values.begin(), values.end(), v.data());
    return v;
}

/// A step of three sequences, 5, 0 and 12 new tokens, in a cache of pages.
struct step_arguments
{
    host exec;
    spla::options<> o = small_options();
    spla::batch_limits limits = most();
    spla::pool_sizes sizes{4, 12, 32, 16};
    spla::batch_plan<float, spla::options<>> plan = spla::plan_batch<float>(exec, limits, o);
    spla::state_pool<space> pool = made_pool();
    spla::workspace<space> scratch = spla::make_workspace(exec, plan);
    indices offsets = numbers({0, 5, 5, 17}), lengths = numbers({5, 9, 12}), slots = numbers({3, 0, 1});
    table_view table = pages();
    cache_view key = cache_rows(12, 32, 2, 8), value = cache_rows(12, 32, 2, 12);
    token_view query = token_rows(17, 4, 8), output = token_rows(17, 4, 12);
    token_view new_key = token_rows(17, 2, 8), new_value = token_rows(17, 2, 12);
    spla::attention_extras<float> extras;

    static spla::batch_limits most()
    {
        spla::batch_limits l;
        l.batch = 4, l.queries = 20, l.keys = 96, l.query_heads = 4, l.key_heads = 2, l.head_dim = 8, l.value_dim = 12;
        return l;
    }
    spla::state_pool<space> made_pool() const
    {
        auto const made = spla::make_state_pool(exec, limits, sizes, o);
        Kokkos::deep_copy(made.buffer(), std::byte{0});
        return made;
    }
    static table_view pages()
    {
        table_view const t("table", 4, 3);
        for (int b = 0; b < 4; ++b)
            for (int p = 0; p < 3; ++p) t(b, p) = (b * 3 + p) * 5 % 12;
        return t;
    }
    spla::sequence_batch<space> batch() const { return {offsets, lengths, slots}; }
    spla::paged_cache<cache_view, cache_view, table_view> cache() const { return {key, value, table}; }
    std::optional<spla::violation> check() const
    {
        return spla::check_batch(exec, plan, batch(), query, cache(), output, pool, scratch, extras);
    }
    void run() { spla::run_batch(exec, plan, batch(), query, cache(), output, pool, scratch, extras); }
    void write() { spla::write_cache(exec, plan, batch(), new_key, new_value, cache(), pool); }
    std::string bytes() const
    {
        std::string all;
        auto const add = [&](auto const& v) {
            all.append(reinterpret_cast<char const*>(v.data()), v.span() * sizeof(*v.data()));
        };
        add(output), add(pool.buffer()), add(key), add(value);
        return all;
    }
};
using a = step_arguments;

struct row
{
    std::function<void(a&)> change;
    rule_kind kind;
    std::string argument, actual, allowed;
};

void expect(spla::violation const& found, std::string const& call, row const& wanted)
{
    CHECK(found.call == call);
    CHECK(found.argument == wanted.argument);
    CHECK(found.actual == wanted.actual);
    CHECK(found.allowed == wanted.allowed);
    CHECK(static_cast<int>(found.kind) == static_cast<int>(wanted.kind));
}
template <class Call>
void expect_throw(Call const& call, std::string const& name, row const& wanted)
{
    try
    {
        call();
    } catch (spla::argument_error const& e)
    {
        expect(e.found(), name, wanted);
        return;
    }
    FAIL("nothing was thrown");
}
void hold(std::vector<row> const& rows)
{
    for (auto const& wanted : rows)
    {
        INFO("a wrong " << wanted.argument << ", " << wanted.actual);
        a x;
        wanted.change(x);
        std::string const before = x.bytes();
        auto const found = x.check();
        REQUIRE(found);
        expect(*found, "run_batch", wanted);
        expect_throw([&] { x.run(); }, "run_batch", wanted);
        x.exec.fence();
        CHECK(x.bytes() == before);
    }
}
} // namespace

TEST_CASE("rules of a step's views", "[serving][rules]")
{
    {
        a good;
        CHECK_FALSE(good.check());
        std::string const before = good.bytes();
        good.write(), good.run();
        good.exec.fence();
        CHECK(good.bytes() != before);
    }
    auto const shape = rule_kind::shape;
    auto const value = rule_kind::value;
    auto const state = rule_kind::state;
    std::string const apart = "memory apart from ";
    hold({
        {[](a& x) { x.query = token_rows(17, 3, 8); }, shape, "query", "[17, 3, 8]", "[17, 4, 8]"},
        {[](a& x) { x.output = token_rows(16, 4, 12); }, shape, "output", "[16, 4, 12]", "[17, 4, 12]"},
        {[](a& x) { x.query = Kokkos::View<float***, Kokkos::LayoutLeft, space>("q", 17, 4, 8); },
         rule_kind::unsupported, "query", "a view whose last stride is 68", "a contiguous last dimension"},
        {[](a& x) {
             x.lengths = numbers({1, 2, 3, 4, 5});
         },
         shape, "batch.lengths.extent(0)", "5", "at most 4, the plan's sequences"},
        {[](a& x) {
             x.offsets = numbers({0, 5, 17});
         },
         shape, "batch.offsets.extent(0)", "3", "4, one more than lengths"},
        {[](a& x) {
             x.slots = numbers({0, 1});
         },
         shape, "batch.slots.extent(0)", "2", "3, as many as lengths"},
        {[](a& x) { x.key = cache_rows(12, 32, 2, 9); }, shape, "cache.key", "[12, 32, 2, 9]", "[12, 32, 2, 8]"},
        {[](a& x) { x.value = cache_rows(11, 32, 2, 12); }, shape, "cache.value", "[11, 32, 2, 12]", "[12, 32, 2, 12]"},
        {[](a& x) { x.key = cache_rows(12, 16, 2, 8), x.value = cache_rows(12, 16, 2, 12); }, state,
         "cache.key.extent(1)", "16", "32, the tokens of the pool's pages"},
        {[](a& x) { x.key = cache_rows(13, 32, 2, 8), x.value = cache_rows(13, 32, 2, 12); }, state,
         "cache.key.extent(0)", "13", "at most 12, the pool's pages"},
        {[](a& x) { x.table = table_view("short", 2, 3); }, shape, "cache.page_table.extent(0)", "2", "at least 3"},
        {[](a& x) {
             x.sizes.pages = 0, x.sizes.page_tokens = 96;
             x.pool = x.made_pool();
         },
         state, "pool.layout().sizes.pages", "0", "1 or more: a pool made for pages"},
        {[](a& x) {
             x.o.kept_keys = 0;
             x.pool = x.made_pool();
         },
         state, "state.layout().kept_keys", "0", "1, from this call's sizes and options"},
        {[](a& x) {
             x.pool = {x.pool.layout(), spla::state_pool<space>::buffer_type("short", 512)};
         },
         state, "pool.buffer()", "512 bytes", "at least " + std::to_string(a().pool.layout().bytes)},
        {[](a& x) { x.scratch = spla::workspace<space>("short", 256); }, value, "workspace", "256 bytes",
         "at least " + std::to_string(a().plan.workspace_bytes()) + " (plan.workspace_bytes())"},
        {[](a& x) { x.output = token_view(x.value.data(), x.output.layout()); }, value, "output",
         "memory that overlaps cache.value", apart + "cache.value"},
        {[](a& x) { x.plan = {}; }, value, "plan", "empty", "one that plan_batch() made"},
        {[](a& x) {
             x.o.combine = spla::combination_kind::separate;
             x.plan = spla::plan_batch<float>(x.exec, x.limits, x.o);
             x.scratch = spla::make_workspace(x.exec, x.plan);
         },
         value, "extras.return_branches", "absent", "both branches' views with combination separate"},
        {[](a& x) { x.extras.use_lists(unwritten_lists<space>(1, 17, 2, 5)); }, value, "extras.use_lists entries", "5",
         "at most 4, the plan's entries of a list"},
        {[](a& x) { x.extras.return_lists(unwritten_lists<space>(1, 16, 2, 4)); }, shape, "extras.return_lists tiles",
         "16", "at least 17"},
    });
}

TEST_CASE("rules of plans and pools", "[serving][rules]")
{
    host const exec;
    auto const limits = a::most();
    auto const o = small_options();
    auto const wrong_limits = [&](auto const& change, row const& wanted) {
        auto l = limits;
        change(l);
        expect_throw([&] { spla::plan_batch<float>(exec, l, o); }, "plan_batch", wanted);
    };
    wrong_limits([](auto& l) { l.queries = 97; },
                 {{}, rule_kind::value, "queries", "97", "at most keys, 96: new tokens are among them"});
    wrong_limits([](auto& l) { l.tokens = -1; }, {{}, rule_kind::value, "tokens", "-1", "0 (batch * queries) or more"});
    wrong_limits([](auto& l) { l.query_heads = 3; },
                 {{}, rule_kind::shape, "query_heads", "3", "a multiple of the 2 key heads"});
    auto const wrong_pool = [&](spla::pool_sizes const& z, row const& wanted) {
        expect_throw([&] { spla::make_state_pool(exec, limits, z, o); }, "make_state_pool", wanted);
    };
    wrong_pool({0, 4, 32, 0}, {{}, rule_kind::value, "slots", "0", "1 or more"});
    wrong_pool({1, -1, 32, 0}, {{}, rule_kind::value, "pages", "-1", "0 or more"});
    wrong_pool({1, 4, 24, 0}, {{}, rule_kind::value, "page_tokens", "24", "a multiple of the block, 16"});
    wrong_pool({1, 4, 32, -5}, {{}, rule_kind::value, "rewind_tokens", "-5", "0 or more"});
    a x;
    expect_throw(
        [&] {
            spla::fork_slots(exec, x.pool, numbers({1, 2}), numbers({3}));
        },
        "fork_slots", {{}, rule_kind::shape, "to.extent(0)", "1", "2"});
    auto const run_with = [&](auto const& fresh) {
        spla::run_batch(x.exec, x.plan, x.batch(), x.query, fresh, x.cache(), x.output, x.pool, x.scratch);
    };
    std::string const before = x.bytes();
    expect_throw(
        [&] {
            run_with(spla::new_tokens{x.new_key, token_rows(16, 2, 12)});
        },
        "run_batch", {{}, rule_kind::shape, "new_value", "[16, 2, 12]", "[17, 2, 12]"});
    expect_throw(
        [&] {
            run_with(spla::new_tokens{token_rows(17, 1, 8), x.new_value});
        },
        "run_batch", {{}, rule_kind::shape, "new_key", "[17, 1, 8]", "[17, 2, 8]"});
    CHECK(x.bytes() == before);
    x.new_value = token_rows(16, 2, 12);
    expect_throw([&] { x.write(); }, "write_cache", {{}, rule_kind::shape, "new_value", "[16, 2, 12]", "[17, 2, 12]"});
}

TEST_CASE("bytes of a sequence, as the engine page has them", "[serving][rules]")
{
    spla::problem p;
    p.key_heads = p.query_heads = 8, p.head_dim = p.value_dim = 128, p.element = spla::element_kind::bfloat16;
    auto const of = [&](int rewind) { return spla::pool_layout_of(p, {4, 100, 64, rewind}, spla::options<>()); };
    CHECK(of(0).slot_bytes() == (1 << 20) + 8);
    CHECK(of(64).slot_bytes() == (2 << 20) + 8);
    CHECK(of(65).slot_bytes() == (3 << 20) + 8);
    CHECK(of(0).page_bytes() == 6 << 10);
    // Parts begin at multiples of 256 bytes, and hold all slots and pages.
    CHECK(of(0).bytes == 4 * ((std::size_t{1} << 20)) + 100 * (6 << 10) + 256);
}

namespace
{
/// What the arrays may not hold. The first of two offences is named.
std::vector<row> offences()
{
    auto const value = rule_kind::value;
    std::string const rising = "never falling, 0 to 17, at most 20 tokens a sequence";
    std::string const next = ", or tokens to the next offset";
    return {
        {[](a& x) {
             x.offsets = numbers({0, 5, 4, 17});
         },
         value, "batch.offsets[1]", "-1" + next, rising},
        {[](a& x) {
             x.offsets = numbers({-1, 5, 5, 17});
         },
         value, "batch.offsets[0]", "-1" + next, rising},
        {[](a& x) {
             x.offsets = numbers({0, 5, 5, 18});
         },
         value, "batch.offsets[2]", "5" + next, rising},
        {[](a& x) {
             x.lengths = numbers({5, 9, 11});
         },
         value, "batch.lengths[2]", "11", "its new tokens to 96, what plan, cache and pool hold"},
        {[](a& x) {
             x.lengths = numbers({97, 9, 12});
         },
         value, "batch.lengths[0]", "97", "its new tokens to 96, what plan, cache and pool hold"},
        {[](a& x) {
             x.slots = numbers({3, 0, 4});
         },
         value, "batch.slots[2]", "4", "0 to 3"},
        {[](a& x) {
             x.slots = numbers({1, 0, 1});
         },
         value, "batch.slots[2]", "1", "a slot of no earlier sequence of the batch"},
        {[](a& x) {
             x.lengths = numbers({5, 9, 14});
         },
         rule_kind::state, "batch.lengths[2] less its new tokens", "2",
         "0, or the tokens that the slot holds, or fewer: up to 16 (rewind_tokens) fewer than the most that it held"},
        {[](a& x) { x.table(2, 0) = 12; }, value, "cache.page_table[2, 0]", "12", "0 to 11"},
        {[](a& x) { x.table(0, 0) = -1, x.table(2, 0) = 12; }, value, "cache.page_table[0, 0]", "-1", "0 to 11"},
    };
}
void make_checked(a& x)
{
    x.o.checked = true;
    x.plan = spla::plan_batch<float>(x.exec, x.limits, x.o);
}
} // namespace

TEST_CASE("checked mode names the first offence of a step's arrays, and writes nothing", "[serving][checked]")
{
    {
        a good;
        make_checked(good);
        // Padding and pages that no token reaches may hold anything.
        good.slots(1) = 3, good.lengths(1) = -8, good.table(1, 0) = 77, good.table(0, 1) = 99;
        CHECK_NOTHROW(good.run());
        good.exec.fence();
    }
    for (auto const& wanted : offences())
    {
        INFO("a wrong " << wanted.argument << ", " << wanted.actual);
        a x;
        make_checked(x);
        wanted.change(x);
        std::string const before = x.bytes();
        expect_throw([&] { x.run(); }, "run_batch", wanted);
        x.exec.fence();
        CHECK(x.bytes() == before);
    }
    a x;
    make_checked(x);
    x.value(x.table(2, 0), 11, 1, 7) = std::numeric_limits<float>::infinity();
    expect_throw([&] { x.run(); }, "run_batch",
                 {{}, rule_kind::value, "cache.value of new token, head, number [16, 1, 7]", "inf", "a finite number"});
    // Tokens that the step would put into the cache, which then holds none of them.
    x.new_value(16, 1, 7) = std::numeric_limits<float>::infinity();
    std::string const before = x.bytes();
    expect_throw(
        [&] {
            spla::run_batch(x.exec, x.plan, x.batch(), x.query, spla::new_tokens{x.new_key, x.new_value}, x.cache(),
                            x.output, x.pool, x.scratch);
        },
        "run_batch",
        {{}, rule_kind::value, "new_value of new token, head, number [16, 1, 7]", "inf", "a finite number"});
    CHECK(x.bytes() == before);
}

TEST_CASE("unchecked, a sequence that breaks a rule is passed over and the others are served", "[serving][checked]")
{
    a good;
    good.write(), good.run();
    good.exec.fence();
    for (auto const& wanted : offences())
    {
        if (wanted.argument == "batch.lengths[2] less its new tokens") continue; // only the slot knows
        INFO("a wrong " << wanted.argument << ", " << wanted.actual);
        a x;
        wanted.change(x);
        x.write(), x.run();
        x.exec.fence();
        bool const first_is_good =
            wanted.argument.find("[0") == std::string::npos && wanted.argument.find("offsets[1]") == std::string::npos;
        for (int t = 0; t < 5 && first_is_good; ++t)
            for (int h = 0; h < 4; ++h)
                for (int d = 0; d < 12; ++d) CHECK(x.output(t, h, d) == good.output(t, h, d));
    }
}

TEST_CASE("unchecked, what follows a falling offset is passed over: together it may be more than there is",
          "[serving][checked]")
{
    auto const run = [](std::vector<int> const& offsets) {
        a x;
        auto const lists = unwritten_lists<space>(1, 17, 2, 4); // as many as 17 tokens have
        x.extras.return_lists(lists);
        x.offsets = numbers(offsets), x.lengths = numbers({17, 9, 17});
        x.run();
        x.exec.fence();
        return x.bytes();
    };
    CHECK(run({0, 17, 0, 17}) == run({0, 17, 17, 17}));
    CHECK(run({0, 17, 0, 17}) != run({0, 0, 0, 17}));
}
