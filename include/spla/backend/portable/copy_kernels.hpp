// SPDX-FileCopyrightText: The spla authors
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once
#include "../../block_list.hpp"
#include "attention_shape.hpp"

/// The small kernels that move rows: new keys into a cache, a list into the state, two branches into one output.
namespace spla::portable
{

/// One work item a row [head_dim].
template <class Exec, class Element>
struct copy_tokens
{
    detail::tensor<Element const> from;
    detail::tensor<Element> to; ///< token 0 is where the first row goes

    KOKKOS_FUNCTION void operator()(team_of<Exec> const& team, std::int64_t item) const
    {
        std::int64_t const head = item % from.extent[2], token = item / from.extent[2] % from.extent[1];
        std::int64_t const batch = item / from.extent[2] / from.extent[1];
        Element const* const source = from.row(batch, token, head);
        Element* const target = to.row(batch, token, head);
        Kokkos::parallel_for(Kokkos::TeamVectorRange(team, from.extent[3]),
                             [&](std::int64_t d) { target[d] = source[d]; });
    }
};

/// Keys and values of a step's new tokens, packed, and the cache that they go to.
template <class Element>
struct new_rows
{
    detail::tensor<Element const> key, value;
    detail::tensor<Element> to_key, to_value;

    explicit operator bool() const { return static_cast<bool>(to_key); }
};

/// New tokens of a step into the cache: one work item a row of keys and one a row of values.
template <class Exec, class Element>
struct write_new_rows
{
    new_rows<Element> rows;
    detail::sequence_table sequences;

    std::int64_t items() const { return sequences.tokens * rows.key.extent[2] * 2; }
    KOKKOS_FUNCTION void operator()(team_of<Exec> const& team, std::int64_t item) const
    {
        std::int64_t const heads = rows.key.extent[2], head = item / 2 % heads, row = item / 2 / heads;
        auto const place = detail::item_table{sequences.count, 1, sequences.offsets}.find(row);
        if (place.sequence >= sequences.count) return;
        detail::sequence const s = sequences[place.sequence];
        if (place.item < 0 || place.item >= s.queries) return;
        copy(team, item % 2 == 0 ? rows.key : rows.value, item % 2 == 0 ? rows.to_key : rows.to_value, s, row,
             s.first_position() + place.item, head);
    }

private:
    KOKKOS_FUNCTION static void copy(team_of<Exec> const& team, detail::tensor<Element const> const& from,
                                     detail::tensor<Element> const& to, detail::sequence const& s, std::int64_t row,
                                     std::int64_t token, std::int64_t head)
    {
        if (!to.map.holds(s.number, token)) return;
        Element const* const source = from.row(0, row, head);
        Element* const target = to.row(s.number, token, head);
        Kokkos::parallel_for(Kokkos::TeamVectorRange(team, from.extent[3]),
                             [&](std::int64_t d) { target[d] = source[d]; });
    }
};

/// One work item a sequence and key head: the list of tile `from_tile` of one set of lists to tile `to_tile` of
/// another.
template <class Exec>
struct copy_list
{
    detail::list_tensor from, to;
    std::int64_t from_tile, to_tile, key_heads;

    KOKKOS_FUNCTION void operator()(team_of<Exec> const& team, std::int64_t item) const
    {
        std::int64_t const head = item % key_heads, sequence = item / key_heads;
        detail::copy(team, from, sequence, from_tile, to, sequence, to_tile, head);
    }
};

/// The stage combine: one team a row of both branches, which are inputs here.
template <class Exec, class Element>
struct combine_kernel
{
    using T = accumulator_t<Element>;
    using team_type = team_of<Exec>;
    detail::output_tensor<Element> sparse, residual, output;
    detail::combination_rule<T> rule;
    std::int64_t queries, heads;
    int value_dim;

    KOKKOS_FUNCTION void operator()(team_type const& team, std::int64_t row) const
    {
        std::int64_t const head = row % heads, token = row / heads % queries;
        std::int64_t const batch = row / heads / queries;
        Kokkos::parallel_for(Kokkos::TeamThreadRange(team, 1), [&](int) {
            auto const o = sparse.row(batch, token, head), r = residual.row(batch, token, head);
            auto const to = output.row(batch, token, head);
            auto const inverse_rms = [&](detail::output_row<Element> const& x) {
                return rule.inverse_rms([&](int d) { return x.get(d); }, value_dim);
            };
            T const scale_o = inverse_rms(o), scale_r = inverse_rms(r);
            Kokkos::parallel_for(Kokkos::ThreadVectorRange(team, value_dim),
                                 [&](int d) { to.set(d, rule(head, d, o.get(d), scale_o, r.get(d), scale_r)); });
        });
    }
};

} // namespace spla::portable
