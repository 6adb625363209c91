// SPDX-FileCopyrightText: The spla authors
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#include "twin.hpp"

namespace spla_test
{
template class engine<host>;
template class twin<host>;
#if defined(SPLA_TEST_HAS_DEVICE)
template class engine<device>;
template class twin<device>;
#endif
#if defined(SPLA_TEST_HAS_SERIAL)
template class engine<Kokkos::Serial>;
template class twin<Kokkos::Serial>;
#endif
} // namespace spla_test
