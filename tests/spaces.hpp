// SPDX-FileCopyrightText: The spla authors
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once
#include <Kokkos_Core.hpp>

#include <tuple>

namespace spla_test
{
using host = Kokkos::DefaultHostExecutionSpace;

#if defined(KOKKOS_ENABLE_CUDA)
#define SPLA_TEST_HAS_DEVICE
using device = Kokkos::Cuda;
#elif defined(KOKKOS_ENABLE_HIP)
#define SPLA_TEST_HAS_DEVICE
using device = Kokkos::HIP;
#endif

// One host space, and the GPU where there is one. Host spaces instantiate the same kernels from the same source, and
// compiling them is most of what the suite costs: where a test varies only the metric, the feature map or the element
// type, a second host space would compile all of it again and could find nothing that the first does not.
#if defined(SPLA_TEST_HAS_DEVICE)
using host_and_device = std::tuple<host, device>;
#else
using host_and_device = std::tuple<host>;
#endif

// Every space: for the core (fp32, default metric and feature map), where teams, scratch and instances of each are
// tried.
#if defined(KOKKOS_ENABLE_SERIAL) && (defined(KOKKOS_ENABLE_OPENMP) || defined(KOKKOS_ENABLE_THREADS))
#define SPLA_TEST_HAS_SERIAL // beside another host space
using spaces = decltype(std::tuple_cat(std::tuple<Kokkos::Serial>(), host_and_device()));
#else
using spaces = host_and_device;
#endif
} // namespace spla_test
