// SPDX-FileCopyrightText: The spla authors
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once
#include "../spaces.hpp"

#include <spla/run_batch.hpp>

// The core of a step: its kernels for the default metric and feature map, compiled once, in step_core.cpp.
#define SPLA_TEST_STEP_CORE(how, Exec)                                                                                 \
    how template void run_step(Exec const&, batch_plan<float, options<>> const&, batch_call<float> const&);            \
    how template void load_kernels(Exec const&, batch_plan<float, options<>> const&);                                  \
    how template void validate_batch(char const*, Exec const&, batch_plan<float, options<>> const&,                    \
                                     batch_call<float> const&);

namespace spla::backend
{
SPLA_TEST_STEP_CORE(extern, spla_test::host)
#if defined(SPLA_TEST_HAS_DEVICE)
SPLA_TEST_STEP_CORE(extern, spla_test::device)
#endif
#if defined(SPLA_TEST_HAS_SERIAL)
SPLA_TEST_STEP_CORE(extern, Kokkos::Serial)
#endif
} // namespace spla::backend
