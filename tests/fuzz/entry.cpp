// SPDX-FileCopyrightText: The spla authors
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
// One target as libFuzzer calls it: compiled once for each, SPLA_FUZZ_TARGET.
#include "targets.hpp"

#include <Kokkos_Core.hpp>

extern "C" int LLVMFuzzerInitialize(int* count, char*** arguments)
{
    Kokkos::initialize(*count, *arguments);
    std::atexit([] { Kokkos::finalize(); });
    return 0;
}

extern "C" int LLVMFuzzerTestOneInput(std::uint8_t const* data, std::size_t size)
{
    spla_fuzz::SPLA_FUZZ_TARGET(data, size);
    return 0;
}
