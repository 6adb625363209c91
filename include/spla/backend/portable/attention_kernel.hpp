// SPDX-FileCopyrightText: The spla authors
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once
#include "attention_token.hpp"

namespace spla::portable
{

/// Exact branch over forced and selected blocks, residual branch as state minus selected, and their combination, for a
/// tile of neighbouring tokens times the heads of a group (spec sections 3 to 5). A block's keys and values are loaded
/// once for all rows of the tile that visit it; rows that did not select it take no part.
template <class Exec, class FeatureMap, class Element>
struct attention_kernel : attention_token<Exec, FeatureMap, Element>
{
    using tile_type = attention_tile<Exec, FeatureMap, Element>;
    using tile_type::columns;
    using tile_type::items;
    using tile_type::key;
    using tile_type::leading;
    using tile_type::list;
    using tile_type::out;
    using tile_type::partial;
    using tile_type::phi;
    using tile_type::query;
    using tile_type::residual_key;
    using tile_type::residual_query;
    using tile_type::scratch_bytes;
    using tile_type::shape;
    using typename tile_type::memory;
    using typename tile_type::T;
    using typename tile_type::team_type;

    KOKKOS_FUNCTION std::int64_t items_there() const { return items.count() * shape.key_heads; }
    KOKKOS_FUNCTION void operator()(team_type const& team, std::int64_t item) const
    {
        std::int64_t const head = item % shape.key_heads;
        auto const place = items.find(item / shape.key_heads);
        if (place.sequence >= shape.sequences.count) return;
        detail::sequence const s = shape.sequences[place.sequence];
        std::int64_t const runs = shape.runs_of(s), run = place.item % runs;
        block_range const queries = shape.tile_queries(s, place.item / runs);
        memory const m = this->carve(team_base(team, scratch_bytes));
        int const tokens = static_cast<int>(queries.count());
        int const rows = tokens * shape.group;
        detail::fill(team, static_cast<std::int64_t>(rows) * columns(), m.output, T(0));
        detail::fill(team, static_cast<std::int64_t>(rows) * columns(), m.residual, T(0));
        detail::fill(team, rows, m.largest, detail::lowest<T>());
        detail::fill(team, rows, m.sum, T(0));
        detail::fill(team, rows, m.denominator, T(0));
        detail::fill(team, rows, m.magnitude, T(0));
        if (s.first_position() + queries.begin >= 0) walk(team, m, s, head, queries, run);
        store(team, m, s, head, queries.begin, tokens, run);
    }

private:
    KOKKOS_FUNCTION void load_queries(team_type const& team, memory const& m, detail::sequence const& s,
                                      std::int64_t head, std::int64_t first, int rows) const
    {
        auto const row_of = [&](detail::tensor<Element const> const& q) {
            return [&q, this, &s, head, first](int r) {
                return q.row(s.number, first + r / shape.group, head * shape.group + r % shape.group);
            };
        };
        if (shape.residual)
        {
            // phi of the rows through transposed panels (one vector a lane), then rows again.
            int const lead = static_cast<int>(detail::padded<Exec, T>(rows));
            detail::load_transposed(team, rows, shape.residual_width, row_of(residual_query), m.keys, lead);
            detail::apply_feature_map(team, phi, lead, shape.residual_width, m.keys, m.key_features, lead, false);
            Kokkos::parallel_for(Kokkos::TeamThreadRange(team, rows), [&](int r) {
                Kokkos::parallel_for(Kokkos::ThreadVectorRange(team, shape.features), [&](int f) {
                    m.query_features[static_cast<std::int64_t>(r) * shape.features + f] = m.key_features[f * lead + r];
                });
            });
            team.team_barrier();
        }
        if (shape.exact)
            detail::load_panel(team, rows, shape.width, row_of(query), static_cast<T>(shape.scale), m.query,
                               shape.width);
    }

    /// Opens the lists of the tile's tokens. Returns in counts: is everything competing selected, by all; does any sum
    /// the unselected directly.
    KOKKOS_FUNCTION void open_lists(team_type const& team, memory const& m, detail::sequence const& s,
                                    std::int64_t head, std::int64_t position, int tokens,
                                    block_range const& competing) const
    {
        std::int64_t const first_tile = floor_divide(s.first_position(), shape.bounds.tile);
        Kokkos::parallel_for(Kokkos::TeamThreadRange(team, tokens), [&](int t) {
            Kokkos::single(Kokkos::PerThread(team), [&] {
                walk_token& token = m.token[t];
                std::int64_t const tile = (position + t) / shape.bounds.tile - first_tile;
                token.list = list ? list.list(s.number, tile, head) : nullptr;
                token.length =
                    list ? static_cast<int>(Kokkos::min<std::int64_t>(list.length(s.number, tile, head), list.capacity))
                         : 0;
                open_walk(token, competing, shape.mode, shape.may_read_unselected);
            });
        });
        team.team_barrier();
        Kokkos::single(Kokkos::PerTeam(team), [&] {
            int complete = 1, direct = 0;
            for (int t = 0; t < tokens; ++t)
            {
                complete = complete && m.token[t].complete;
                direct = direct || m.token[t].direct;
            }
            m.counts[0] = complete, m.counts[1] = direct, m.counts[3] = 0;
        });
        team.team_barrier();
    }

