// SPDX-FileCopyrightText: The spla authors
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once
#include "../../algorithm/causal_bounds.hpp"
#include "../../block_list.hpp"
#include "../../check.hpp"
#include "launch.hpp"

#include <cstdint>
#include <cstring>
#include <limits>
#include <optional>

/// Checked mode: what views hold is looked at on the device, and the first offence in ascending order comes back with
/// its place and value. The only kernels that the host waits for, and only where options.checked asks for them.
namespace spla::portable
{

/// Looks for the smallest number that offends, or, where that is known, for what stands there (its bits).
template <class Rule>
struct offence_search
{
    Rule rule;
    std::int64_t at = -1;

    KOKKOS_FUNCTION void operator()(std::int64_t i, std::int64_t& found) const
    {
        if (at >= 0)
        {
            double const value = rule.value(at);
            memcpy(&found, &value, sizeof(found));
        }
        else if (i < found && rule.offends(i))
            found = i;
    }
};

struct offence
{
    std::int64_t at;
    double value;
};

template <class Exec, class Rule>
std::optional<offence> search(Exec const& exec, std::int64_t count, Rule const& rule)
{
    auto const reduce = [&exec](std::int64_t items, offence_search<Rule> const& what) {
        std::int64_t found = std::numeric_limits<std::int64_t>::max();
        Kokkos::RangePolicy<Exec, Kokkos::IndexType<std::int64_t>> const range(exec, 0, items);
        Kokkos::parallel_reduce("spla::checked", range, what, Kokkos::Min<std::int64_t>(found));
        return found;
    };
    if (count <= 0) return {};
    std::int64_t const at = reduce(count, {rule});
    if (at == std::numeric_limits<std::int64_t>::max()) return {};
    std::int64_t const bits = reduce(1, {rule, at});
    offence first{at, 0.0};
    std::memcpy(&first.value, &bits, sizeof(bits));
    return first;
}

/// Any rule, by reference: see kernel_reference.
struct rule_reference
{
    void const* rule;
    bool (*offends_)(void const*, std::int64_t);
    double (*value_)(void const*, std::int64_t);

    KOKKOS_FUNCTION bool offends(std::int64_t i) const { return offends_(rule, i); }
    KOKKOS_FUNCTION double value(std::int64_t i) const { return value_(rule, i); }
};

/// The first of `count` numbers that offends. Waits for the instance.
template <class Exec, class Rule>
std::optional<offence> find_offence(Exec const& exec, std::int64_t count, Rule const& rule)
{
    if constexpr (launches_wait<Exec>)
        return search(
            exec, count,
            rule_reference{&rule, [](void const* r, std::int64_t i) { return static_cast<Rule const*>(r)->offends(i); },
                           [](void const* r, std::int64_t i) { return static_cast<Rule const*>(r)->value(i); }});
    else
        return search(exec, count, rule);
}

/// Keys and values are finite.
template <class Element>
struct finite_rule
{
    detail::tensor<Element const> x;

    KOKKOS_FUNCTION double value(std::int64_t i) const
    {
        std::int64_t const d = i % x.extent[3], head = i / x.extent[3] % x.extent[2];
        std::int64_t const token = i / x.extent[3] / x.extent[2] % x.extent[1];
        return widen_to_double(x.row(i / x.extent[3] / x.extent[2] / x.extent[1], token, head)[d]);
    }
    KOKKOS_FUNCTION bool offends(std::int64_t i) const
    {
        double const v = value(i);
        return !(v - v == 0.0);
    }

    KOKKOS_FUNCTION static double widen_to_double(Element e)
    {
        if constexpr (std::is_same_v<Element, double>)
            return e;
        else
            return static_cast<double>(static_cast<float>(e));
    }
};

/// New tokens of a step are finite: the same numbers, token after token of all sequences.
template <class Element>
struct finite_token_rule
{
    detail::tensor<Element const> x;
    detail::sequence_table sequences;
    bool packed = false; ///< x has the new tokens alone, one after the other

    struct place
    {
        std::int64_t sequence, token, head, d; ///< no such sequence: token -1
    };
    KOKKOS_FUNCTION place place_of(std::int64_t i) const
    {
        std::int64_t const d = i % x.extent[3], head = i / x.extent[3] % x.extent[2];
        auto const at = detail::item_table{sequences.count, 0, sequences.offsets}.find(i / x.extent[3] / x.extent[2]);
        if (at.sequence >= sequences.count || at.item < 0) return {0, -1, head, d};
        detail::sequence const s = sequences[at.sequence];
        return {s.number, at.item < s.queries ? s.first_position() + at.item : -1, head, d};
    }
    KOKKOS_FUNCTION double value(std::int64_t i) const
    {
        place const p = place_of(i);
        if (p.token < 0) return 0.0;
        Element const* const row =
            packed ? x.row(0, i / x.extent[3] / x.extent[2], p.head) : x.row(p.sequence, p.token, p.head);
        return finite_rule<Element>::widen_to_double(row[p.d]);
    }
    KOKKOS_FUNCTION bool offends(std::int64_t i) const
    {
        double const v = value(i);
        return !(v - v == 0.0);
    }
};

/// What a step's arrays must be: of each sequence its offset, length, slot, how far its slot has come, where its keys
/// begin, and its pages.
struct batch_rule
{
    detail::sequence_table sequences;
    detail::token_map map; ///< of the cache
    std::int32_t const* held;
    std::int64_t rewind_tokens;
    std::int64_t most_pages = 0; ///< of a sequence

