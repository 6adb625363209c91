// SPDX-FileCopyrightText: The spla authors
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once
#include "../sequence_state.hpp"
#include "../view_concepts.hpp"
#include "panel_load.hpp"

#include <cstddef>
#include <cstdint>

/// Where a block's summary lies and how its vectors are stored: bf16, fp32, or int8 with one scale a vector.
namespace spla::detail
{

/// Nearest integer, ties to even; |x| below 2^22.
KOKKOS_INLINE_FUNCTION float round_to_even(float x)
{
    float const low = Kokkos::floor(x);
    float const rest = x - low;
    bool const up = rest > 0.5f || (rest == 0.5f && low != 2.0f * Kokkos::floor(low / 2.0f));
    return up ? low + 1.0f : low;
}

/// One stored vector, of a type known at run time: one compilation of a panel's load for all of them.
struct summary_vector
{
    void const* data = nullptr;
    summary_storage storage = summary_storage::fp32;

    template <class Element>
    KOKKOS_FUNCTION Element const* as() const
    {
        return static_cast<Element const*>(data);
    }
};
template <class T, int N>
KOKKOS_FUNCTION void load_tile(summary_vector const (&rows)[N], int d, lanes<T, N> (&tile)[N])
{
    if (rows[0].storage == summary_storage::fp32)
        unrolled<N>([&](auto r) { tile[r] = load_lanes<T, N>(rows[r].template as<float>() + d); });
    else if (rows[0].storage == summary_storage::bf16)
        unrolled<N>([&](auto r) { tile[r] = load_lanes<T, N>(rows[r].template as<bfloat16>() + d); });
    else
        unrolled<N>([&](auto r) { tile[r] = load_lanes<T, N>(rows[r].template as<std::int8_t>() + d); });
}
template <class T>
KOKKOS_FUNCTION T load_number(summary_vector const& row, int d)
{
    if (row.storage == summary_storage::fp32) return widen<T>(row.as<float>()[d]);
    if (row.storage == summary_storage::bf16) return widen<T>(row.as<bfloat16>()[d]);
    return widen<T>(row.as<std::int8_t>()[d]);
}
KOKKOS_INLINE_FUNCTION void const* address_of(summary_vector const& row, int d)
{
    int const bytes = row.storage == summary_storage::fp32 ? 4 : (row.storage == summary_storage::bf16 ? 2 : 1);
    return row.as<std::byte>() + d * bytes;
}

struct summary_tensor
{
    void* values = nullptr;
    float* scales = nullptr;
    summary_storage storage = summary_storage::fp32;
    std::int64_t head_dim = 0, key_heads = 0;
    std::int64_t blocks = 0; ///< of a sequence, a slot or a page
    int sub_blocks = 1, vectors = 1;
    token_map map; ///< in blocks

    /// Number of the vector `v` of sub-block `sub` among all vectors of all summaries.
    KOKKOS_FUNCTION std::int64_t number(std::int64_t sequence, std::int64_t block, std::int64_t head, int sub,
                                        int v) const
    {
        auto const at = map(sequence, block);
        return (((at.batch * blocks + at.token) * key_heads + head) * sub_blocks + sub) * vectors + v;
    }

    KOKKOS_FUNCTION summary_vector vector(std::int64_t vector_number) const
    {
        std::int64_t const first = vector_number * head_dim;
        int const bytes = storage == summary_storage::fp32 ? 4 : (storage == summary_storage::bf16 ? 2 : 1);
        return {static_cast<std::byte const*>(values) + first * bytes, storage};
    }
    template <class Element>
    KOKKOS_FUNCTION Element* row(std::int64_t vector_number) const
    {
        return static_cast<Element*>(values) + vector_number * head_dim;
    }

    /// Stores one vector whose components are get(d), by one thread.
    template <class T>
    KOKKOS_FUNCTION void store(std::int64_t vector_number, T const* from) const
    {
        if (storage == summary_storage::fp32)
            for (std::int64_t d = 0; d < head_dim; ++d) row<float>(vector_number)[d] = static_cast<float>(from[d]);
        else if (storage == summary_storage::bf16)
            for (std::int64_t d = 0; d < head_dim; ++d)
                row<bfloat16>(vector_number)[d] = bfloat16(static_cast<float>(from[d]));
        else
        {
            float largest = 0.0f;
            for (std::int64_t d = 0; d < head_dim; ++d)
            {
                float const x = Kokkos::abs(static_cast<float>(from[d]));
                largest = x > largest || !(x == x) ? x : largest;
            }
            float const scale = largest / 127.0f;
            scales[vector_number] = scale;
            for (std::int64_t d = 0; d < head_dim; ++d)
            {
                // Subnormal scales are inexact, and what is not finite has no quotient: neither may leave the range.
                float const x = scale > 0.0f ? static_cast<float>(from[d]) / scale : 0.0f;
                float const inside = x > 127.0f ? 127.0f : (x > -127.0f ? x : (x == x ? -127.0f : 0.0f));
                row<std::int8_t>(vector_number)[d] = static_cast<std::int8_t>(round_to_even(inside));
            }
        }
    }
};

template <class State>
summary_tensor summaries_of(State const& state)
{
    auto const& l = state.layout();
    summary_tensor s;
    s.values = state.template part<std::byte>(l.summaries);
    s.scales = state.template part<float>(l.scales);
    s.storage = l.storage;
    s.head_dim = l.head_dim;
    s.key_heads = l.key_heads;
    s.blocks = l.blocks;
    s.sub_blocks = static_cast<int>(l.sub_blocks);
    s.vectors = static_cast<int>(l.vectors);
    return s;
}

/// The same vector of a sequence's blocks from `block` on.
struct summary_rows
{
    summary_tensor const& summary;
    std::int64_t sequence, block, head;
    int sub, vector;

    KOKKOS_FUNCTION std::int64_t number(int j) const { return summary.number(sequence, block + j, head, sub, vector); }
    KOKKOS_FUNCTION summary_vector operator()(int j) const { return summary.vector(number(j)); }
};

/// Loads vector `v` of sub-block `sub` of `blocks` consecutive summaries as a transposed panel [head_dim][leading], and
/// asks the cache for the same vector of the `following` blocks after these.
template <class T, class Team>
KOKKOS_FUNCTION void load_summary_panel(Team const& team, summary_tensor const& s, std::int64_t sequence,
                                        std::int64_t first_block, int blocks, int following, std::int64_t head, int sub,
                                        int v, T* panel, int leading)
{
    int const width = static_cast<int>(s.head_dim);
    summary_rows const rows{s, sequence, first_block, head, sub, v};
    load_transposed(team, blocks, leading, width, rows, panel, leading,
                    summary_rows{s, sequence, first_block + blocks, head, sub, v}, following);
    if (s.storage != summary_storage::int8) return;
    Kokkos::parallel_for(Kokkos::TeamThreadRange(team, width), [&](int d) {
        Kokkos::parallel_for(Kokkos::ThreadVectorRange(team, blocks),
                             [&](int j) { panel[d * leading + j] *= static_cast<T>(s.scales[rows.number(j)]); });
    });
    team.team_barrier();
}

} // namespace spla::detail
