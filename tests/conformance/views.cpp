// SPDX-FileCopyrightText: The spla authors
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#include "views.hpp"

namespace spla_test
{
SPLA_TEST_ALL_COPIES(, host)
#if defined(SPLA_TEST_HAS_DEVICE)
SPLA_TEST_ALL_COPIES(, device)
#endif
} // namespace spla_test