    enum entry
    {
        offset,
        length,
        slot,
        twice,
        progress,
        key_offset,
        page ///< and those after it
    };
    KOKKOS_FUNCTION std::int64_t entries() const { return page + (map.has_pages() ? most_pages : 0); }
    KOKKOS_FUNCTION std::int64_t added(std::int64_t b) const
    {
        return std::int64_t{sequences.offsets[b + 1]} - sequences.offsets[b];
    }
    KOKKOS_FUNCTION bool slot_holds(std::int64_t b) const
    {
        return sequences.slots[b] >= 0 && sequences.slots[b] < sequences.slot_count;
    }
    KOKKOS_FUNCTION double value(std::int64_t i) const
    {
        std::int64_t const b = i / entries(), which = i % entries();
        if (which == offset)
            return added(b) < 0 || added(b) > sequences.queries ? double(added(b)) : double(sequences.offsets[b]);
        if (which == length) return sequences.lengths[b];
        if (which == slot || which == twice) return sequences.slots[b];
        if (which == progress) return double(sequences.lengths[b] - added(b));
        if (which == key_offset) return sequences.key_offsets[b];
        return static_cast<double>(map.page(b, which - page));
    }
    KOKKOS_FUNCTION bool offends(std::int64_t i) const
    {
        std::int64_t const b = i / entries(), which = i % entries();
        std::int64_t const n = added(b), first = sequences.offsets[b];
        bool const sound = n >= 0 && n <= sequences.queries && first >= 0 && first + n <= sequences.tokens;
        if (which == offset) return !sound;
        if (!sound || n == 0) return false; // padding
        std::int64_t const keys = sequences.lengths[b];
        bool const fits = keys >= n && keys <= sequences.keys;
        if (which == length) return !fits;
        if (which == slot) return !slot_holds(b);
        if (which == twice)
        {
            for (std::int64_t other = 0; other < b; ++other)
                if (added(other) > 0 && sequences.slots[other] == sequences.slots[b]) return true;
            return false;
        }
        if (!fits) return false;
        if (which == progress)
        {
            if (keys == n || !slot_holds(b)) return false;
            std::int32_t const* const now = held + 2 * std::int64_t{sequences.slots[b]};
            return keys - n > now[0] || keys - n < now[1] - rewind_tokens;
        }
        if (which == key_offset)
            return sequences.key_offsets &&
                   (sequences.key_offsets[b] < 0 || sequences.key_offsets[b] + keys > sequences.key_tokens);
        std::int64_t const p = which - page;
        if (p * map.page_tokens() >= keys) return false;
        std::int64_t const at = map.page(b, p);
        return at < 0 || at >= map.page_count();
    }
};

/// Lists are ascending entries of the competing blocks (spec section 2). Numbers: capacity entries a list, then its
/// length.
struct list_rule
{
    detail::list_tensor list;
    window bounds;
    std::int64_t key_heads;
    detail::sequence_table sequences;
    detail::item_table lists;

