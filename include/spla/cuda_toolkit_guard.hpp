// SPDX-FileCopyrightText: The spla authors
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once
// Refuses toolkits that would compile spla into silently wrong kernels. spla's CMake package applies each cure by
// itself; these messages are for builds that add only the include directory.
#if defined(__CUDACC__) && defined(__cplusplus) && __cplusplus < 202002L
#error "spla needs C++20: give nvcc -std=c++20 (CMake before 3.26 does not pass it to CUDA 13)"
#endif

#include <Kokkos_Core.hpp>

// nvcc 12.9 and 13 place [[no_unique_address]] members differently on host and device: every View passed to a kernel
// would be read from wrong offsets. mdspan turns the attribute off by itself from Kokkos 5.0 on.
#if defined(__NVCC__) && (__CUDACC_VER_MAJOR__ * 100 + __CUDACC_VER_MINOR__ >= 1209) &&                                \
    !defined(KOKKOS_ENABLE_IMPL_VIEW_LEGACY) && defined(MDSPAN_IMPL_USE_ATTRIBUTE_NO_UNIQUE_ADDRESS) &&                \
    !defined(MDSPAN_IMPL_USE_FAKE_ATTRIBUTE_NO_UNIQUE_ADDRESS)
#if MDSPAN_IMPL_USE_ATTRIBUTE_NO_UNIQUE_ADDRESS
#error                                                                                                                 \
    "spla: this nvcc lays Kokkos views out differently on host and device, so kernels would read wrong arguments. Compile with -DMDSPAN_IMPL_USE_ATTRIBUTE_NO_UNIQUE_ADDRESS=0, or use Kokkos 5.0 or a Kokkos built with Kokkos_ENABLE_IMPL_VIEW_LEGACY=ON"
#endif
#endif
