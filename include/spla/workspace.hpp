// SPDX-FileCopyrightText: The spla authors
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once
#include "plan.hpp"

namespace spla
{

/// Scratch bytes of one call, the caller's: at least plan.workspace_bytes, 256-byte aligned. One workspace may serve
/// any number of calls in the order of one execution space instance.
template <class MemorySpace>
using workspace = Kokkos::View<std::byte*, MemorySpace>;

/// Allocates the workspace of a plan once.
template <class Exec>
workspace<typename Exec::memory_space> make_workspace(Exec const& exec, plan const& p)
{
    return workspace<typename Exec::memory_space>(
        Kokkos::view_alloc(exec, Kokkos::WithoutInitializing, "spla::workspace"), p.workspace_bytes);
}

} // namespace spla
