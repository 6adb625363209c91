// SPDX-FileCopyrightText: The spla authors
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#if __has_include(<spla/spla.hpp>)
#include <spla/spla.hpp>
#else
#include <spla/sequence_state.hpp>
#include <spla/version.hpp>
#endif

#include <Kokkos_Core.hpp>

#include <cstdio>

int second_source();

int main(int count, char* arguments[])
{
#if defined(KOKKOS_ENABLE_CUDA)
    int devices = 0;
    if (cudaGetDeviceCount(&devices) != cudaSuccess || devices == 0) return 77;
#endif
    Kokkos::ScopeGuard const kokkos(count, arguments);
    std::printf("spla %d.%d.%d\n", SPLA_VERSION_MAJOR, SPLA_VERSION_MINOR, SPLA_VERSION_PATCH);
    return second_source();
}
