// SPDX-FileCopyrightText: The spla authors
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once
#include <Kokkos_Core.hpp>

namespace spla::detail
{

/// Eigenvalues and vectors of a symmetric n x n matrix by cyclic Jacobi rotations: on return matrix holds the
/// eigenvalues on its diagonal and vectors the eigenvectors as columns. By one thread; O(n^3) a sweep, at most 24
/// sweeps.
template <class T>
KOKKOS_FUNCTION void symmetric_eigen(int n, T* matrix, T* vectors)
{
    for (int i = 0; i < n; ++i)
        for (int j = 0; j < n; ++j) vectors[i * n + j] = i == j ? T(1) : T(0);
    T trace = T(0);
    for (int i = 0; i < n; ++i) trace += Kokkos::abs(matrix[i * n + i]);
    T const small = trace * Kokkos::Experimental::epsilon_v<T>;
    for (int sweep = 0; sweep < 24; ++sweep)
    {
        T off = T(0);
        for (int i = 0; i < n; ++i)
            for (int j = 0; j < i; ++j) off = Kokkos::max(off, Kokkos::abs(matrix[i * n + j]));
        if (!(off > small / T(n))) return;
        for (int p = 0; p < n; ++p)
            for (int q = p + 1; q < n; ++q)
            {
                T const apq = matrix[p * n + q];
                if (!(Kokkos::abs(apq) > small / T(n * n))) continue;
                T const theta = (matrix[q * n + q] - matrix[p * n + p]) / (T(2) * apq);
                T const t = (theta >= T(0) ? T(1) : T(-1)) / (Kokkos::abs(theta) + Kokkos::sqrt(theta * theta + T(1)));
                T const c = T(1) / Kokkos::sqrt(t * t + T(1));
                T const s = t * c;
                for (int i = 0; i < n; ++i)
                {
                    T const x = matrix[i * n + p], y = matrix[i * n + q];
                    matrix[i * n + p] = c * x - s * y;
                    matrix[i * n + q] = s * x + c * y;
                }
                for (int i = 0; i < n; ++i)
                {
                    T const x = matrix[p * n + i], y = matrix[q * n + i];
                    matrix[p * n + i] = c * x - s * y;
                    matrix[q * n + i] = s * x + c * y;
                }
                for (int i = 0; i < n; ++i)
                {
                    T const x = vectors[i * n + p], y = vectors[i * n + q];
                    vectors[i * n + p] = c * x - s * y;
                    vectors[i * n + q] = s * x + c * y;
                }
            }
    }
}

} // namespace spla::detail
