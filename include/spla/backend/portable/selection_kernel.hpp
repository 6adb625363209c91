// SPDX-FileCopyrightText: The spla authors
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once
#include "../../algorithm/block_score.hpp"
#include "../../algorithm/block_selection.hpp"
#include "../../block_list.hpp"
#include "launch.hpp"

namespace spla::portable
{

/// Which lists one call of select makes, and from which queries.
struct selection_shape
{
    detail::sequence_table sequences;
    std::int64_t key_heads;
    int group, width;
    window bounds;
    sharing share;
    int top_k, kept;
    double top_p, scale;
    std::int64_t most_blocks; ///< most competing blocks of any list of the call

    /// Tile number (position / T) of a sequence's first list.
    KOKKOS_FUNCTION std::int64_t first_tile(detail::sequence const& s) const
    {
        return floor_divide(s.first_position(), bounds.tile);
    }
    KOKKOS_FUNCTION std::int64_t lists(detail::sequence const& s) const
    {
        return tile_count(s.queries, s.keys, bounds.tile);
    }
    /// The sequence's first tile is under way: its list is the state's.
    KOKKOS_FUNCTION bool resumes(detail::sequence const& s) const
    {
        return share.kind == sharing_kind::first_query && s.first_position() > 0 &&
               s.first_position() % bounds.tile != 0;
    }
};

/// Scores, normalises, sums over the group and selects (spec section 2): one work item is a run of lists and a key
/// head.
template <class Exec, class Metric, class Element>
struct selection_kernel
{
    using T = accumulator_t<Element>;
    using team_type = team_of<Exec>;

    detail::tensor<Element const> query, key; ///< key: for exact_mass alone
    detail::summary_tensor summary;
    detail::list_tensor list;
    selection_shape shape;
    detail::item_table items; ///< runs of lists_per_item
    int lists_per_item = 1, most_rows = 1;
    std::int64_t scratch_bytes = 0;

    struct memory
    {
        detail::score_memory<T> score;
        T *mass, *reference; ///< [rows][blocks], [rows][panels]
        float* group_mass;   ///< [lists_per_item][blocks]
        std::int64_t blocks, panels, bytes;
    };
    KOKKOS_FUNCTION memory carve(void* base) const
    {
        constexpr std::int64_t panel = detail::score_panel;
        memory m;
        m.panels = (shape.most_blocks + panel - 1) / panel;
        m.blocks = m.panels * panel;
        int const kept = Metric::reads_keys ? 0 : shape.kept;
        int const sub = Metric::reads_keys ? 1 : summary.sub_blocks;
        std::int64_t const leading = detail::padded<Exec, T>(shape.bounds.block);
        std::int64_t const rows = most_rows;
        scratch_carver c(base);
        m.score.query = c.take<T>(rows * shape.width);
        m.score.squared = c.take<T>(Metric::covariance == covariance_kind::diagonal ? rows * shape.width : 0);
        m.score.panel = c.take<T>(shape.width * (Metric::reads_keys ? leading : panel));
        m.score.logits = c.take<T>(sub * (1 + kept) * rows * panel);
        m.score.variance = c.take<T>(sub * rows * panel);
        m.score.product = c.take<T>(rows * (Metric::reads_keys ? leading : panel));
        m.mass = c.take<T>(rows * m.blocks);
        m.reference = c.take<T>(rows * m.panels);
        m.group_mass = c.take<float>(lists_per_item * m.blocks);
        m.bytes = c.used();
        return m;
    }

    /// Position of the tile's first query that this call holds; lists before position 0 have none (negative).
    KOKKOS_FUNCTION std::int64_t first_position(detail::sequence const& s, std::int64_t tile) const
    {
        std::int64_t const start = (shape.first_tile(s) + tile) * shape.bounds.tile;
        return start > s.first_position() ? start : s.first_position();
    }

