// SPDX-FileCopyrightText: The spla authors
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once
#include "portable/attention_kernel.hpp"

#include <type_traits>

#if defined(KOKKOS_ENABLE_CUDA) && defined(__NVCC__)
#include "cuda/coverage.hpp"
#include "cuda/exact_branch.hpp"
#define SPLA_HOPPER_KERNELS
#endif

/// The kernels that are not portable, as those that choose see them: what a space has of them, and for which calls.
namespace spla::backend
{

/// Which branches a call computes.
enum class branches
{
    both,
    exact,
    residual
};

/// Why attention of these sizes runs on the portable kernel; null where the exact branch runs on Hopper's matrix units.
template <class Exec, class Metric, class FeatureMap>
char const* why_portable([[maybe_unused]] problem const& p, [[maybe_unused]] options<Metric, FeatureMap> const& o,
                         [[maybe_unused]] bool decode, [[maybe_unused]] branches wanted)
{
    if (detail::runs_on_host<Exec>) return "host space";
#if defined(KOKKOS_ENABLE_CUDA)
    if constexpr (std::is_same_v<Exec, Kokkos::Cuda>)
    {
        if (decode || wanted != branches::exact)
            return "of tuned kernels there is that of prefill's exact branch alone";
#if defined(SPLA_HOPPER_KERNELS)
        return cuda::why_not_hopper(Kokkos::device_id(), p, o);
#else
        return "compiled without nvcc";
#endif
    }
#endif
    return "no tuned kernel for this device";
}

/// Runs the exact branch on matrix units. False, and nothing done, where there is no such kernel for the space or the
/// element, or where a view is not aligned to 16 bytes: the portable kernel then does it.
template <class Exec, class Element>
bool attend_on_matrix_units([[maybe_unused]] Exec const& exec,
                            [[maybe_unused]] detail::tensor<Element const> const& query,
                            [[maybe_unused]] detail::tensor<Element const> const& key,
                            [[maybe_unused]] detail::tensor<Element const> const& value,
                            [[maybe_unused]] detail::list_tensor const& list,
                            [[maybe_unused]] portable::attention_outputs<Element> const& out,
                            [[maybe_unused]] portable::attention_shape const& shape)
{
#if defined(SPLA_HOPPER_KERNELS)
    if constexpr (std::is_same_v<Exec, Kokkos::Cuda> &&
                  (std::is_same_v<Element, bfloat16> || std::is_same_v<Element, float16>))
        return cuda::attend(exec, query, key, value, list, out, shape);
#endif
    return false;
}

} // namespace spla::backend
