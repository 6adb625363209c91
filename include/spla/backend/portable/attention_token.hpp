// SPDX-FileCopyrightText: The spla authors
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once
#include "attention_tile.hpp"

namespace spla::portable
{

/// A decode step on a CPU: the heads of one token's group against a block. So few rows leave the machine waiting for
/// memory, so a block is taken in stripes of a few packs of keys that stay in the first-level cache, and the next
/// block is asked for stripe by stripe, not in one burst behind which every load waits.
template <class Exec, class FeatureMap, class Element>
struct attention_token : attention_tile<Exec, FeatureMap, Element>
{
    using tile_type = attention_tile<Exec, FeatureMap, Element>;
    using tile_type::leading;
    using tile_type::shape;
    using typename tile_type::memory;
    using typename tile_type::T;
    using typename tile_type::team_type;

    /// Block b for the one token of m.token at `position`, which all rows share; `next` (-1: none) is visited after it.
    KOKKOS_FUNCTION void visit_by_token(team_type const& team, memory const& m, detail::sequence const& sequence,
                                        std::int64_t head, std::int64_t b, std::int64_t next, std::int64_t position,
                                        block_range const& competing) const
    {
        constexpr int pack = native_lanes<T>, stripe = 2 * pack;
        bool const competes = competing.contains(b);
        walk_token& token = m.token[0];
        bool const selected = competes && next_selected(token, competing, b - 1) == b;
        bool const attends = shape.exact && (selected || !competes);
        bool const subtracts = shape.residual && selected && !token.direct && !token.complete;
        bool const adds = shape.residual && competes && !selected && token.direct;
        std::int64_t const first = b * shape.bounds.block;
        int const keys = static_cast<int>(Kokkos::min(shape.bounds.block, position + 1 - first)); // none after it
        int const rows = shape.group;
        std::int64_t const next_first = next < 0 ? first : next * shape.bounds.block;
        int const next_keys =
            next < 0 ? 0 : static_cast<int>(Kokkos::min(shape.bounds.block, position + 1 - next_first));
        auto const values_here = this->value.rows(sequence.number, first, head);
        auto const values_next = this->value.rows(sequence.number, next_first, head);
        for (int s = 0; s < keys; s += stripe)
        {
            int const columns = Kokkos::min(stripe, leading() - s);
            int asked = s; // values asked for: of this block into the first level, of the next into the second
            auto const ask = [&](int count) {
                int const end = Kokkos::min(asked + count, s + stripe);
                using detail::cache_level;
                detail::prefetch_rows<cache_level::first>(team, Kokkos::min(end, keys) - asked, shape.value_dim,
                                                          values_here.from(asked));
                detail::prefetch_rows(team, Kokkos::min(end, next_keys) - asked, shape.value_dim,
                                      values_next.from(asked));
                asked = end;
            };
            auto const load = [&](detail::tensor<Element const> const& from, int width) {
                detail::load_transposed(team, Kokkos::min(columns, keys - s), columns, width,
                                        from.rows(sequence.number, first, head).from(s), m.keys, columns,
                                        from.rows(sequence.number, next_first, head).from(s), next_keys - s);
            };
            auto const multiply = [&](T const* query, int width, T const* panel, T* products) {
                ask(2);
                detail::multiply<detail::product::set>(team, rows, width, columns,
                                                       detail::row_set<T const>{query, width}, panel, columns,
                                                       detail::row_set<T>{products + s, leading()});
            };
            if (attends)
            {
                load(this->key, shape.width);
                multiply(m.query, shape.width, m.keys, m.logits);
            }
            if (subtracts || adds)
            {
                if (!attends || !shape.same_keys) load(this->residual_key, shape.residual_width);
                for (int c = 0; c < columns; c += pack)
                {
                    ask(stripe / 4);
                    detail::apply_feature_map(team, this->phi, pack, shape.residual_width, m.keys + c,
                                              m.key_features + c, columns, this->state.rounds_features);
                }
                multiply(m.query_features, shape.features, m.key_features, m.products);
            }
            ask(stripe);
        }
        auto const values = this->load_values(team, m, sequence, head, b, keys, true);
        if (attends) this->absorb_rows(team, m, values, rows, nullptr, keys);
        if (subtracts || adds)
            this->sum_products(team, m, values, m.products, rows, nullptr, keys, subtracts ? T(-1) : T(1));
    }
};

} // namespace spla::portable