    KOKKOS_FUNCTION std::int64_t items_there() const { return items.count() * shape.key_heads; }
    KOKKOS_FUNCTION void operator()(team_type const& team, std::int64_t item) const
    {
        std::int64_t const head = item % shape.key_heads;
        auto const place = items.find(item / shape.key_heads);
        if (place.sequence >= shape.sequences.count) return;
        detail::sequence const s = shape.sequences[place.sequence];
        std::int64_t const first = (shape.resumes(s) ? 1 : 0) + place.item * lists_per_item;
        int const count = static_cast<int>(Kokkos::min<std::int64_t>(lists_per_item, shape.lists(s) - first));
        if (count <= 0) return;
        memory const m = carve(team_base(team, scratch_bytes));

        // Later lists have no fewer competing blocks, so the last decides whether anything must be scored.
        block_range const last = shape.bounds.competing(first_position(s, first + count - 1));
        bool const scored = last.count() > shape.top_k || (shape.top_p < 1.0 && last.count() > 0);
        if (scored && shape.top_k > 0)
        {
            detail::fill(team, lists_per_item * m.blocks, m.group_mass, 0.0f);
            if (shape.share.kind == sharing_kind::tile_sum)
                score_tile(team, m, s, head, first);
            else
                score_lists(team, m, s, head, first, count);
        }
        Kokkos::parallel_for(Kokkos::TeamThreadRange(team, count), [&](int t) {
            block_range const range = shape.bounds.competing(first_position(s, first + t));
            int const length = detail::select_blocks(
                team, m.group_mass + t * m.blocks, static_cast<int>(range.count()), shape.top_k, shape.top_p,
                range.begin, list.list(s.number, first + t, head), static_cast<int>(list.capacity));
            Kokkos::single(Kokkos::PerThread(team), [&] { list.length(s.number, first + t, head) = length; });
        });
    }

private:
    /// Positions of scoring queries: query t of them, none before `begin`, where the call's first query sits.
    struct positions
    {
        std::int64_t first, step, begin;
        KOKKOS_FUNCTION std::int64_t operator()(int t) const
        {
            std::int64_t const p = first + t * step;
            return p > begin ? p : begin;
        }
    };

    /// One scoring query a list: the first that the call holds.
    KOKKOS_FUNCTION void score_lists(team_type const& team, memory const& m, detail::sequence const& s,
                                     std::int64_t head, std::int64_t first, int count) const
    {
        std::int64_t const tile = shape.bounds.tile;
        positions const position{(shape.first_tile(s) + first) * tile, tile, s.first_position()};
        score_rows(team, m, s, head, count, position);
        add_group_masses(team, m, 0, count, position, m.blocks);
    }

    /// The scoring queries of one tile, in runs that fit the rows; masses summed over them in ascending order.
    KOKKOS_FUNCTION void score_tile(team_type const& team, memory const& m, detail::sequence const& s,
                                    std::int64_t head, std::int64_t tile) const
    {
        std::int64_t const start = (shape.first_tile(s) + tile) * shape.bounds.tile;
        std::int64_t const begin = first_position(s, tile);
        if (begin < 0) return;
        std::int64_t const end = Kokkos::min(start + shape.bounds.tile, s.keys);
        std::int64_t const every = shape.share.score_every;
        std::int64_t scoring = start + (begin - start + every - 1) / every * every;
        if (scoring >= end) scoring = begin;
        int const at_once = most_rows / shape.group;
        for (; scoring < end; scoring += at_once * every)
        {
            int const count = static_cast<int>(Kokkos::min<std::int64_t>(at_once, (end - scoring + every - 1) / every));
            positions const position{scoring, every, begin};
            score_rows(team, m, s, head, count, position);
            for (int t = 0; t < count; ++t) add_group_masses(team, m, t, 1, {position(t), 0, begin}, 0);
        }
    }

