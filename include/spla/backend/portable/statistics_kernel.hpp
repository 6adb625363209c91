// SPDX-FileCopyrightText: The spla authors
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once
#include "../../algorithm/block_summary.hpp"
#include "../../algorithm/symmetric_eigen.hpp"
#include "../../view_concepts.hpp"
#include "launch.hpp"

namespace spla::portable
{

/// Summaries of blocks that became complete, from their keys (spec section 2): one work item a block and key head. Mean
/// and covariance in the accumulation type, two passes; kept keys are the farthest from the mean of all keys.
template <class Exec, class Metric, class Element>
struct statistics_kernel
{
    using T = accumulator_t<Element>;
    using team_type = team_of<Exec>;

    detail::tensor<Element const> key; ///< all keys, token 0 first
    detail::summary_tensor summary;
    detail::sequence_table sequences;
    detail::item_table items; ///< blocks
    std::int64_t first;       ///< of a fixed batch: its first block; of variable lengths: those of the call's tokens
    int block, width, kept;
    std::int64_t scratch_bytes = 0;

    struct memory
    {
        T *keys, *distance, *mean, *vectors, *gram, *eigenvectors;
        int* is_kept;
        std::int64_t bytes;
    };
    KOKKOS_FUNCTION memory carve(void* base) const
    {
        int const size = block / summary.sub_blocks;
        bool const low_rank = Metric::covariance == covariance_kind::factors;
        scratch_carver c(base);
        memory m;
        m.keys = c.take<T>(static_cast<std::int64_t>(size) * width);
        m.distance = c.take<T>(size);
        m.mean = c.take<T>(width);
        m.vectors = c.take<T>(static_cast<std::int64_t>(summary.vectors) * width);
        m.gram = c.take<T>(low_rank ? static_cast<std::int64_t>(size) * size : 0);
        m.eigenvectors = c.take<T>(low_rank ? static_cast<std::int64_t>(size) * size : 0);
        m.is_kept = c.take<int>(size);
        m.bytes = c.used();
        return m;
    }

    KOKKOS_FUNCTION void operator()(team_type const& team, std::int64_t item) const
    {
        std::int64_t const head = item % summary.key_heads;
        auto const place = items.find(item / summary.key_heads);
        if (place.sequence >= sequences.count) return;
        detail::sequence const s = sequences[place.sequence];
        std::int64_t const b = (sequences.offsets ? s.first_position() / block : first) + place.item;
        if (!summary.map.holds(s.number, b)) return; // its page does not exist
        memory const m = carve(team_base(team, scratch_bytes));
        int const size = block / summary.sub_blocks;
        for (int sub = 0; sub < summary.sub_blocks; ++sub)
        {
            std::int64_t const token = b * block + static_cast<std::int64_t>(sub) * size;
            detail::load_panel(team, size, width, key.rows(s.number, token, head), T(1), m.keys, width);
            summarise(team, m, size);
            Kokkos::parallel_for(Kokkos::TeamThreadRange(team, summary.vectors), [&](int v) {
                Kokkos::single(Kokkos::PerThread(team), [&] {
                    summary.store(summary.number(s.number, b, head, sub, v),
                                  m.vectors + static_cast<std::int64_t>(v) * width);
                });
            });
            team.team_barrier();
        }
    }

private:
    /// mean over keys that are not kept (all of them where `all`).
    KOKKOS_FUNCTION void mean_of(team_type const& team, memory const& m, int size, bool all, T* mean) const
    {
        Kokkos::parallel_for(Kokkos::TeamVectorRange(team, width), [&](int d) {
            T sum = T(0);
            int n = 0;
            for (int r = 0; r < size; ++r)
                if (all || !m.is_kept[r])
                {
                    sum += m.keys[r * width + d];
                    ++n;
                }
            mean[d] = sum / static_cast<T>(n);
        });
        team.team_barrier();
    }

