// SPDX-FileCopyrightText: The spla authors
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once
#include <cuda_runtime.h>

/// The device of a call, and whether the program has Hopper's own code for it.
namespace spla::cuda
{

/// A device is the current one while this lives.
class on_device
{
public:
    explicit on_device(int device) : device_(device)
    {
        cudaGetDevice(&before_);
        if (before_ != device_) cudaSetDevice(device_);
    }
    on_device(on_device const&) = delete;
    on_device& operator=(on_device const&) = delete;
    ~on_device()
    {
        if (before_ != device_) cudaSetDevice(before_);
    }

private:
    int device_, before_ = 0;
};

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
    int major = 0;
    if (cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device) != cudaSuccess || major != 9)
        return false;
    on_device const here(device);
    cudaFuncAttributes a{};
    bool const loaded = cudaFuncGetAttributes(&a, hopper_probe<void>) == cudaSuccess;
    if (!loaded) cudaGetLastError(); // not the next call's
    return loaded && a.maxThreadsPerBlock >= 384;
}

} // namespace spla::cuda
