// SPDX-FileCopyrightText: The spla authors
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once
#include "../../algorithm/causal_bounds.hpp"
#include "../../block_list.hpp"
#include "../../check.hpp"
#include "launch.hpp"

#include <cstdint>
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
            found = Kokkos::bit_cast<std::int64_t>(rule.value(at));
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
    return offence{at, Kokkos::bit_cast<double>(reduce(1, {rule, at}))};
}

/// Any rule, by reference: see kernel_reference.
struct rule_reference
{
    void const* rule;
    bool (*offends_)(void const*, std::int64_t);
    double (*value_)(void const*, std::int64_t);

    bool offends(std::int64_t i) const { return offends_(rule, i); }
    double value(std::int64_t i) const { return value_(rule, i); }
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

private:
    KOKKOS_FUNCTION static double widen_to_double(Element e)
    {
        if constexpr (std::is_same_v<Element, double>)
            return e;
        else
            return static_cast<double>(static_cast<float>(e));
    }
};

/// Lists are ascending entries of the competing blocks (spec section 2). Numbers: capacity entries a list, then its
/// length.
struct list_rule
{
    detail::list_tensor list;
    window bounds;
    std::int64_t tiles, key_heads, first_tile;

    struct place
    {
        std::int64_t batch, tile, head, entry; ///< entry == capacity: the length
    };
    KOKKOS_FUNCTION place place_of(std::int64_t i) const
    {
        std::int64_t const numbers = list.capacity + 1, which = i / numbers;
        return {which / key_heads / tiles, which / key_heads % tiles, which % key_heads, i % numbers};
    }
    KOKKOS_FUNCTION block_range competing(std::int64_t tile) const
    {
        return bounds.competing((first_tile + tile) * bounds.tile);
    }
    KOKKOS_FUNCTION double value(std::int64_t i) const
    {
        place const p = place_of(i);
        return p.entry == list.capacity ? list.length(p.batch, p.tile, p.head)
                                        : list.list(p.batch, p.tile, p.head)[p.entry];
    }
    KOKKOS_FUNCTION bool offends(std::int64_t i) const
    {
        place const p = place_of(i);
        std::int64_t const length = list.length(p.batch, p.tile, p.head);
        if (p.entry == list.capacity) return length < 0 || length > list.capacity;
        if (p.entry >= length) return false;
        std::int32_t const* const entries = list.list(p.batch, p.tile, p.head);
        if (!competing(p.tile).contains(entries[p.entry])) return true;
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

/// The caller's lists of the call's `tiles` tiles, the first of which is tile number `first_tile` of the sequence.
template <class Exec>
void require_valid_lists(detail::rule_checker& c, Exec const& exec, detail::list_tensor const& list,
                         window const& bounds, std::int64_t batch, std::int64_t tiles, std::int64_t key_heads,
                         std::int64_t first_tile)
{
    if (c.found()) return;
    list_rule const rule{list, bounds, tiles, key_heads, first_tile};
    auto const found = find_offence(exec, batch * tiles * key_heads * (list.capacity + 1), rule);
    if (!found) return;
    auto const p = rule.place_of(found->at);
    std::int64_t const place[4] = {p.batch, p.tile, p.head, p.entry};
    auto const actual = static_cast<std::int64_t>(found->value);
    if (p.entry == list.capacity)
    {
        c.fail(rule_kind::value, detail::phrase{"extras.use_lists lengths", detail::word(place, 3)}, actual,
               detail::phrase{"0 to ", list.capacity});
        return;
    }
    block_range const range = rule.competing(p.tile);
    detail::word const at(place, 4);
    if (range.count() == 0)
        c.fail(rule_kind::value, detail::phrase{"extras.use_lists", at}, actual, "no entry: no block competes");
    else
        c.fail(rule_kind::value, detail::phrase{"extras.use_lists", at}, actual,
               detail::phrase{"ascending blocks of ", range.begin, " to ", range.end - 1, ", which compete"});
}

} // namespace spla::portable
