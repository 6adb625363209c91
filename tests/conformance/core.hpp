// SPDX-FileCopyrightText: The spla authors
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once
#include "runs.hpp"

// The core: what most tests use of spla and of this folder, for the default metric and feature map. It is compiled
// once, in the sources beside this header, and not again in each test. That is why the templates of this folder define
// their members out of the class: `extern template` holds for no others.
#define SPLA_TEST_CORE_RESULTS(how, Exec, Element, Out)                                                                \
    how template struct calls<Exec, Element, spla::options<>, Out>;                                                    \
    how template struct results<Exec, Element, Out>;                                                                   \
    how template void prefill_into(results<Exec, Element, Out> const&, data<Exec, Element> const&,                     \
                                   spla::options<> const&, Exec const&);                                               \
    how template void hold_selection(verdict&, data<Exec, Element> const&, results<Exec, Element, Out> const&,         \
                                     spla::options<> const&, spla::reference::matrix_rounding const&);                 \
    how template void hold_arithmetic(verdict&, data<Exec, Element> const&, results<Exec, Element, Out> const&,        \
                                      spla::options<> const&, spla::reference::matrix_rounding const&);

#define SPLA_TEST_CORE(how, Exec, Element)                                                                             \
    how template struct data<Exec, Element>;                                                                           \
    how template struct stepper<Exec, Element>;                                                                        \
    SPLA_TEST_CORE_RESULTS(how, Exec, Element, spla::accumulator_t<Element>)

// 16-bit elements: outputs of the inputs' own type too.
#define SPLA_TEST_NARROW_CORE(how, Exec, Element)                                                                      \
    SPLA_TEST_CORE(how, Exec, Element)                                                                                 \
    SPLA_TEST_CORE_RESULTS(how, Exec, Element, Element)

namespace spla_test
{
SPLA_TEST_CORE(extern, host, float)
SPLA_TEST_CORE(extern, host, double)
SPLA_TEST_NARROW_CORE(extern, host, spla::bfloat16)
SPLA_TEST_NARROW_CORE(extern, host, spla::float16)
#if defined(SPLA_TEST_HAS_DEVICE)
SPLA_TEST_CORE(extern, device, float)
SPLA_TEST_CORE(extern, device, double)
SPLA_TEST_NARROW_CORE(extern, device, spla::bfloat16)
SPLA_TEST_NARROW_CORE(extern, device, spla::float16)
#endif
#if defined(SPLA_TEST_HAS_SERIAL)
SPLA_TEST_CORE(extern, Kokkos::Serial, float)
#endif
} // namespace spla_test
