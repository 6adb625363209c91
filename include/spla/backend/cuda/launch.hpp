// SPDX-FileCopyrightText: The spla authors
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once
#include "device.hpp"

#include <Kokkos_Core.hpp>

#include <algorithm>
#include <cstdint>
#include <stdexcept>
#include <string>

/// Launches of Hopper's kernels: one block of threads a multiprocessor, and each takes its items in turn.
namespace spla::cuda
{

inline constexpr std::int64_t most_shared_bytes = 232448; ///< of one block of threads on a Hopper

inline void require_success(cudaError_t result, char const* doing, char const* kernel)
{
    if (result == cudaSuccess) return;
    throw std::runtime_error(std::string("spla: ") + doing + " of the " + kernel + ": " + cudaGetErrorString(result));
}

/// The default device was looked at when the call was planned; another is looked at here.
inline bool runs_here(Kokkos::Cuda const& exec)
{
    return exec.cuda_device() == Kokkos::device_id() || has_hopper_code(exec.cuda_device());
}

/// Has the device load kernels, which it may not do while a graph is captured.
template <class... Kernels>
void load_kernels(Kokkos::Cuda const& exec, Kernels*... kernels)
{
    on_device const here(exec.cuda_device());
    cudaFuncAttributes ignored;
    (require_success(cudaFuncGetAttributes(&ignored, kernels), "loading", "tuned kernels"), ...);
}

inline int multiprocessors_of(Kokkos::Cuda const& exec)
{
    int count = 1;
    cudaDeviceGetAttribute(&count, cudaDevAttrMultiProcessorCount, exec.cuda_device());
    return count;
}

/// Prepares a launch with so much dynamic shared memory. All of a multiprocessor's memory that can be is shared memory:
/// launches that want it divided otherwise would not run beside one another.
template <class Arguments>
void prepare_kernel(char const* name, void (*kernel)(Arguments), int shared_bytes)
{
    require_success(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, shared_bytes),
                    "shared memory", name);
    require_success(
        cudaFuncSetAttribute(kernel, cudaFuncAttributePreferredSharedMemoryCarveout, cudaSharedmemCarveoutMaxShared),
        "shared memory", name);
}

/// When a launch may begin: once all before it has ended; or as soon as the one before it lets it, whose results the
/// kernel itself then waits for (see let_next_launch_begin()).
enum class launch_begins
{
    after_earlier_ones,
    when_let
};

/// each: blocks of threads of a multiprocessor.
template <class Arguments>
void launch_blocks(char const* name, Kokkos::Cuda const& exec, void (*kernel)(Arguments), std::int64_t items,
                   std::int64_t shared_bytes, std::remove_const_t<Arguments> const& arguments, int threads = 384,
                   int each = 1, launch_begins begins = launch_begins::after_earlier_ones)
{
    if (items <= 0) return;
    on_device const here(exec.cuda_device());
    int const bytes = static_cast<int>(shared_bytes);
    prepare_kernel(name, kernel, bytes);
    int const blocks = static_cast<int>(std::min<std::int64_t>(items, std::int64_t{each} * multiprocessors_of(exec)));
    cudaLaunchAttribute early{};
    early.id = cudaLaunchAttributeProgrammaticStreamSerialization;
    early.val.programmaticStreamSerializationAllowed = 1;
    cudaLaunchConfig_t how{};
    how.gridDim = dim3(static_cast<unsigned>(blocks)), how.blockDim = dim3(static_cast<unsigned>(threads));
    how.dynamicSmemBytes = static_cast<std::size_t>(bytes), how.stream = exec.cuda_stream();
    how.attrs = &early, how.numAttrs = begins == launch_begins::when_let ? 1 : 0;
    require_success(cudaLaunchKernelEx(&how, kernel, arguments), "launch", name);
}

} // namespace spla::cuda