    KOKKOS_FUNCTION void summarise(team_type const& team, memory const& m, int size) const
    {
        int const second = summary.vectors - 1 - kept; // covariance vectors
        detail::fill(team, size, m.is_kept, 0);
        if (kept > 0)
        {
            mean_of(team, m, size, true, m.mean);
            Kokkos::parallel_for(Kokkos::TeamThreadRange(team, size), [&](int r) {
                T sum = T(0);
                for (int d = 0; d < width; ++d)
                {
                    T const x = m.keys[r * width + d] - m.mean[d];
                    sum += x * x;
                }
                m.distance[r] = sum;
            });
            team.team_barrier();
            Kokkos::single(Kokkos::PerTeam(team), [&] {
                for (int i = 0; i < kept; ++i) // the farthest not yet kept; ties to the lower token
                {
                    int best = -1;
                    for (int r = 0; r < size; ++r)
                        if (!m.is_kept[r] && (best < 0 || m.distance[r] > m.distance[best])) best = r;
                    m.is_kept[best] = 1;
                    for (int d = 0; d < width; ++d) m.vectors[(1 + second + i) * width + d] = m.keys[best * width + d];
                }
            });
            team.team_barrier();
        }
        mean_of(team, m, size, false, m.vectors);
        T const n = static_cast<T>(size - kept);
        if constexpr (Metric::covariance == covariance_kind::diagonal)
            Kokkos::parallel_for(Kokkos::TeamVectorRange(team, width), [&](int d) {
                T sum = T(0);
                for (int r = 0; r < size; ++r)
                    if (!m.is_kept[r])
                    {
                        T const x = m.keys[r * width + d] - m.vectors[d];
                        sum += x * x;
                    }
                m.vectors[width + d] = sum / n;
            });
        if constexpr (Metric::covariance == covariance_kind::full)
            Kokkos::parallel_for(Kokkos::TeamThreadRange(team, width), [&](int d) {
                Kokkos::parallel_for(Kokkos::ThreadVectorRange(team, width), [&](int e) {
                    T sum = T(0);
                    for (int r = 0; r < size; ++r)
                        if (!m.is_kept[r])
                            sum += (m.keys[r * width + d] - m.vectors[d]) * (m.keys[r * width + e] - m.vectors[e]);
                    m.vectors[(1 + d) * width + e] = sum / n;
                });
            });
        team.team_barrier();
        if constexpr (Metric::covariance == covariance_kind::factors) low_rank_factors(team, m, size, second);
    }

    /// Factors sqrt(lambda_r) u_r of C = X^T X / n from the Gram matrix X X^T / n = W L W^T: factor_r = X^T w_r /
    /// sqrt(n).
    KOKKOS_FUNCTION void low_rank_factors(team_type const& team, memory const& m, int size, int rank) const
    {
        T const n = static_cast<T>(size - kept);
        auto const centred = [&](int r, int d) { return m.is_kept[r] ? T(0) : m.keys[r * width + d] - m.vectors[d]; };
        Kokkos::parallel_for(Kokkos::TeamThreadRange(team, size), [&](int i) {
            Kokkos::parallel_for(Kokkos::ThreadVectorRange(team, size), [&](int j) {
                T sum = T(0);
                for (int d = 0; d < width; ++d) sum += centred(i, d) * centred(j, d);
                m.gram[i * size + j] = sum / n;
            });
        });
        team.team_barrier();
        Kokkos::single(Kokkos::PerTeam(team), [&] {
            detail::symmetric_eigen(size, m.gram, m.eigenvectors);
            for (int r = 0; r < rank; ++r)
            {
                int best = -1;
                for (int i = 0; i < size; ++i)
                    if (m.gram[i * size + i] >= T(0) && (best < 0 || m.gram[i * size + i] > m.gram[best * size + best]))
                        best = i;
                for (int d = 0; d < width; ++d)
                {
                    T sum = T(0);
                    for (int i = 0; best >= 0 && i < size; ++i) sum += centred(i, d) * m.eigenvectors[i * size + best];
                    m.vectors[(1 + r) * width + d] = sum / Kokkos::sqrt(n);
                }
                if (best >= 0) m.gram[best * size + best] = T(-1); // taken
            }
        });
        team.team_barrier();
    }
};

/// Makes the summaries of `items` (at most `most`) blocks.
template <class Metric, class Exec, class Element>
void make_statistics(Exec const& exec, detail::tensor<Element const> const& key, detail::summary_tensor const& summary,
                     detail::sequence_table const& sequences, detail::item_table const& items, std::int64_t most,
                     std::int64_t first, int block, int kept)
{
    if constexpr (!Metric::reads_keys)
    {
        statistics_kernel<Exec, Metric, Element> kernel{
            key, summary, sequences, items, first, block, static_cast<int>(summary.head_dim), kept};
        kernel.scratch_bytes = kernel.carve(nullptr).bytes;
        launch("spla::block_statistics", exec, most * summary.key_heads, kernel.scratch_bytes, kernel);
    }
}

} // namespace spla::portable
