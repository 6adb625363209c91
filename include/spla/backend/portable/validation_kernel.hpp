// SPDX-FileCopyrightText: The spla authors
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once
#include "../../algorithm/causal_bounds.hpp"
#include "../../block_list.hpp"
#include "../../check.hpp"

#include <cstdint>
#include <limits>
#include <optional>
#include <string>

/// Checked mode: what views hold is looked at on the device, and the first offence in ascending order comes back with
/// its place and value. The only kernels that the host waits for, and only where options.checked asks for them.
namespace spla::portable
{

/// Number i is an offence: its place in a violation is the smallest such i. value(i) is what stands there.
template <class Rule>
struct first_offence
{
    Rule rule;
    KOKKOS_FUNCTION void operator()(std::int64_t i, std::int64_t& first) const
    {
        if (i < first && rule.offends(i)) first = i;
    }
};
template <class Rule>
struct offending_value
{
    Rule rule;
    std::int64_t at;
    KOKKOS_FUNCTION void operator()(std::int64_t, double& sum) const { sum += rule.value(at); }
};

struct offence
{
    std::int64_t at;
    double value;
};

/// The first of `count` numbers that offends. Waits for the instance.
template <class Exec, class Rule>
std::optional<offence> find_offence(Exec const& exec, std::int64_t count, Rule const& rule)
{
    using range = Kokkos::RangePolicy<Exec, Kokkos::IndexType<std::int64_t>>;
    std::int64_t first = std::numeric_limits<std::int64_t>::max();
    if (count > 0)
        Kokkos::parallel_reduce("spla::checked::find", range(exec, 0, count), first_offence<Rule>{rule},
                                Kokkos::Min<std::int64_t>(first));
    if (first == std::numeric_limits<std::int64_t>::max()) return {};
    double value = 0;
    Kokkos::parallel_reduce("spla::checked::value", range(exec, 0, 1), offending_value<Rule>{rule, first}, value);
    return offence{first, value};
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
    c.require(false, rule_kind::value, argument + detail::extents(place, 4), found->value, "a finite number");
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
        c.require(false, rule_kind::value, "extras.use_lists lengths" + detail::extents(place, 3), actual,
                  "0 to " + std::to_string(list.capacity));
        return;
    }
    block_range const range = rule.competing(p.tile);
    c.require(false, rule_kind::value, "extras.use_lists" + detail::extents(place, 4), actual,
              range.count() == 0 ? "no entry: no block competes"
                                 : "ascending blocks of " + std::to_string(range.begin) + " to " +
                                       std::to_string(range.end - 1) + ", which compete");
}

} // namespace spla::portable