    struct place
    {
        std::int64_t sequence, tile, head, entry; ///< entry == capacity: the length; tile -1: no such list
    };
    KOKKOS_FUNCTION place place_of(std::int64_t i) const
    {
        std::int64_t const numbers = list.capacity + 1, which = i / numbers;
        auto const at = lists.find(which / key_heads);
        if (at.sequence >= sequences.count) return {0, -1, 0, 0};
        return {at.sequence, at.item, which % key_heads, i % numbers};
    }
    KOKKOS_FUNCTION block_range competing(place const& p) const
    {
        std::int64_t const first = floor_divide(sequences[p.sequence].first_position(), bounds.tile);
        return bounds.competing((first + p.tile) * bounds.tile);
    }
    KOKKOS_FUNCTION double value(std::int64_t i) const
    {
        place const p = place_of(i);
        if (p.tile < 0) return 0.0;
        return p.entry == list.capacity ? list.length(p.sequence, p.tile, p.head)
                                        : list.list(p.sequence, p.tile, p.head)[p.entry];
    }
    KOKKOS_FUNCTION bool offends(std::int64_t i) const
    {
        place const p = place_of(i);
        if (p.tile < 0) return false;
        std::int64_t const length = list.length(p.sequence, p.tile, p.head);
        if (p.entry == list.capacity) return length < 0 || length > list.capacity;
        if (p.entry >= length) return false;
        std::int32_t const* const entries = list.list(p.sequence, p.tile, p.head);
        if (!competing(p).contains(entries[p.entry])) return true;
        return p.entry > 0 && entries[p.entry] <= entries[p.entry - 1];
    }
};

/// Tokens of `x` are finite; `first` is the number of its first token in the view that the violation names.
template <class Exec, class Element>
void require_finite(detail::rule_checker& c, Exec const& exec, char const* argument,
                    detail::tensor<Element const> const& x, std::int64_t first = 0)
{
    if (c.found()) return;
    std::int64_t const* const e = x.extent;
    auto const found = find_offence(exec, e[0] * e[1] * e[2] * e[3], finite_rule<Element>{x});
    if (!found) return;
    std::int64_t const at = found->at, row = at / e[3];
    std::int64_t const place[4] = {row / e[2] / e[1], first + row / e[2] % e[1], row % e[2], at % e[3]};
    c.fail(rule_kind::value, detail::phrase{argument, detail::word(place, 4)}, found->value, "a finite number");
}

/// The caller's lists, at most `most` of them.
template <class Exec>
void require_valid_lists(detail::rule_checker& c, Exec const& exec, detail::list_tensor const& list,
                         window const& bounds, std::int64_t key_heads, detail::sequence_table const& sequences,
                         detail::item_table const& lists, std::int64_t most)
{
    if (c.found()) return;
    list_rule const rule{list, bounds, key_heads, sequences, lists};
    auto const found = find_offence(exec, most * key_heads * (list.capacity + 1), rule);
    if (!found) return;
    auto const p = rule.place_of(found->at);
    std::int64_t const place[4] = {p.sequence, p.tile, p.head, p.entry};
    auto const actual = static_cast<std::int64_t>(found->value);
    if (p.entry == list.capacity)
    {
        c.fail(rule_kind::value, detail::phrase{"extras.use_lists lengths", detail::word(place, 3)}, actual,
               detail::phrase{"0 to ", list.capacity});
        return;
    }
    block_range const range = rule.competing(p);
    detail::word const at(place, 4);
    if (range.count() == 0)
        c.fail(rule_kind::value, detail::phrase{"extras.use_lists", at}, actual, "no entry: no block competes");
    else
        c.fail(rule_kind::value, detail::phrase{"extras.use_lists", at}, actual,
               detail::phrase{"ascending blocks of ", range.begin, " to ", range.end - 1, ", which compete"});
}

/// New tokens of a step are finite in the cache; or, packed, before they are put there.
template <class Exec, class Element>
void require_finite_tokens(detail::rule_checker& c, Exec const& exec, char const* argument,
                           detail::tensor<Element const> const& x, detail::sequence_table const& sequences,
                           bool packed = false)
{
    if (c.found()) return;
    finite_token_rule<Element> const rule{x, sequences, packed};
    auto const found = find_offence(exec, sequences.tokens * x.extent[2] * x.extent[3], rule);
    if (!found) return;
    std::int64_t const numbers = x.extent[2] * x.extent[3], row = found->at / numbers;
    std::int64_t const place[3] = {row, found->at / x.extent[3] % x.extent[2], found->at % x.extent[3]};
    c.fail(rule_kind::value, detail::phrase{argument, " of new token, head, number ", detail::word(place, 3)},
           found->value, "a finite number");
}

/// A step's arrays.
template <class Exec>
void require_valid_batch(detail::rule_checker& c, Exec const& exec, batch_rule rule)
{
    using detail::phrase;
    detail::sequence_table const& s = rule.sequences;
    if (rule.map.has_pages()) rule.most_pages = ceil_divide(s.keys, rule.map.page_tokens());
    auto const found = find_offence(exec, s.count * rule.entries(), rule);
    if (!found) return;
    std::int64_t const b = found->at / rule.entries(), which = found->at % rule.entries();
    auto const actual = static_cast<std::int64_t>(found->value);
    std::int64_t const place[2] = {b, which - batch_rule::page};
    detail::word const at(place, 1);
    auto const value = rule_kind::value;
    switch (which)
    {
    case batch_rule::offset:
        c.fail(value, phrase{"batch.offsets", at}, phrase{actual, ", or tokens to the next offset"},
               phrase{"never falling, 0 to ", s.tokens, ", at most ", s.queries, " tokens a sequence"});
        return;
    case batch_rule::length:
        c.fail(value, phrase{"batch.lengths", at}, actual,
               phrase{"its new tokens to ", s.keys, ", what plan, cache and pool hold"});
        return;
    case batch_rule::slot:
        c.fail(value, phrase{"batch.slots", at}, actual, phrase{"0 to ", s.slot_count - 1});
        return;
    case batch_rule::twice:
        c.fail(value, phrase{"batch.slots", at}, actual, "a slot of no earlier sequence of the batch");
        return;
    case batch_rule::progress:
        c.fail(rule_kind::state, phrase{"batch.lengths", at, " less its new tokens"}, actual,
               phrase{"0, or the tokens that the slot holds, or fewer: up to ", rule.rewind_tokens,
                      " (rewind_tokens) fewer than the most that it held"});
        return;
    case batch_rule::key_offset:
        c.fail(value, phrase{"cache.key_offsets", at}, actual,
               phrase{"0 or more, with the sequence's tokens within the ", s.key_tokens, " of key"});
        return;
    default:
        c.fail(value, phrase{"cache.page_table", detail::word(place, 2)}, actual,
               phrase{"0 to ", rule.map.page_count() - 1});
    }
}

} // namespace spla::portable
