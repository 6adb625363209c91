// SPDX-FileCopyrightText: The spla authors
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#include "step_core.hpp"

namespace spla::backend
{
SPLA_TEST_STEP_CORE(, spla_test::host)
#if defined(SPLA_TEST_HAS_DEVICE)
SPLA_TEST_STEP_CORE(, spla_test::device)
#endif
#if defined(SPLA_TEST_HAS_SERIAL)
SPLA_TEST_STEP_CORE(, Kokkos::Serial)
#endif
} // namespace spla::backend
