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

/// How a multiprocessor's memory is divided between shared memory and first-level cache. Launches that want it divided
/// otherwise do not run beside one another; and one that does not say gets what the one before it had.
enum class memory_division
{
    as_it_is,
    all_shared,
    least_shared
};

/// How a kernel is launched.
struct launch_way
{
    int threads = 384, each = 1; ///< of a block; blocks of a multiprocessor at most, 0: as many as there are items
    /// Begins as soon as the launch before lets it (see let_next_launch_begin()), whose results the kernel waits for.
    bool begins_early = false;
    memory_division memory = memory_division::as_it_is;
};

template <class Arguments>
void launch_blocks(char const* name, Kokkos::Cuda const& exec, void (*kernel)(Arguments), std::int64_t items,
                   std::int64_t shared_bytes, std::remove_const_t<Arguments> const& arguments,
                   launch_way const& way = {})
{
    if (items <= 0) return;
    on_device const here(exec.cuda_device());
    auto const set = [&](cudaFuncAttribute attribute, int value) {
        require_success(cudaFuncSetAttribute(kernel, attribute, value), "shared memory", name);
    };
    int const bytes = static_cast<int>(shared_bytes);
    set(cudaFuncAttributeMaxDynamicSharedMemorySize, bytes);
    if (way.memory != memory_division::as_it_is)
        set(cudaFuncAttributePreferredSharedMemoryCarveout,
            way.memory == memory_division::all_shared ? cudaSharedmemCarveoutMaxShared : cudaSharedmemCarveoutMaxL1);
    std::int64_t const most = std::int64_t{way.each} * multiprocessors_of(exec);
    cudaLaunchAttribute early{};
    early.id = cudaLaunchAttributeProgrammaticStreamSerialization;
    early.val.programmaticStreamSerializationAllowed = 1;
    cudaLaunchConfig_t how{};
    how.gridDim = dim3(static_cast<unsigned>(way.each > 0 ? std::min(items, most) : items));
    how.blockDim = dim3(static_cast<unsigned>(way.threads));
    how.dynamicSmemBytes = static_cast<std::size_t>(bytes), how.stream = exec.cuda_stream();
    how.attrs = &early, how.numAttrs = way.begins_early ? 1 : 0;
    require_success(cudaLaunchKernelEx(&how, kernel, arguments), "launch", name);
}

} // namespace spla::cuda
