// SPDX-FileCopyrightText: The spla authors
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once
#include "lanes_scalar.hpp"

/// lanes<T, N>: a pack of numbers that a CPU core handles with one instruction, and the few functions that feature maps
/// and kernels need, for packs and scalars alike. GCC and Clang vector extensions where the compiler has them for the
/// host; plain arrays elsewhere (nvcc, hipcc), same results up to rounding.
#if defined(__GNUC__) && !defined(__CUDACC__) && !defined(__HIPCC__) && !defined(SPLA_NO_VECTOR_EXTENSIONS)
#include "lanes_vector.hpp"
#else
#include "lanes_array.hpp"
#endif
