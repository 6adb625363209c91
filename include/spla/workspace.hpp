// SPDX-FileCopyrightText: The spla authors
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once
#include "plan.hpp"

#include <cstddef>
#include <type_traits>

namespace spla
{

/// Scratch bytes of one call, the caller's: at least plan.workspace_bytes, aligned to buffer_alignment. One workspace
/// may serve any number of calls in the order of one execution space instance.
template <class MemorySpace>
using workspace = Kokkos::View<std::byte*, MemorySpace>;

namespace detail
{
template <class Workspace>
inline constexpr bool is_workspace =
    Kokkos::is_view_v<Workspace>&& Workspace::rank() == 1 && std::is_same_v<typename Workspace::value_type, std::byte>;
} // namespace detail

/// Allocates the workspace of a plan once.
template <class Exec>
workspace<typename Exec::memory_space> make_workspace(Exec const& exec, plan const& p)
{
    return workspace<typename Exec::memory_space>(
        Kokkos::view_alloc(exec, Kokkos::WithoutInitializing, "spla::workspace"), p.workspace_bytes);
}

} // namespace spla