    /// mass[row][block] and reference[row][panel] for the rows (query t, head of the group) of `count` queries.
    KOKKOS_FUNCTION void score_rows(team_type const& team, memory const& m, detail::sequence const& s,
                                    std::int64_t head, int count, positions const& position) const
    {
        constexpr int panel = detail::score_panel;
        int const rows = count * shape.group;
        int const width = shape.width;
        block_range const last = shape.bounds.competing(position(count - 1));
        auto const panel_blocks = [&](std::int64_t b) {
            return static_cast<int>(Kokkos::min<std::int64_t>(panel, last.end - b));
        };
        auto const row = [&](int r) {
            std::int64_t const q = position(r / shape.group) - s.first_position();
            return query.row(s.number, q > 0 ? q : 0, head * shape.group + r % shape.group);
        };
        detail::load_panel(team, rows, width, row, static_cast<T>(shape.scale), m.score.query, width);
        if constexpr (Metric::covariance == covariance_kind::diagonal)
        {
            Kokkos::parallel_for(Kokkos::TeamVectorRange(team, rows * width),
                                 [&](int i) { m.score.squared[i] = m.score.query[i] * m.score.query[i]; });
            team.team_barrier();
        }
        T const others =
            static_cast<T>(shape.bounds.block / (Metric::reads_keys ? 1 : summary.sub_blocks) - shape.kept);
        for (int p = 0; p * panel < last.count(); ++p)
        {
            std::int64_t const b = last.begin + p * panel;
            int const blocks = panel_blocks(b);
            if constexpr (Metric::reads_keys)
                exact_logits(team, m, s, head, b, blocks, rows);
            else
                detail::score_parts<Metric>(team, summary, shape.kept, s.number, head, b, blocks,
                                            panel_blocks(b + blocks), rows, m.score);
            Kokkos::parallel_for(Kokkos::TeamThreadRange(team, rows), [&](int r) {
                // A row's reference may depend on its own competing blocks alone.
                std::int64_t const own = shape.bounds.competing(position(r / shape.group)).end - b;
                int const n = static_cast<int>(own < 0 ? 0 : (own < blocks ? own : blocks));
                T* const mass = m.mass + r * m.blocks + p * panel;
                T reference = -Kokkos::Experimental::infinity_v<T>;
                if (n > 0)
                    reference = detail::fold_parts<Metric>(
                        team, Metric::reads_keys ? 1 : summary.sub_blocks, Metric::reads_keys ? 0 : shape.kept,
                        Metric::reads_keys ? T(1) : others, rows, r, n, m.score, mass);
                m.reference[r * m.panels + p] = reference;
            });
            team.team_barrier();
        }
    }

    /// The oracle: logits[row][j] = log sum exp of the true logits of block b + j.
    KOKKOS_FUNCTION void exact_logits(team_type const& team, memory const& m, detail::sequence const& s,
                                      std::int64_t head, std::int64_t b, int blocks, int rows) const
    {
        int const block = static_cast<int>(shape.bounds.block);
        int const leading = static_cast<int>(detail::padded<Exec, T>(block));
        for (int j = 0; j < blocks; ++j)
        {
            detail::load_transposed(team, block, shape.width, key.rows(s.number, (b + j) * block, head), m.score.panel,
                                    leading);
            detail::multiply<detail::product::set>(
                team, rows, shape.width, leading, detail::row_set<T const>{m.score.query, shape.width},
                static_cast<T const*>(m.score.panel), leading, detail::row_set<T>{m.score.product, leading});
            Kokkos::parallel_for(Kokkos::TeamThreadRange(team, rows), [&](int r) {
                T const* const x = m.score.product + static_cast<std::int64_t>(r) * leading;
                T largest = x[0];
                for (int i = 1; i < block; ++i) largest = x[i] > largest ? x[i] : largest;
                T sum = T(0);
                for (int i = 0; i < block; ++i) sum += exp(x[i] - largest);
                m.score.logits[r * detail::score_panel + j] = largest + Kokkos::log(sum);
            });
            team.team_barrier();
        }
    }

