// SPDX-FileCopyrightText: The spla authors
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once
#include <Kokkos_Core.hpp>

#include <algorithm>
#include <cstdint>
#include <vector>

/// Offsets, lengths and slots of a step, where its kernels read them.
namespace spla_bench
{

using step_numbers = Kokkos::View<std::int32_t*, Kokkos::CudaSpace>;

inline step_numbers numbers_of(std::vector<std::int64_t> const& values)
{
    step_numbers const made("numbers", values.size());
    auto const host = Kokkos::create_mirror_view(made);
    std::copy(values.begin(), values.end(), host.data());
    Kokkos::deep_copy(made, host);
    return made;
}

} // namespace spla_bench
