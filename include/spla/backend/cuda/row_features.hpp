// SPDX-FileCopyrightText: The spla authors
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once
#include "../../feature_map.hpp"
#include "instructions.hpp"

/// The feature maps of feature_map.hpp on a row whose numbers are spread over the registers of neighbouring lanes.
namespace spla::cuda
{

/// Features of a number of a row: 2 (of it, and of its negative), 1, or 0 where the map is a user's own, which is not
/// known here.
template <class FeatureMap>
inline constexpr int feature_halves = 0;
template <>
inline constexpr int feature_halves<softmax_pair> = 2;
template <>
inline constexpr int feature_halves<relu_pair> = 2;
template <>
inline constexpr int feature_halves<softmax> = 1;
template <>
inline constexpr int feature_halves<elu_plus_one> = 1;
template <>
inline constexpr int feature_halves<identity> = 1;

/// One number of `Lanes` neighbouring lanes (a power of two, aligned to it), combined; the same bits in each of them.
template <int Lanes, class Combine>
__device__ float over_lanes(float x, Combine combine)
{
#pragma unroll
    for (int far = 1; far < Lanes; far *= 2) x = combine(x, __shfl_xor_sync(0xffffffffu, x, far));
    return x;
}
template <int Lanes, int N>
__device__ float largest_of(float const (&x)[N], int valid)
{
    float top = -__builtin_huge_valf();
#pragma unroll
    for (int i = 0; i < N; ++i) top = i < valid ? fmaxf(top, x[i]) : top;
    return over_lanes<Lanes>(top, [](float a, float b) { return fmaxf(a, b); });
}
template <int Lanes, int N>
__device__ float smallest_of(float const (&x)[N], int valid)
{
    float bottom = __builtin_huge_valf();
#pragma unroll
    for (int i = 0; i < N; ++i) bottom = i < valid ? fminf(bottom, x[i]) : bottom;
    return over_lanes<Lanes>(bottom, [](float a, float b) { return fminf(a, b); });
}

/// What is not of the row becomes zero, whatever a map makes of it.
template <int N>
__device__ void clear_rest(float (&x)[N], int valid)
{
#pragma unroll
    for (int i = 0; i < N; ++i) x[i] = i < valid ? x[i] : 0.0f;
}

/// Exponents, none above zero, become a row's softmax.
template <int Lanes, int N>
__device__ void softmax_of_exponents(float (&x)[N], int valid)
{
    float sum = 0.0f;
#pragma unroll
    for (int i = 0; i < N; ++i)
    {
        x[i] = i < valid ? exp2_fast(x[i] * 1.44269504f) : 0.0f;
        sum += x[i];
    }
    float const inverse = 1.0f / over_lanes<Lanes>(sum, [](float a, float b) { return a + b; });
#pragma unroll
    for (int i = 0; i < N; ++i) x[i] *= inverse;
}

/// A map's features. apply<Lanes>(x, negated, valid): the first `valid` of the lane's N numbers x are the row's (none,
/// or other counts in other lanes, are allowed; some lane has one); x becomes the features, `negated` the second half
/// where the map has two, both zero behind `valid`. All lanes of the warp call it.
template <class FeatureMap>
struct map_features;

template <>
struct map_features<softmax_pair>
{
    template <int Lanes, int N>
    static __device__ void apply(float (&x)[N], float (&negated)[N], int valid)
    {
        float const largest = largest_of<Lanes>(x, valid), smallest = smallest_of<Lanes>(x, valid);
#pragma unroll
        for (int i = 0; i < N; ++i)
        {
            negated[i] = smallest - x[i];
            x[i] -= largest;
        }
        softmax_of_exponents<Lanes>(x, valid);
        softmax_of_exponents<Lanes>(negated, valid);
    }
};

template <>
struct map_features<softmax>
{
    template <int Lanes, int N>
    static __device__ void apply(float (&x)[N], float (&)[N], int valid)
    {
        float const largest = largest_of<Lanes>(x, valid);
#pragma unroll
        for (int i = 0; i < N; ++i) x[i] -= largest;
        softmax_of_exponents<Lanes>(x, valid);
    }
};

template <>
struct map_features<elu_plus_one>
{
    template <int Lanes, int N>
    static __device__ void apply(float (&x)[N], float (&)[N], int valid)
    {
#pragma unroll
        for (int i = 0; i < N; ++i) x[i] = fmaxf(x[i], 0.0f) + exp2_fast(fminf(x[i], 0.0f) * 1.44269504f);
        clear_rest(x, valid);
    }
};

template <>
struct map_features<relu_pair>
{
    template <int Lanes, int N>
    static __device__ void apply(float (&x)[N], float (&negated)[N], int valid)
    {
#pragma unroll
        for (int i = 0; i < N; ++i)
        {
            negated[i] = fmaxf(0.0f - x[i], 0.0f);
            x[i] = fmaxf(x[i], 0.0f);
        }
        clear_rest(x, valid);
        clear_rest(negated, valid);
    }
};

template <>
struct map_features<identity>
{
    template <int Lanes, int N>
    static __device__ void apply(float (&x)[N], float (&)[N], int valid)
    {
        clear_rest(x, valid);
    }
};

} // namespace spla::cuda
