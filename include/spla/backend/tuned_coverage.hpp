// SPDX-FileCopyrightText: The spla authors
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once
#include "portable/attention_kernel.hpp"
#include "portable/cleared_counters.hpp"
#include "portable/selection_kernel.hpp"
#include "portable/statistics_kernel.hpp"

#include <type_traits>

#if defined(KOKKOS_ENABLE_CUDA) && defined(__NVCC__)
#include "cuda/coverage.hpp"
#include "cuda/decode_branch.hpp"
#include "cuda/exact_branch.hpp"
#include "cuda/opening_kernel.hpp"
#include "cuda/prefix_states.hpp"
#include "cuda/residual_branch.hpp"
#include "cuda/statistics_kernel.hpp"
#define SPLA_HOPPER_KERNELS
#endif

/// The kernels that are not portable, as those that choose see them: what a space has of them, and for which calls.
namespace spla::backend
{

/// Which branches a call computes: of prefill and decode, or a stage alone, of all queries at once.
enum class branches
{
    both,
    exact,
    exact_stage,
    residual_stage,
    exact_stage_without_workspace, ///< for what tuned kernels need
    residual_stage_without_workspace
};
constexpr bool has_workspace(branches b)
{
    return b != branches::exact_stage_without_workspace && b != branches::residual_stage_without_workspace;
}
constexpr bool has_exact(branches b)
{
    return b != branches::residual_stage && b != branches::residual_stage_without_workspace;
}
constexpr bool has_residual(branches b)
{
    return b == branches::both || !has_exact(b);
}
constexpr bool is_stage(branches b)
{
    return b != branches::both && b != branches::exact;
}

/// Features of keys, made once for a call: nothing where there are no kernels that read them.
#if defined(SPLA_HOPPER_KERNELS)
using key_features = cuda::feature_tensor;
using branch_memory = cuda::branch_memory; ///< what lies between the branches' kernels
using branch_work = cuda::branch_work;     ///< prepared for one call
using tile_tables = cuda::tile_tables;
#else
struct key_features
{
};
struct branch_memory
{
    std::byte* data = nullptr;
    std::size_t bytes = 0;
};
struct branch_work
{
    explicit operator bool() const { return false; }
};
struct tile_tables
{
};
#endif

template <class Exec>
inline constexpr bool is_cuda =
#if defined(KOKKOS_ENABLE_CUDA)
    std::is_same_v<Exec, Kokkos::Cuda>;
#else
    false;
#endif
#if defined(SPLA_HOPPER_KERNELS)
template <class Exec, class Element>
inline constexpr bool has_hopper = is_cuda<Exec> &&
                                   (std::is_same_v<Element, bfloat16> || std::is_same_v<Element, float16>);
#else
template <class Exec, class Element>
inline constexpr bool has_hopper = false;
#endif

/// Why a space has no tuned kernels at all; null where it has some.
template <class Exec>
constexpr char const* why_portable()
{
    if (detail::runs_on_host<Exec>) return "host space";
    if (!is_cuda<Exec>) return "no tuned kernels for this device";
#if defined(SPLA_HOPPER_KERNELS)
    return nullptr;
#else
    return "compiled without nvcc";
#endif
}

/// Why the stages of a call run on the portable kernels; null where they run on Hopper's matrix units.
template <class Exec, class Metric>
char const*
why_portable_selection([[maybe_unused]] element_kind element, [[maybe_unused]] portable::selection_shape const& shape,
                       [[maybe_unused]] detail::summary_tensor const& summary, [[maybe_unused]] bool has_room)
{
    if (char const* const why = why_portable<Exec>()) return why;
#if defined(SPLA_HOPPER_KERNELS)
    return cuda::why_no_selection<Metric>(Kokkos::device_id(), element, shape, summary, has_room);
#else
    return "";
#endif
}
/// The same of a step's decoded tokens.
template <class Exec, class Metric>
char const* why_portable_decode_selection([[maybe_unused]] element_kind element,
                                          [[maybe_unused]] portable::selection_shape const& shape,
                                          [[maybe_unused]] detail::summary_tensor const& summary,
                                          [[maybe_unused]] std::int64_t few_queries)
{
    if (char const* const why = why_portable<Exec>()) return why;
#if defined(SPLA_HOPPER_KERNELS)
    return cuda::why_no_decode_selection<Metric>(Kokkos::device_id(), element, shape, summary, few_queries);
#else
    return "";
#endif
}
/// tokens: decoded ones of a step, at most.
template <class Exec, class Metric, class FeatureMap>
char const* why_portable_decode_attention([[maybe_unused]] problem const& p,
                                          [[maybe_unused]] options<Metric, FeatureMap> const& o,
                                          [[maybe_unused]] std::int64_t tokens)
{
    if (char const* const why = why_portable<Exec>()) return why;
#if defined(SPLA_HOPPER_KERNELS)
    return cuda::why_no_decode(Kokkos::device_id(), p, o, tokens);
#else
    return "";
#endif
}
template <class Exec, class Metric, class FeatureMap>
char const* why_portable_exact([[maybe_unused]] problem const& p, [[maybe_unused]] options<Metric, FeatureMap> const& o,
                               [[maybe_unused]] bool has_workspace)
{
    if (char const* const why = why_portable<Exec>()) return why;
    if (!has_workspace) return "a stage without a workspace for what its tiles visit";
#if defined(SPLA_HOPPER_KERNELS)
    return cuda::why_no_exact_branch(Kokkos::device_id(), p, o);
#else
    return "";
#endif
}
template <class Exec, class Metric, class FeatureMap>
char const* why_portable_residual([[maybe_unused]] problem const& p,
                                  [[maybe_unused]] options<Metric, FeatureMap> const& o,
                                  [[maybe_unused]] bool has_workspace)
{
    if (char const* const why = why_portable<Exec>()) return why;
    if (!has_workspace) return "a stage without a workspace for keys' features";
#if defined(SPLA_HOPPER_KERNELS)
    return cuda::why_no_residual_branch(Kokkos::device_id(), p, o);
#else
    return "";
#endif
}

/// Does such a state hold features that were rounded to bf16?
template <class Exec, class FeatureMap>
bool rounds_features([[maybe_unused]] element_kind element, [[maybe_unused]] std::int64_t width,
                     [[maybe_unused]] std::int64_t value_dim, [[maybe_unused]] std::int64_t block)
{
#if defined(SPLA_HOPPER_KERNELS)
    if constexpr (is_cuda<Exec>)
        return cuda::rounds_features<FeatureMap>(Kokkos::device_id(), element, width, value_dim, block);
#endif
    return false;
}

} // namespace spla::backend
