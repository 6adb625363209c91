// SPDX-FileCopyrightText: The spla authors
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once
#include "../options.hpp"
#include "../view_concepts.hpp"

/// Both branches of one row into one output (spec section 5).
namespace spla::detail
{

/// Norm weights [query_heads, value_dim] in the accumulation type; null: ones.
template <class T>
struct weight_tensor
{
    T const* data = nullptr;
    std::int64_t stride = 0;
    KOKKOS_FUNCTION T operator()(std::int64_t head, std::int64_t d) const
    {
        return data ? data[head * stride + d] : T(1);
    }
};

template <class T>
struct combination_rule
{
    combination_kind kind = combination_kind::rms_sum;
    T epsilon = T(1e-6);
    weight_tensor<T> sparse_weight, residual_weight;

    /// 1 / rms(x), rms(x) = sqrt(mean(x^2) + epsilon); 1 where the kind does not normalise.
    /// A zero row stays zero, also where epsilon is. x(d) is component d.
    template <class Row>
    KOKKOS_FUNCTION T inverse_rms(Row const& x, int n) const
    {
        if (kind != combination_kind::rms_sum) return T(1);
        T sum = T(0);
        for (int d = 0; d < n; ++d) sum += x(d) * x(d);
        return inverse_rms_of(sum, n);
    }
    /// The same of a row whose squares are summed.
    KOKKOS_FUNCTION T inverse_rms_of(T squares, int n) const
    {
        if (kind != combination_kind::rms_sum) return T(1);
        T const square = squares / static_cast<T>(n) + epsilon;
        return square == T(0) ? T(0) : T(1) / Kokkos::sqrt(square);
    }
    /// Component d of the output.
    KOKKOS_FUNCTION T operator()(std::int64_t head, int d, T sparse, T inverse_rms_sparse, T residual,
                                 T inverse_rms_residual) const
    {
        if (kind == combination_kind::sparse_only) return sparse;
        return sparse_weight(head, d) * (sparse * inverse_rms_sparse) +
               residual_weight(head, d) * (residual * inverse_rms_residual);
    }
};

} // namespace spla::detail
