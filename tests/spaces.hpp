// SPDX-FileCopyrightText: The spla authors
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once
#include <Kokkos_Core.hpp>

#include <tuple>
#include <type_traits>
#include <utility>

namespace spla_test
{
// Every execution space that this Kokkos was built with: conformance tests run on each.
using spaces = decltype(std::tuple_cat(std::declval<std::tuple<>>()
#if defined(KOKKOS_ENABLE_SERIAL)
                                           ,
                                       std::declval<std::tuple<Kokkos::Serial>>()
#endif
#if defined(KOKKOS_ENABLE_OPENMP)
                                           ,
                                       std::declval<std::tuple<Kokkos::OpenMP>>()
#endif
#if defined(KOKKOS_ENABLE_CUDA)
                                           ,
                                       std::declval<std::tuple<Kokkos::Cuda>>()
#endif
#if defined(KOKKOS_ENABLE_HIP)
                                           ,
                                       std::declval<std::tuple<Kokkos::HIP>>()
#endif
                                           ));
} // namespace spla_test
