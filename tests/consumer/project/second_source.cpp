// SPDX-FileCopyrightText: The spla authors
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
// The same headers in a second source of the same program: nothing may be defined twice.
#if __has_include(<spla/spla.hpp>)
#include <spla/spla.hpp>
#else
#include <spla/sequence_state.hpp>
#endif
#if defined(CONSUMER_HAS_REFERENCE) && __has_include(<spla/reference/reference.hpp>)
#include <spla/reference/reference.hpp>
#endif

int second_source() { return 0; }
