// SPDX-FileCopyrightText: The spla authors
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#include "core.hpp"

namespace spla_test
{
SPLA_TEST_CORE(, host, float)
#if defined(SPLA_TEST_HAS_DEVICE)
SPLA_TEST_CORE(, device, float)
#endif
} // namespace spla_test
