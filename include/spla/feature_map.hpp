// SPDX-FileCopyrightText: The spla authors
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once
#include "algorithm/lanes.hpp"

/// Feature maps phi of the residual (linear) branch, applied to queries and keys per head, without the logit scale.
///
/// A feature map is a copyable struct with
///
///     int features(int width) const;                    // F, the number of features of a vector of `width` numbers
///     template <class T> void operator()(int width, vector_of<T> x, vector_of<T> phi) const;
///
/// both KOKKOS_FUNCTION. T is a scalar, or a pack of them that holds one component of several vectors, one vector a
/// lane: write the map for one vector with + - * /, spla::exp, spla::max, spla::min and the like, and it is vectorised
/// over vectors on CPUs and spread over threads on GPUs. For the identity "global minus selected" phi(k) is rounded
/// once.
namespace spla
{

/// The components of one vector (or of one pack of vectors), `stride` scalars apart.
template <class T>
struct vector_of;

namespace detail
{
template <class T>
struct scalar_of
{
    using type = T;
};
template <class T, int N>
struct scalar_of<lanes<T, N>>
{
    using type = T;
};
} // namespace detail

template <class T>
struct vector_of
{
    using scalar = typename detail::scalar_of<T>::type;
    scalar* data;
    std::int64_t stride;

    KOKKOS_FUNCTION T operator[](int i) const
    {
        if constexpr (std::is_same_v<T, scalar>)
            return data[i * stride];
        else
            return T::load(data + i * stride);
    }
    KOKKOS_FUNCTION void set(int i, T const& x) const
    {
        if constexpr (std::is_same_v<T, scalar>)
            data[i * stride] = x;
        else
            x.store(data + i * stride);
    }
};

/// phi(x) = softmax(x): D features, in [0, 1].
struct softmax
{
    static constexpr char const* name = "softmax";
    KOKKOS_FUNCTION constexpr int features(int width) const { return width; }

    template <class T>
    KOKKOS_FUNCTION void operator()(int width, vector_of<T> x, vector_of<T> phi) const
    {
        T largest = x[0];
        for (int d = 1; d < width; ++d) largest = max(largest, x[d]);
        T sum(0);
        for (int d = 0; d < width; ++d)
        {
            T const e = exp(x[d] - largest);
            sum = sum + e;
            phi.set(d, e);
        }
        T const inverse = T(1) / sum;
        for (int d = 0; d < width; ++d) phi.set(d, phi[d] * inverse);
    }
};

/// phi(x) = [softmax(x), softmax(-x)]: 2D features. RATTENTION's (arXiv 2506.15545) default and best.
struct softmax_pair
{
    static constexpr char const* name = "softmax_pair";
    KOKKOS_FUNCTION constexpr int features(int width) const { return 2 * width; }

    template <class T>
    KOKKOS_FUNCTION void operator()(int width, vector_of<T> x, vector_of<T> phi) const
    {
        T largest = x[0];
        T smallest = x[0];
        for (int d = 1; d < width; ++d)
        {
            largest = max(largest, x[d]);
            smallest = min(smallest, x[d]);
        }
        // About the middle both exponentials are in range and one is the other's inverse, unless the spread is extreme.
        using scalar = typename vector_of<T>::scalar;
        T const half = (largest - smallest) * T(scalar(0.5));
        T const middle = smallest + half;
        bool const narrow = all_positive(T(scalar(80)) - half);
        T sum(0);
        T sum_of_negated(0);
        for (int d = 0; d < width; ++d)
        {
            T n;
            T const e = narrow ? exp_with_inverse(x[d] - middle, n) : exp(x[d] - largest);
            if (!narrow) n = exp(smallest - x[d]);
            sum = sum + e;
            sum_of_negated = sum_of_negated + n;
            phi.set(d, e);
            phi.set(width + d, n);
        }
        T const inverse = T(1) / sum;
        T const inverse_of_negated = T(1) / sum_of_negated;
        for (int d = 0; d < width; ++d)
        {
            phi.set(d, phi[d] * inverse);
            phi.set(width + d, phi[width + d] * inverse_of_negated);
        }
    }
};

/// phi(x) = elu(x) + 1 = x + 1 where x > 0, exp(x) elsewhere: D features.
struct elu_plus_one
{
    static constexpr char const* name = "elu_plus_one";
    KOKKOS_FUNCTION constexpr int features(int width) const { return width; }

    template <class T>
    KOKKOS_FUNCTION void operator()(int width, vector_of<T> x, vector_of<T> phi) const
    {
        for (int d = 0; d < width; ++d) phi.set(d, max(x[d], T(0)) + exp(min(x[d], T(0))));
    }
};

/// phi(x) = [relu(x), relu(-x)]: 2D features.
struct relu_pair
{
    static constexpr char const* name = "relu_pair";
    KOKKOS_FUNCTION constexpr int features(int width) const { return 2 * width; }

    template <class T>
    KOKKOS_FUNCTION void operator()(int width, vector_of<T> x, vector_of<T> phi) const
    {
        for (int d = 0; d < width; ++d)
        {
            phi.set(d, max(x[d], T(0)));
            phi.set(width + d, max(T(0) - x[d], T(0)));
        }
    }
};

/// phi(x) = x: D features.
struct identity
{
    static constexpr char const* name = "identity";
    KOKKOS_FUNCTION constexpr int features(int width) const { return width; }

    template <class T>
    KOKKOS_FUNCTION void operator()(int width, vector_of<T> x, vector_of<T> phi) const
    {
        for (int d = 0; d < width; ++d) phi.set(d, x[d]);
    }
};

} // namespace spla
