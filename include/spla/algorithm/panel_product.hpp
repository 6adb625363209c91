// SPDX-FileCopyrightText: The spla authors
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once
#include "panel_load.hpp"

/// The one matrix product of the portable kernels: C (+)= A B over panels. Every element of C is summed over k in
/// ascending order by one fused multiply-add each, wherever it stands in the panel, so a row's result does not depend
/// on its neighbours: the ground of the bit-for-bit promises on lists.
namespace spla::detail
{

/// Rows of a matrix, `stride` apart, through an index where there is one.
template <class T>
struct row_set
{
    T* data;
    std::int64_t stride;
    int const* maybe_index = nullptr;
    KOKKOS_FUNCTION T* operator[](int i) const { return data + (maybe_index ? maybe_index[i] : i) * stride; }
};

enum class product
{
    set, ///< C = A B
    add  ///< C += A B
};

#if defined(__AVX512F__)
inline constexpr int tile_packs = 4; // 16 accumulators, 4 packs of B, of 32 registers
#else
inline constexpr int tile_packs = 2; // 8 accumulators of 16 registers
#endif

template <product Mode, int R, int C, class T>
KOKKOS_FUNCTION void multiply_tile(int k, T const* const (&a)[R], T const* b, std::int64_t leading, T* const (&c)[R],
                                   int column)
{
    constexpr int w = native_lanes<T>;
    using pack = lanes<T, w>;
    pack sum[R][C];
    for (int r = 0; r < R; ++r)
        for (int j = 0; j < C; ++j) sum[r][j] = Mode == product::set ? pack(T(0)) : pack::load(c[r] + column + j * w);
    T const* row = b + column;
    for (int i = 0; i < k; ++i, row += leading)
    {
        pack x[C];
        for (int j = 0; j < C; ++j)
        {
            x[j] = pack::load(row + j * w);
            keep_in_register(x[j]);
        }
        for (int r = 0; r < R; ++r)
        {
            pack const y(a[r][i]);
            for (int j = 0; j < C; ++j) sum[r][j] = sum[r][j] + y * x[j];
        }
    }
    for (int r = 0; r < R; ++r)
        for (int j = 0; j < C; ++j) sum[r][j].store(c[r] + column + j * w);
}

template <product Mode, int R, class T>
KOKKOS_FUNCTION void multiply_rows(int first, int k, int columns, row_set<T const> const& a, T const* b,
                                   std::int64_t leading, row_set<T> const& c)
{
    constexpr int w = native_lanes<T>;
    T const* from[R];
    T* to[R];
    for (int r = 0; r < R; ++r)
    {
        from[r] = a[first + r];
        to[r] = c[first + r];
    }
    int column = 0;
    for (; column + tile_packs * w <= columns; column += tile_packs * w)
        multiply_tile<Mode, R, tile_packs>(k, from, b, leading, to, column);
    for (; column < columns; column += w) multiply_tile<Mode, R, 1>(k, from, b, leading, to, column);
}

/// C[i][0, columns) (+)= sum_k A[i][k] B[k][0, columns) for i in [0, rows). `columns` is a multiple of the lanes; on
/// the host the rows of B and C are that long in memory.
template <product Mode, class T, class Team>
KOKKOS_FUNCTION void multiply(Team const& team, int rows, int k, int columns, row_set<T const> const& a, T const* b,
                              std::int64_t leading, row_set<T> const& c)
{
    if constexpr (runs_on_host<space_of<Team>>)
    {
        int i = 0;
        for (; i + 4 <= rows; i += 4) multiply_rows<Mode, 4>(i, k, columns, a, b, leading, c);
        if (rows - i == 3) multiply_rows<Mode, 3>(i, k, columns, a, b, leading, c);
        if (rows - i == 2) multiply_rows<Mode, 2>(i, k, columns, a, b, leading, c);
        if (rows - i == 1) multiply_rows<Mode, 1>(i, k, columns, a, b, leading, c);
    }
    else
    {
        Kokkos::parallel_for(Kokkos::TeamThreadRange(team, rows), [&](int i) {
            T const* const from = a[i];
            T* const to = c[i];
            Kokkos::parallel_for(Kokkos::ThreadVectorRange(team, columns), [&](int j) {
                T sum = Mode == product::set ? T(0) : to[j];
                for (int d = 0; d < k; ++d) sum = sum + from[d] * b[d * leading + j];
                to[j] = sum;
            });
        });
        team.team_barrier();
    }
}

} // namespace spla::detail
