// SPDX-FileCopyrightText: The spla authors
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#include "core.hpp"

namespace spla_test
{
SPLA_TEST_NARROW_CORE(, host, spla::bfloat16)
#if defined(SPLA_TEST_HAS_DEVICE)
SPLA_TEST_NARROW_CORE(, device, spla::bfloat16)
#endif
} // namespace spla_test
