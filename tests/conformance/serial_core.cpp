// SPDX-FileCopyrightText: The spla authors
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#include "core.hpp"

namespace spla_test
{
#if defined(SPLA_TEST_HAS_SERIAL)
SPLA_TEST_CORE(, Kokkos::Serial, float)
#endif
} // namespace spla_test
