// SPDX-FileCopyrightText: The spla authors
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once
#include "../catch.hpp"
#include "../conformance/core.hpp"

#include <functional>

/// Tables of rules: what a call refuses, in which words, and that it wrote nothing.
namespace spla_test
{
using spla::rule_kind;

struct rule
{
    rule_kind kind;
    std::string argument, actual, allowed;
};

inline bool is_of_kind(spla::argument_error const& e, rule_kind kind)
{
    switch (kind)
    {
    case rule_kind::shape:
        return dynamic_cast<spla::shape_error const*>(&e) != nullptr;
    case rule_kind::unsupported:
        return dynamic_cast<spla::unsupported_error const*>(&e) != nullptr;
    case rule_kind::state:
        return dynamic_cast<spla::state_error const*>(&e) != nullptr;
    case rule_kind::value:
        break;
    }
    return dynamic_cast<spla::value_error const*>(&e) != nullptr;
}

inline void expect(spla::violation const& found, std::string const& call, rule const& wanted)
{
    CHECK(found.call == call);
    CHECK(found.argument == wanted.argument);
    CHECK(found.actual == wanted.actual);
    CHECK(found.allowed == wanted.allowed);
    CHECK(found.kind == wanted.kind);
    CHECK(found.message() ==
          "spla::" + call + ": " + wanted.argument + " is " + wanted.actual + "; allowed: " + wanted.allowed);
}

/// The call throws the wanted violation, as the exception of its kind.
template <class Call>
void expect_throw(std::string const& name, rule const& wanted, Call const& call)
{
    try
    {
        call();
        FAIL_CHECK("nothing was thrown");
    } catch (spla::argument_error const& e)
    {
        expect(e.found(), name, wanted);
        CHECK(is_of_kind(e, wanted.kind));
        CHECK(std::string(e.what()) == e.found().message());
    }
}

/// Everything that a call may take and write: a cache of 200 tokens of two sequences, 160 of them in the state, and the
/// queries of the other 40. A row of a table changes one thing.
struct arguments
{
    using call = calls<host, float>;
    using space = host::memory_space;

    host exec;
    spla::options<> o = small_options();
    any_view<float, space> query = filled(40, 4, 8), key = filled(200, 2, 8), value = filled(200, 2, 12);
    any_view<float, space> new_key = filled(10, 2, 8), new_value = filled(10, 2, 12);
    any_view<float, space> output = filled(40, 4, 12), sparse = filled(40, 4, 12), residual = filled(40, 4, 12);
    Kokkos::View<float***, Kokkos::LayoutRight, space> lse{"lse", 2, 40, 4};
    int_lists<space> lists = unwritten_lists<space>(2, 40, 2, 4);
    spla::attention_extras<float> extras;
    call::scratch scratch{"scratch", std::size_t{1} << 20};
    call::state state = held(o);
    std::int64_t first_block = 0, blocks = 2; ///< of block_statistics

    /// Views of two sequences, every number 42.
    static any_view<float, space> filled(int tokens, int heads, int dim, int batch = 2)
    {
        auto const v = empty_view<float, space>(batch, tokens, heads, dim);
        host_view<float> const all("all", batch, tokens, heads, dim);
        std::fill_n(all.data(), all.size(), 42.0f);
        from_host(all, v);
        return v;
    }
    /// The same, the last dimension not contiguous.
    static any_view<float, space> scattered(int tokens, int heads, int dim)
    {
        return Kokkos::View<float****, Kokkos::LayoutLeft, space>("scattered", 2, tokens, heads, dim);
    }
    static spla::problem capacity(int keys = 200)
    {
        spla::problem p;
        p.batch = 2, p.queries = 40, p.keys = keys, p.query_heads = 4, p.key_heads = 2, p.head_dim = 8,
        p.value_dim = 12;
        return p;
    }
    /// A state of these options, as if 160 tokens had come in two appends, the second of 60.
    static call::state held(spla::options<> const& with, int keys = 200)
    {
        auto s = call::make_state(host(), capacity(keys), with);
        Kokkos::deep_copy(s.buffer(), std::byte{0x11});
        s.tokens = 160, s.state_end = 7, s.prefix_first = 4, s.prefix_count = 3, s.summary_end = 10;
        return s;
    }
    /// Options, and a state made for them.
    void set(spla::options<> const& with)
    {
        o = with;
        auto const before = state;
        state = held(with);
        static_cast<spla::sequence_progress&>(state) = before;
    }
    template <class Change>
    void set_changed(Change const& change)
    {
        change(o);
        set(o);
    }
    void use_lists() { extras.use_lists(lists); }

    /// All 200 tokens are in the state.
    static arguments appended()
    {
        arguments a;
        a.state.tokens = 200, a.state.state_end = 10, a.state.prefix_first = 7, a.state.summary_end = 12;
        return a;
    }
    static arguments with_lists()
    {
        arguments a = appended();
        a.use_lists();
        return a;
    }

    /// Every byte that a call could write.
    std::string bytes() const
    {
        std::string all;
        auto const add = [&](auto const& v) {
            if (v.data()) all.append(reinterpret_cast<char const*>(v.data()), v.span() * sizeof(*v.data()));
        };
        add(key), add(value), add(output), add(sparse), add(residual), add(lse), add(lists.indices), add(lists.lengths);
        add(state.buffer()), add(scratch);
        for (std::int64_t n : {state.tokens, state.state_end, state.prefix_first, state.prefix_count, state.shared_tile,
                               state.summary_end})
            all += std::to_string(n) + ' ';
        return all;
    }
};

struct row
{
    std::function<void(arguments&)> change;
    rule wanted;
};

/// A call with its check.
struct checked_call
{
    std::string name;
    std::function<std::optional<spla::violation>(arguments const&)> check;
    std::function<void(arguments&)> run;
};
checked_call append_call();
checked_call prefill_call();
checked_call decode_call();
checked_call select_call();
checked_call block_statistics_call();
checked_call selected_attention_call();
checked_call residual_attention_call();
checked_call combine_call();

/// Each row's change makes the call throw what it says, and its check return the same; nothing is written. Unchanged
/// arguments are accepted, or no row would show anything.
template <class Make>
void hold_table(checked_call const& call, std::vector<row> const& rows, Make const& make)
{
    std::string const& name = call.name;
    {
        arguments good = make();
        INFO(name << " of good arguments");
        std::string const before = good.bytes();
        CHECK_FALSE(call.check(good));
        CHECK_NOTHROW(call.run(good));
        good.exec.fence();
        CHECK(good.bytes() != before);
    }
    for (auto const& [change, wanted] : rows)
    {
        INFO(name << " with a wrong " << wanted.argument << ", " << wanted.actual);
        arguments a = make();
        change(a);
        std::string const before = a.bytes();
        auto const found = call.check(a);
        REQUIRE(found);
        expect(*found, name, wanted);
        expect_throw(name, wanted, [&] { call.run(a); });
        a.exec.fence();
        CHECK(a.bytes() == before);
    }
}
/// Of arguments as they are made.
inline void hold_table(checked_call const& call, std::vector<row> const& rows)
{
    hold_table(call, rows, [] { return arguments(); });
}

} // namespace spla_test
