// SPDX-FileCopyrightText: The spla authors
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#if __has_include(<catch2/catch_session.hpp>)
#include <catch2/catch_session.hpp>
#else
#define CATCH_CONFIG_RUNNER
#include <catch2/catch.hpp>
#endif

#include <Kokkos_Core.hpp>

#include <cstdio>

/// What ctest takes for "skipped".
constexpr int skipped = 77;

bool has_device()
{
    int devices = 1;
#if defined(KOKKOS_ENABLE_CUDA)
    if (cudaGetDeviceCount(&devices) != cudaSuccess) devices = 0;
#elif defined(KOKKOS_ENABLE_HIP)
    if (hipGetDeviceCount(&devices) != hipSuccess) devices = 0;
#endif
    return devices > 0;
}

int main(int count, char* arguments[])
{
    if (!has_device())
    {
        std::puts("not run: this build's GPU backend finds no device");
        return skipped;
    }
    Kokkos::ScopeGuard const kokkos(count, arguments);
    return Catch::Session().run(count, arguments) == 0 ? 0 : 1;
}
