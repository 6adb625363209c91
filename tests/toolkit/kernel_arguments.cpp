// SPDX-FileCopyrightText: The spla authors
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#include <Kokkos_Core.hpp>

#include <cstdio>

// Kernels whose one argument holds views as spla's kernels do, and their sizes as the host sees them.
using flat = Kokkos::View<float*, Kokkos::CudaSpace>;
using scratch = Kokkos::View<float*, Kokkos::CudaSpace, Kokkos::MemoryTraits<Kokkos::Unmanaged>>;
using strided = Kokkos::View<float****, Kokkos::LayoutStride, Kokkos::CudaSpace>;
using packed = Kokkos::View<float const****, Kokkos::LayoutRight, Kokkos::CudaSpace>;

struct several
{
    flat first;
    strided second;
    int number;
    scratch third;
    packed fourth;
};

extern "C" __global__ void take_flat(flat) {}
extern "C" __global__ void take_scratch(scratch) {}
extern "C" __global__ void take_strided(strided) {}
extern "C" __global__ void take_packed(packed) {}
extern "C" __global__ void take_several(several) {}

int main()
{
    std::printf("take_flat %zu\ntake_scratch %zu\ntake_strided %zu\ntake_packed %zu\ntake_several %zu\n", sizeof(flat),
                sizeof(scratch), sizeof(strided), sizeof(packed), sizeof(several));
}