    /// Adds p_b = exp(a_b - logsumexp a) over the heads of the group, ascending, of queries [first_query, first_query +
    /// count) to group masses that lie `distance` apart (spec: steps 1, 2). position: of the first of them, and so on.
    KOKKOS_FUNCTION void add_group_masses(team_type const& team, memory const& m, int first_query, int count,
                                          positions const& position, std::int64_t distance) const
    {
        constexpr int panel = detail::score_panel;
        Kokkos::parallel_for(Kokkos::TeamThreadRange(team, count), [&](int t) {
            int const n = static_cast<int>(shape.bounds.competing(position(t)).count());
            float* const to = m.group_mass + t * distance;
            for (int h = 0; h < shape.group; ++h)
            {
                int const r = (first_query + t) * shape.group + h;
                T const* const mass = m.mass + r * m.blocks;
                T const* const reference = m.reference + r * m.panels;
                T largest = -Kokkos::Experimental::infinity_v<T>;
                for (int p = 0; p * panel < n; ++p) largest = reference[p] > largest ? reference[p] : largest;
                T total = T(0);
                for (int p = 0; p * panel < n; ++p)
                {
                    int const end = n - p * panel < panel ? n - p * panel : panel;
                    T const sum = detail::finite_sum(team, mass + p * panel, end);
                    if (sum > T(0)) total += sum * exp(reference[p] - largest);
                }
                for (int p = 0; p * panel < n; ++p)
                {
                    int const end = n - p * panel < panel ? n - p * panel : panel;
                    T const factor = total > T(0) ? exp(reference[p] - largest) / total : T(0);
                    Kokkos::parallel_for(Kokkos::ThreadVectorRange(team, end), [&](int j) {
                        float* const sum = to + p * panel + j;
                        T const x = mass[p * panel + j];
                        float const share = static_cast<float>(x * factor);
                        float const counted = share < 0x1p-100f ? 0.0f : share;
                        // A score that is not finite marks the block for good; such a block ranks last.
                        *sum = x - x == T(0) && *sum >= 0.0f ? *sum + counted : -1.0f;
                    });
                }
            }
        });
        team.team_barrier();
    }
};

/// Bytes of a work item's masses.
template <class Exec>
inline constexpr std::int64_t selection_budget = detail::runs_on_host<Exec> ? 384 * 1024 : 256 * 1024;

/// Most rows whose scores fit a cache-sized scratch; at least one query's group.
template <class Exec, class T>
int selection_queries(selection_shape const& shape)
{
    std::int64_t const row_bytes = (shape.most_blocks + detail::score_panel) * static_cast<std::int64_t>(sizeof(T));
    std::int64_t const rows = Kokkos::min<std::int64_t>(rows_per_item<Exec>, selection_budget<Exec> / row_bytes);
    return static_cast<int>(Kokkos::max<std::int64_t>(1, rows / shape.group));
}

/// The kernel of these sizes, without its tensors.
template <class Exec, class Metric, class Element>
selection_kernel<Exec, Metric, Element> make_selection(selection_shape const& shape)
{
    selection_kernel<Exec, Metric, Element> kernel;
    kernel.shape = shape;
    int const queries = selection_queries<Exec, accumulator_t<Element>>(shape);
    kernel.lists_per_item = shape.share.kind == sharing_kind::tile_sum ? 1 : queries;
    kernel.most_rows = queries * shape.group;
    return kernel;
}

template <class Metric, class Exec, class Element>
void select_lists(Exec const& exec, detail::tensor<Element const> const& query,
                  detail::tensor<Element const> const& key, detail::summary_tensor const& summary,
                  selection_shape const& shape, detail::list_tensor const& list)
{
    auto kernel = make_selection<Exec, Metric, Element>(shape);
    kernel.query = query, kernel.key = key, kernel.summary = summary, kernel.list = list;
    kernel.scratch_bytes = kernel.carve(nullptr).bytes;
    detail::sequence const s = shape.sequences[0]; // all are alike
    kernel.items = {shape.sequences.count,
                    ceil_divide(shape.lists(s) - (shape.resumes(s) ? 1 : 0), kernel.lists_per_item)};
    launch("spla::select", exec, shape.sequences.count * kernel.items.each * shape.key_heads, kernel.scratch_bytes,
           kernel);
}

} // namespace spla::portable
