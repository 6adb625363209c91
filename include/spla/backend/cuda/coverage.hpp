// SPDX-FileCopyrightText: The spla authors
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once
#include "../../options.hpp"
#include "../../problem.hpp"
#include "exact_shape.hpp"

#include <limits>

/// Which calls the Hopper kernels take, and why not the others.
namespace spla::cuda
{

/// Compiled once for each target of a program: only where that is Hopper's own (sm_90a) may a block have 384 threads.
#if !defined(__CUDA_ARCH__) || defined(__CUDA_ARCH_FEAT_SM90_ALL)
#define SPLA_HOPPER_THREADS 384
#else
#define SPLA_HOPPER_THREADS 32
#endif
template <class>
__global__ __launch_bounds__(SPLA_HOPPER_THREADS, 1) void hopper_probe()
{
}

/// Has this program code for Hopper's own instructions, and is this a Hopper?
inline bool has_hopper_code(int device)
{
    int current = 0, major = 0;
    if (cudaGetDevice(&current) != cudaSuccess) return false;
    if (cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device) != cudaSuccess || major != 9)
        return false;
    if (current != device) cudaSetDevice(device);
    cudaFuncAttributes a{};
    bool const loaded = cudaFuncGetAttributes(&a, hopper_probe<void>) == cudaSuccess;
    if (!loaded) cudaGetLastError(); // not the next call's
    if (current != device) cudaSetDevice(current);
    return loaded && a.maxThreadsPerBlock >= 384;
}

/// Why the exact branch of such a call does not run on matrix units; null where it does.
template <class Metric, class FeatureMap>
char const* why_not_hopper(int device, problem const& p, options<Metric, FeatureMap> const& o)
{
    if (p.element != element_kind::bfloat16 && p.element != element_kind::float16) return "elements of 32 or 64 bits";
    if (o.block != block_tokens) return "blocks of other than 64 tokens";
    if (p.head_dim > 128 || p.value_dim > 128) return "heads wider than 128";
    if (p.head_dim % 8 != 0 || p.value_dim % 8 != 0) return "heads not of whole 16 bytes";
    if (p.group() > tile_rows) return "more than 128 query heads to a key head";
    if (o.scale && *o.scale <= 0) return "a logit scale that is not positive";
    std::int64_t const tokens = tile_rows / p.group();
    std::int64_t const items = p.batch * p.key_heads * (p.queries / tokens + 2);
    if (p.keys > std::numeric_limits<int>::max() / 2 || items > std::numeric_limits<int>::max() / 2)
        return "more tokens than an int counts";
    if (p.keys == 0) return "no keys";
    if (!has_hopper_code(device)) return "not a Hopper GPU, or a program that was not built for sm_90a";
    return nullptr;
}

} // namespace spla::cuda
