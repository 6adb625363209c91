// SPDX-FileCopyrightText: The spla authors
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once
#include "../../algorithm/online_softmax.hpp"
#include "attention_shape.hpp"
#include "block_walk.hpp"

namespace spla::portable
{

/// A tile of rows (tokens x heads of a group) in a team's scratch, and what is done to it with one loaded block: exact
/// attention, and the residual in token form or state form (spec sections 3 and 4).
template <class Exec, class FeatureMap, class Element>
struct attention_tile
{
    using T = accumulator_t<Element>;
    using team_type = team_of<Exec>;

    detail::tensor<Element const> query, key, value, residual_query, residual_key;
    detail::list_tensor list;
    linear_tensor<T> state;
    attention_outputs<Element> out;
    partial_tensor<T> partial;
    FeatureMap phi;
    attention_shape shape;
    detail::item_table items; ///< tiles, each in its runs
    std::int64_t scratch_bytes = 0;

    struct memory
    {
        T *query, *query_features;                  ///< [rows][width], [rows][features]
        T *keys, *key_features, *values;            ///< [width][block], [features][block], [block][value]
        T* logits;                                  ///< [rows][block]
        T* products;                                ///< [rows][block], one token alone; others use logits again
        T *output, *residual;                       ///< [rows][value]
        T *largest, *sum, *denominator, *magnitude; ///< [rows]
        T *state, *state_normaliser,
            *state_magnitude;         ///< the tile's own state: state minus blocks that all its tokens selected
        int *attend, *subtract, *add; ///< row numbers that take part in a step
        int* counts;                  ///< how many of each; whether the tile has a state of its own
        walk_token* token;            ///< [tokens]
        std::int64_t bytes;
    };

    /// An item is one token with few heads, on a CPU: a decode step (see attention_token).
    KOKKOS_FUNCTION bool one_token(int tokens) const
    {
        return detail::runs_on_host<Exec> && tokens == 1 && shape.group <= 16;
    }
    KOKKOS_FUNCTION int leading() const { return static_cast<int>(detail::padded<Exec, T>(shape.bounds.block)); }
    KOKKOS_FUNCTION int columns() const { return static_cast<int>((shape.value_dim + 15) / 16 * 16); }
    KOKKOS_FUNCTION memory carve(void* base) const
    {
        std::int64_t const rows = shape.tokens_per_item * shape.group;
        std::int64_t const padded_rows = detail::padded<Exec, T>(rows);
        std::int64_t const f = shape.residual ? shape.features : 0;
        std::int64_t const width = Kokkos::max(shape.width, shape.residual_width);
        scratch_carver c(base);
        memory m;
        m.query = c.take<T>(padded_rows * width);
        m.query_features = c.take<T>(padded_rows * f);
        m.keys = c.take<T>(width * Kokkos::max<std::int64_t>(leading(), padded_rows));
        m.key_features = c.take<T>(f * Kokkos::max<std::int64_t>(leading(), padded_rows));
        m.values = c.take<T>(shape.bounds.block * columns());
        m.logits = c.take<T>(rows * leading());
        m.products = c.take<T>(one_token(1) ? shape.group * leading() : 0);
        m.output = c.take<T>(rows * columns());
        m.residual = c.take<T>(rows * columns());
        m.largest = c.take<T>(rows);
        m.sum = c.take<T>(rows);
        m.denominator = c.take<T>(rows);
        m.magnitude = c.take<T>(rows);
        m.state = c.take<T>(f * columns());
        m.state_normaliser = c.take<T>(f);
        m.state_magnitude = c.take<T>(f);
        m.attend = c.take<int>(rows);
        m.subtract = c.take<int>(rows);
        m.add = c.take<int>(rows);
        m.counts = c.take<int>(4);
        m.token = c.take<walk_token>(shape.tokens_per_item);
        m.bytes = c.used();
        return m;
    }

    /// Asks the cache for a block that is visited next.
    KOKKOS_FUNCTION void prefetch(team_type const& team, detail::sequence const& s, std::int64_t head,
                                  std::int64_t b) const
    {
        std::int64_t const token = b * shape.bounds.block;
        int const keys = static_cast<int>(Kokkos::min(shape.bounds.block, s.keys - token));
        if (shape.exact) detail::prefetch_rows(team, keys, shape.width, key.rows(s.number, token, head));
        if (shape.residual && !(shape.exact && shape.same_keys))
            detail::prefetch_rows(team, keys, shape.residual_width, residual_key.rows(s.number, token, head));
        detail::prefetch_rows(team, keys, shape.value_dim, value.rows(s.number, token, head));
    }

