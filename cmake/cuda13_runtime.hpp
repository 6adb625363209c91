// SPDX-FileCopyrightText: The spla authors
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#ifndef SPLA_CUDA13_RUNTIME // a guard by name: the source tree's copy and the package's may meet
#define SPLA_CUDA13_RUNTIME
// Included before everything else (-include) where CUDA 13 meets Kokkos 4.7.0, which makes these two calls with the
// signatures of CUDA 12. Later Kokkos releases do not use them.
#if defined(__CUDACC__)
#include <cuda_runtime.h>
#if CUDART_VERSION >= 13000
inline cudaError_t cudaGraphAddDependencies(cudaGraph_t graph, cudaGraphNode_t const* from, cudaGraphNode_t const* to,
                                            size_t count)
{
    return cudaGraphAddDependencies(graph, from, to, nullptr, count);
}
inline cudaError_t cudaMemPrefetchAsync(void const* pointer, size_t bytes, int device, cudaStream_t stream)
{
    cudaMemLocation location{};
    location.type = device == cudaCpuDeviceId ? cudaMemLocationTypeHost : cudaMemLocationTypeDevice;
    location.id = device == cudaCpuDeviceId ? 0 : device;
    return cudaMemPrefetchAsync(pointer, bytes, location, 0, stream);
}
#endif
#endif
#endif
