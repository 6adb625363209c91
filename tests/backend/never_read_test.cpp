// SPDX-FileCopyrightText: The spla authors
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#include "conformance/conforms.hpp"

using namespace spla_test;

namespace
{
/// Overwrites with NaN every key and value that no query of [first, last] reads: blocks neither forced nor in any list
/// of any of them, and what lies behind `length`. Returns how many tokens that are.
template <class Exec, class Element>
int poison_unread(data<Exec, Element> const& d, spla::reference::lists const& chosen, spla::options<> const& o,
                  int first, int length)
{
    auto const nan = narrow<Element>(std::numeric_limits<double>::quiet_NaN());
    auto const key = on_host(d.key), value = on_host(d.value);
    int poisoned = 0;
    for (int t = 0; t < d.size.keys; ++t)
    {
        int const b = t / o.block;
        bool read = t < length && (b < o.sink_blocks || b >= first / o.block - o.local_blocks);
        for (auto const& tile : chosen)
            for (auto const& list : tile) read = read || std::binary_search(list.begin(), list.end(), b);
        if (read) continue;
        ++poisoned;
        for (int h = 0; h < d.size.key_heads; ++h)
        {
            for (int x = 0; x < d.size.head_dim; ++x) key(0, t, h, x) = nan;
            for (int x = 0; x < d.size.value_dim; ++x) value(0, t, h, x) = nan;
        }
    }
    from_host(key, d.key);
    from_host(value, d.value);
    return poisoned;
}

enum class kind
{
    decode,         ///< everything appended before
    chunk,          ///< prefill of what was appended before
    appending_chunk ///< prefill of what it appends itself
};

/// The last 6 of `length` tokens ask, of a cache with room for more, before and after the overwriting.
template <class Exec, class Element>
void never_read(kind how, spla::options<> const& o, int length = 300, int width = 16)
{
    int const capacity = length + 20, count = 6, first = length - count;
    auto const played = [&](bool spoil, spla::reference::lists const& chosen) {
        data<Exec, Element> mine({1, count, capacity, 2, 1, width, width}, 5);
        data<Exec, Element> seen = mine; // what the calls know of: `length` keys
        seen.size.keys = length;
        stepper<Exec, Element> s(seen, o);
        for (int t = 0; t < first; t += first / 3) s.append(t, t + first / 3);
        if (how != kind::appending_chunk) s.append(first, length);
        if (spoil) CHECK(poison_unread(mine, chosen, o, first, length) > 40);
        if (how == kind::decode)
            s.decode(first, length);
        else
            s.prefill(first, length);
        return s.r;
    };
    auto const before = played(false, {});
    auto const after = played(true, before.chosen(0));
    CHECK(same_bits(before.output, after.output));
    CHECK(same_bits(before.sparse, after.sparse));
    CHECK(same_bits(before.residual, after.residual));
    CHECK(same_bits(before.lse, after.lse));
    CHECK(before.chosen(0) == after.chosen(0));
}

template <class Exec, class Element>
void never_read_in_any_call()
{
    for (auto const how : {kind::decode, kind::chunk, kind::appending_chunk})
        for (bool const normalised : {false, true})
            for (auto const share : {spla::sharing::per_token(), spla::sharing::tile_sum(8)})
            {
                auto o = small_options();
                o.normalised = normalised, o.share = share;
                INFO("call " << static_cast<int>(how) << (normalised ? ", normalised" : "") << ", T " << share.tile);
                never_read<Exec, Element>(how, o);
            }
}
} // namespace

TEMPLATE_LIST_TEST_CASE("unselected blocks and slots past the end are never read", "[invariants][unread]", spaces)
{
    never_read_in_any_call<TestType, float>();
}

TEMPLATE_LIST_TEST_CASE("unselected blocks and slots past the end are never read: bf16", "[invariants][unread]",
                        host_and_device)
{
    never_read_in_any_call<TestType, spla::bfloat16>();
}

// Sizes that matrix units take.
TEMPLATE_LIST_TEST_CASE("unselected blocks and slots past the end are never read: blocks of 64",
                        "[invariants][unread][matrix_units]", host_and_device)
{
    spla::options<> o;
    o.local_blocks = 1, o.top_k = 2;
    for (auto const how : {kind::chunk, kind::appending_chunk})
    {
        INFO("call " << static_cast<int>(how));
        never_read<TestType, spla::bfloat16>(how, o, 600, 64);
    }
}