    /// Visits forced, selected and (direct mode) unselected blocks in ascending order: those of one run, or all.
    KOKKOS_FUNCTION void walk(team_type const& team, memory const& m, detail::sequence const& s, std::int64_t head,
                              block_range const& queries, std::int64_t run) const
    {
        int const tokens = static_cast<int>(queries.count());
        int const rows = tokens * shape.group;
        std::int64_t const position = s.first_position() + queries.begin;
        std::int64_t const own = position / shape.bounds.block;
        block_range const competing = shape.bounds.competing(position);
        open_lists(team, m, s, head, position, tokens, competing);
        bool const all_complete = m.counts[0] != 0;
        bool const all_blocks = m.counts[1] != 0 && shape.residual;
        bool const adds_state = shape.residual && run == 0 && !all_complete;

        std::int64_t const sinks = Kokkos::min<std::int64_t>(shape.bounds.sink_blocks, own + 1);
        auto const following = [&](std::int64_t b) -> std::int64_t { // the next visited block; -1 at the end
            if (shape.exact && b + 1 < sinks) return b + 1;
            std::int64_t const chosen =
                next_block(m, competing, Kokkos::max(b, competing.begin - 1), tokens, all_blocks);
            if (chosen >= 0) return chosen;
            std::int64_t const forced = Kokkos::max(b + 1, Kokkos::max(competing.end, sinks));
            return shape.exact && forced <= own ? forced : -1;
        };
        std::int64_t b = all_complete && !shape.exact ? -1 : following(-1);
        bool const in_runs = shape.runs_of(s) > 1;
        for (std::int64_t skipped = 0; b >= 0 && skipped < run * blocks_per_run; ++skipped) b = following(b);
        if (b >= 0) this->prefetch(team, s, head, b);
        if (adds_state) this->prefetch_state(team, s, head, competing);
        load_queries(team, m, s, head, queries.begin, rows);
        bool const by_token = this->one_token(shape.tokens_of(s));
        for (int n = 1; b >= 0; ++n)
        {
            bool const last = in_runs && n == blocks_per_run;
            std::int64_t const next = last ? -1 : following(b);
            team.team_barrier(); // all have looked before a visit moves the cursors
            if (by_token)
            {
                this->visit_by_token(team, m, s, head, b, next, position, competing);
                b = next;
                continue;
            }
            if (next >= 0) this->prefetch(team, s, head, next);
            if (competing.contains(b))
                visit(team, m, s, head, competing, b, tokens);
            else
                attend_all(team, m, s, head, b, position, rows);
            b = next;
        }
        if (adds_state) this->add_state(team, m, s, head, competing, tokens);
    }

    /// The next block above `last` that any token of the tile wants; -1 at the end. Every thread finds the same.
    KOKKOS_FUNCTION std::int64_t next_block(memory const& m, block_range const& competing, std::int64_t last,
                                            int tokens, bool all) const
    {
        if (all) return last + 1 < competing.end ? last + 1 : -1;
        std::int64_t next = -1;
        for (int t = 0; t < tokens; ++t)
        {
            walk_token token = m.token[t];
            std::int64_t const b = next_selected(token, competing, last);
            if (b >= 0 && (next < 0 || b < next)) next = b;
        }
        return next;
    }