    KOKKOS_FUNCTION void prefetch_state(team_type const& team, detail::sequence const& s, std::int64_t head,
                                        block_range const& competing) const
    {
        T const* const matrix = state.matrix(s, head, competing.end);
        detail::prefetch_rows(team, shape.features, columns(), detail::strided_rows<T const>{matrix, columns()});
    }

    /// Values of a block, rows `leading` apart.
    struct value_rows
    {
        T const* data;
        std::int64_t leading;
    };
    KOKKOS_FUNCTION value_rows load_values(team_type const& team, memory const& m, detail::sequence const& s,
                                           std::int64_t head, std::int64_t b, int keys, bool few_rows) const
    {
        std::int64_t const token = b * shape.bounds.block;
        // Few rows read each value too seldom to pay for a copy.
        if constexpr (std::is_same_v<Element, T>)
            if (few_rows && shape.value_dim == columns()) return {value.row(s.number, token, head), value.stride[1]};
        detail::load_panel(team, keys, shape.value_dim, value.rows(s.number, token, head), T(1), m.values, columns());
        return {m.values, columns()};
    }
    KOKKOS_FUNCTION void load_keys(team_type const& team, memory const& m, detail::tensor<Element const> const& from,
                                   int width, detail::sequence const& s, std::int64_t head, std::int64_t b,
                                   int keys) const
    {
        std::int64_t const token = b * shape.bounds.block;
        detail::load_transposed(team, keys, width, from.rows(s.number, token, head), m.keys, leading());
    }

    /// Exact attention of the indexed rows to `keys` keys that all of them see; keys and values are loaded.
    KOKKOS_FUNCTION void attend_rows(team_type const& team, memory const& m, value_rows const& values, int rows,
                                     int const* index, int keys) const
    {
        detail::row_set<T> const logits{m.logits, leading()};
        detail::multiply<detail::product::set>(team, rows, shape.width, leading(),
                                               detail::row_set<T const>{m.query, shape.width, index},
                                               static_cast<T const*>(m.keys), leading(), logits);
        absorb_rows(team, m, values, rows, index, keys);
    }

    /// The second half: softmax over the new logits, and O += p V.
    KOKKOS_FUNCTION void absorb_rows(team_type const& team, memory const& m, value_rows const& values, int rows,
                                     int const* index, int keys) const
    {
        detail::row_set<T> const logits{m.logits, leading()};
        Kokkos::parallel_for(Kokkos::TeamThreadRange(team, rows), [&](int i) {
            int const r = index ? index[i] : i;
            detail::absorb_logits(team, logits[i], keys, leading(), m.largest[r], m.sum[r],
                                  m.output + static_cast<std::int64_t>(r) * columns(), columns());
        });
        team.team_barrier();
        detail::multiply<detail::product::add>(team, rows, keys, columns(),
                                               detail::row_set<T const>{m.logits, leading()}, values.data,
                                               values.leading, detail::row_set<T>{m.output, columns(), index});
    }

    /// Token form: R +- = phi(q) phi(k)^T v over the loaded block, by `sign`.
    KOKKOS_FUNCTION void residual_rows(team_type const& team, memory const& m, value_rows const& values, int rows,
                                       int const* index, int keys, T sign) const
    {
        if (rows == 0) return;
        detail::row_set<T> const products{m.logits, leading()};
        detail::multiply<detail::product::set>(team, rows, shape.features, leading(),
                                               detail::row_set<T const>{m.query_features, shape.features, index},
                                               static_cast<T const*>(m.key_features), leading(), products);
        sum_products(team, m, values, m.logits, rows, index, keys, sign);
    }

    /// The second half: R +- = products V, products phi(q) phi(k)^T of the indexed rows (their sign is changed), and
    /// their sums.
    KOKKOS_FUNCTION void sum_products(team_type const& team, memory const& m, value_rows const& values, T* product,
                                      int rows, int const* index, int keys, T sign) const
    {
        detail::row_set<T> const products{product, leading()};
        Kokkos::parallel_for(Kokkos::TeamThreadRange(team, rows), [&](int i) {
            T* const x = products[i];
            Kokkos::parallel_for(Kokkos::ThreadVectorRange(team, keys), [&](int j) { x[j] *= sign; });
        });
        team.team_barrier();
        if (shape.normalised)
        {
            Kokkos::parallel_for(Kokkos::TeamThreadRange(team, rows), [&](int i) {
                Kokkos::single(Kokkos::PerThread(team), [&] {
                    T sum = T(0), magnitude = T(0);
                    for (int j = 0; j < keys; ++j)
                    {
                        sum += products[i][j];
                        magnitude += Kokkos::abs(products[i][j]);
                    }
                    int const r = index ? index[i] : i;
                    m.denominator[r] += sum;
                    m.magnitude[r] += magnitude;
                });
            });
            team.team_barrier();
        }
        detail::multiply<detail::product::add>(team, rows, keys, columns(),
                                               detail::row_set<T const>{product, leading()}, values.data,
                                               values.leading, detail::row_set<T>{m.residual, columns(), index});
    }

