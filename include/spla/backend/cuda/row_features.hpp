// SPDX-FileCopyrightText: The spla authors
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once
#include "../../feature_map.hpp"
#include "instructions.hpp"

/// The feature maps of feature_map.hpp on a row whose numbers are spread over the registers of neighbouring lanes.
namespace spla::cuda
{

template <class FeatureMap>
inline constexpr bool is_softmax = false;
template <>
inline constexpr bool is_softmax<softmax_pair> = true;
template <>
inline constexpr bool is_softmax<softmax> = true;

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

/// The largest of a row of pairs of bf16, and the largest of its negative, as a pair; the same in each of its lanes.
template <int Lanes, int N>
__device__ std::uint32_t row_edges(std::uint32_t const (&pairs)[N])
{
    auto const larger = [](std::uint32_t a, std::uint32_t b) {
        std::uint32_t r;
        asm("max.bf16x2 %0, %1, %2;" : "=r"(r) : "r"(a), "r"(b));
        return r;
    };
    auto const smaller = [](std::uint32_t a, std::uint32_t b) {
        std::uint32_t r;
        asm("min.bf16x2 %0, %1, %2;" : "=r"(r) : "r"(a), "r"(b));
        return r;
    };
    std::uint32_t top[N], bottom[N];
#pragma unroll
    for (int i = 0; i < N; ++i) top[i] = bottom[i] = pairs[i];
#pragma unroll
    for (int n = N / 2; n > 0; n /= 2)
#pragma unroll
        for (int i = 0; i < n; ++i) top[i] = larger(top[i], top[i + n]), bottom[i] = smaller(bottom[i], bottom[i + n]);
    std::uint32_t const negative = bottom[0] ^ 0x80008000u;
    std::uint32_t edges = larger(__byte_perm(top[0], negative, 0x5410), __byte_perm(top[0], negative, 0x7632));
#pragma unroll
    for (int far = 1; far < Lanes; far *= 2) edges = larger(edges, __shfl_xor_sync(0xffffffffu, edges, far));
    return edges;
}

/// What is not of the row becomes zero, whatever a map makes of it.
template <int N>
__device__ void clear_rest(float (&x)[N], int valid)
{
#pragma unroll
    for (int i = 0; i < N; ++i) x[i] = i < valid ? x[i] : 0.0f;
}

/// Of the softmax of a row, or of its negative: of slope x, slope edge being its largest.
inline constexpr float softmax_slope = 1.44269504f; ///< log2(e)
inline __device__ float softmax_exponential(float x, float slope, float edge)
{
    return exp2_fast((x - edge) * slope); // exactly 1 at the edge, however large x is
}
/// 1 / x, to a unit in the last place, of normal numbers: a softmax's sum is at least 1.
inline __device__ float inverse_of(float x)
{
    float y;
    asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}
/// Four lanes sum as the row's eight would: octet_features.
template <int Lanes, int N>
__device__ void softmax_about(float (&x)[N], float slope, float edge, int valid)
{
    constexpr int sums = Lanes == 4 ? 2 : 1;
    float sum[sums] = {};
#pragma unroll
    for (int i = 0; i < N; ++i)
    {
        x[i] = i < valid ? softmax_exponential(x[i], slope, edge) : 0.0f;
        sum[i / 8 % sums] += x[i];
    }
    float const all = sums == 2 ? sum[0] + sum[sums - 1] : sum[0];
    float const inverse = inverse_of(over_lanes<Lanes>(all, [](float a, float b) { return a + b; }));
#pragma unroll
    for (int i = 0; i < N; ++i) x[i] *= inverse;
}
template <int Lanes, int N>
__device__ void softmax_of_row(float (&x)[N], int valid)
{
    softmax_about<Lanes>(x, softmax_slope, largest_of<Lanes>(x, valid), valid);
}
template <int Lanes, int N>
__device__ void softmax_of_negative(float (&x)[N], int valid)
{
    softmax_about<Lanes>(x, -softmax_slope, smallest_of<Lanes>(x, valid), valid);
}

/// One half of a map's features. apply<Half, Lanes>(x, valid): the first `valid` of the lane's N numbers x are the
/// row's (none, or other counts in other lanes, are allowed; some lane has one) and become the features, zero behind
/// `valid`. All lanes of the warp call it.
template <class FeatureMap>
struct half_features;

template <>
struct half_features<softmax_pair>
{
    template <int Half, int Lanes, int N>
    static __device__ void apply(float (&x)[N], int valid)
    {
        if constexpr (Half == 0)
        {
            softmax_of_row<Lanes>(x, valid);
        }
        else
        {
            softmax_of_negative<Lanes>(x, valid);
        }
    }
};

template <>
struct half_features<softmax>
{
    template <int, int Lanes, int N>
    static __device__ void apply(float (&x)[N], int valid)
    {
        softmax_of_row<Lanes>(x, valid);
    }
};

template <>
struct half_features<elu_plus_one>
{
    template <int, int, int N>
    static __device__ void apply(float (&x)[N], int valid)
    {
#pragma unroll
        for (int i = 0; i < N; ++i) x[i] = fmaxf(x[i], 0.0f) + exp2_fast(fminf(x[i], 0.0f) * 1.44269504f);
        clear_rest(x, valid);
    }
};

template <>
struct half_features<relu_pair>
{
    template <int Half, int, int N>
    static __device__ void apply(float (&x)[N], int valid)
    {
#pragma unroll
        for (int i = 0; i < N; ++i) x[i] = fmaxf(Half == 0 ? x[i] : 0.0f - x[i], 0.0f);
        clear_rest(x, valid);
    }
};

template <>
struct half_features<identity>
{
    template <int, int, int N>
    static __device__ void apply(float (&x)[N], int valid)
    {
        clear_rest(x, valid);
    }
};

/// All features of a map: x becomes the first half, `negated` the second where the map has two.
template <class FeatureMap>
struct map_features
{
    template <int Lanes, int N>
    static __device__ void apply(float (&x)[N], float (&negated)[N], int valid)
    {
        if constexpr (feature_halves<FeatureMap> == 2)
        {
#pragma unroll
            for (int i = 0; i < N; ++i) negated[i] = x[i];
            half_features<FeatureMap>::template apply<1, Lanes>(negated, valid);
        }
        half_features<FeatureMap>::template apply<0, Lanes>(x, valid);
    }
};

} // namespace spla::cuda