    /// One competing block: rows that selected it attend to it and subtract it; rows in direct mode that did not, add
    /// it.
    KOKKOS_FUNCTION void visit(team_type const& team, memory const& m, detail::sequence const& s, std::int64_t head,
                               block_range const& competing, std::int64_t b, int tokens) const
    {
        Kokkos::single(Kokkos::PerTeam(team), [&] {
            int attend = 0, subtract = 0, add = 0;
            for (int t = 0; t < tokens; ++t)
            {
                walk_token& token = m.token[t];
                bool const selected = next_selected(token, competing, b - 1) == b;
                for (int h = 0; h < shape.group; ++h)
                {
                    int const r = t * shape.group + h;
                    if (selected) m.attend[attend++] = r;
                    if (selected && !token.direct && !token.complete) m.subtract[subtract++] = r;
                    if (!selected && token.direct) m.add[add++] = r;
                }
            }
            m.counts[0] = attend, m.counts[1] = subtract, m.counts[2] = add;
        });
        team.team_barrier();
        int const attend = m.counts[0];
        int const subtract = shape.residual ? m.counts[1] : 0;
        int const add = shape.residual ? m.counts[2] : 0;
        int const keys = static_cast<int>(shape.bounds.block); // a competing block is complete
        if (attend + add == 0) return;
        auto const values = this->load_values(team, m, s, head, b, keys, false);
        if (shape.exact && attend > 0)
        {
            this->load_keys(team, m, key, shape.width, s, head, b, keys);
            this->attend_rows(team, m, values, attend, m.attend, keys);
        }
        if (subtract + add == 0) return;
        if (!(shape.same_keys && shape.exact && attend > 0)) // else they are loaded already
            this->load_keys(team, m, residual_key, shape.residual_width, s, head, b, keys);
        detail::apply_feature_map(team, phi, leading(), shape.residual_width, m.keys, m.key_features, leading(),
                                  this->state.rounds_features);
        int const rows = tokens * shape.group;
        // State form pays where every row of a large tile selected the block: F Dv / (F + Dv) rows (spec section 4).
        if (shape.runs_of(s) == 1 && subtract == rows &&
            static_cast<std::int64_t>(rows) * (shape.features + shape.value_dim) >
                static_cast<std::int64_t>(shape.features) * shape.value_dim)
            this->subtract_block_state(team, m, values, keys);
        else
            this->residual_rows(team, m, values, subtract, m.subtract, keys, T(-1));
        this->residual_rows(team, m, values, add, m.add, keys, T(1));
    }

    /// A forced block: every row attends, in the own block to the keys up to its own position.
    KOKKOS_FUNCTION void attend_all(team_type const& team, memory const& m, detail::sequence const& s,
                                    std::int64_t head, std::int64_t b, std::int64_t position, int rows) const
    {
        std::int64_t const begin = b * shape.bounds.block;
        std::int64_t const last = position + rows / shape.group - 1;
        int const keys = static_cast<int>(Kokkos::min(begin + shape.bounds.block, last + 1) - begin);
        auto const values = this->load_values(team, m, s, head, b, keys, false);
        this->load_keys(team, m, key, shape.width, s, head, b, keys);
        if (position >= begin + keys - 1)
        {
            this->attend_rows(team, m, values, rows, nullptr, keys);
            return;
        }
        // Each token sees one key more than the one before; what it does not see must not even be multiplied by zero.
        for (int t = 0; t * shape.group < rows; ++t)
        {
            int const visible = static_cast<int>(position + t - begin + 1);
            memory token = m;
            std::int64_t const first = static_cast<std::int64_t>(t) * shape.group;
            token.query += first * shape.width;
            token.output += first * columns();
            token.largest += first;
            token.sum += first;
            this->attend_rows(team, token, values, shape.group, nullptr, visible < keys ? visible : keys);
        }
    }

    /// Finished rows to the outputs, or a run's rows to the workspace.
    KOKKOS_FUNCTION void store(team_type const& team, memory const& m, detail::sequence const& s, std::int64_t head,
                               std::int64_t first_query, int tokens, std::int64_t run) const
    {
        bool const in_runs = shape.runs_of(s) > 1;
        Kokkos::parallel_for(Kokkos::TeamThreadRange(team, tokens * shape.group), [&](int r) {
            std::int64_t const token = first_query + r / shape.group;
            std::int64_t const query_head = head * shape.group + r % shape.group;
            T* const o = m.output + static_cast<std::int64_t>(r) * columns();
            T* const residual = m.residual + static_cast<std::int64_t>(r) * columns();
            if (in_runs)
            {
                T* const row = partial.row(s, token, query_head, run);
                Kokkos::single(Kokkos::PerThread(team), [&] {
                    row[0] = m.largest[r], row[1] = m.sum[r], row[2] = m.denominator[r], row[3] = m.magnitude[r];
                });
                Kokkos::parallel_for(Kokkos::ThreadVectorRange(team, shape.value_dim), [&](int d) {
                    row[4 + d] = o[d];
                    row[4 + shape.value_dim + d] = residual[d];
                });
                return;
            }
            T const factor = residual_factor(shape.normalised, m.denominator[r], m.magnitude[r]);
            T const inverse = m.sum[r] == T(0) ? T(0) : T(1) / m.sum[r];
            Kokkos::parallel_for(Kokkos::ThreadVectorRange(team, shape.value_dim), [&](int d) {
                o[d] *= inverse;
                residual[d] *= factor;
            });
            out.store(team, shape.exact, shape.residual, s.number, token, query_head, shape.value_dim, o, residual,
                      m.largest[r] + Kokkos::log(m.sum[r]));
        });
    }
};

} // namespace spla::portable