    /// State form: the tile's own state -= phi(K)^T V of the loaded block (accumulated as a sum to be subtracted once).
    KOKKOS_FUNCTION void subtract_block_state(team_type const& team, memory const& m, value_rows const& values,
                                              int keys) const
    {
        if (m.counts[3] == 0)
        {
            detail::fill(team, static_cast<std::int64_t>(shape.features) * columns(), m.state, T(0));
            detail::fill(team, shape.features, m.state_normaliser, T(0));
            Kokkos::single(Kokkos::PerTeam(team), [&] { m.counts[3] = 1; });
            team.team_barrier();
        }
        detail::multiply<detail::product::add>(team, shape.features, keys, columns(),
                                               detail::row_set<T const>{m.key_features, leading()}, values.data,
                                               values.leading, detail::row_set<T>{m.state, columns()});
        if (shape.normalised)
        {
            Kokkos::parallel_for(Kokkos::TeamThreadRange(team, shape.features), [&](int f) {
                Kokkos::single(Kokkos::PerThread(team), [&] {
                    T sum = T(0);
                    for (int j = 0; j < keys; ++j) sum += m.key_features[f * leading() + j];
                    m.state_normaliser[f] += sum;
                });
            });
            team.team_barrier();
        }
    }

    /// R += phi(q) S for rows that subtract, S the prefix state of the tile's window less its own subtracted state.
    KOKKOS_FUNCTION void add_state(team_type const& team, memory const& m, detail::sequence const& s, std::int64_t head,
                                   block_range const& competing, int tokens) const
    {
        Kokkos::single(Kokkos::PerTeam(team), [&] {
            int count = 0;
            for (int t = 0; t < tokens; ++t)
                for (int h = 0; h < shape.group && !m.token[t].complete && !m.token[t].direct; ++h)
                    m.subtract[count++] = t * shape.group + h;
            m.counts[1] = count;
        });
        team.team_barrier();
        int const rows = m.counts[1];
        if (rows == 0) return;
        T const* matrix = state.matrix(s, head, competing.end);
        T const* normaliser = shape.normalised ? state.normaliser(s, head, competing.end) : nullptr;
        bool const own = m.counts[3] != 0;
        if (own)
        {
            std::int64_t const numbers = static_cast<std::int64_t>(shape.features) * columns();
            T const* const whole = matrix;
            Kokkos::parallel_for(Kokkos::TeamVectorRange(team, numbers),
                                 [&](std::int64_t i) { m.state[i] = whole[i] - m.state[i]; });
            T const* const sums = normaliser;
            if (shape.normalised)
                Kokkos::parallel_for(Kokkos::TeamVectorRange(team, shape.features), [&](int f) {
                    m.state_magnitude[f] = Kokkos::abs(sums[f]) + Kokkos::abs(m.state_normaliser[f]); // what cancels
                    m.state_normaliser[f] = sums[f] - m.state_normaliser[f];
                });
            team.team_barrier();
            matrix = m.state;
            normaliser = m.state_normaliser;
        }
        detail::multiply<detail::product::add>(team, rows, shape.features, columns(),
                                               detail::row_set<T const>{m.query_features, shape.features, m.subtract},
                                               matrix, columns(),
                                               detail::row_set<T>{m.residual, columns(), m.subtract});
        if (!shape.normalised) return;
        Kokkos::parallel_for(Kokkos::TeamThreadRange(team, rows), [&](int i) {
            Kokkos::single(Kokkos::PerThread(team), [&] {
                int const r = m.subtract[i];
                T sum = T(0), magnitude = T(0);
                for (int f = 0; f < shape.features; ++f)
                {
                    T const q = m.query_features[static_cast<std::int64_t>(r) * shape.features + f];
                    sum += q * normaliser[f];
                    magnitude += Kokkos::abs(q) * (own ? m.state_magnitude[f] : Kokkos::abs(normaliser[f]));
                }
                m.denominator[r] += sum;
                m.magnitude[r] += magnitude;
            });
        });
        team.team_barrier();
    }
};

} // namespace spla::portable
