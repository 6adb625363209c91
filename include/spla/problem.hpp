// SPDX-FileCopyrightText: The spla authors
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once
#include "element_types.hpp"

#include <cstdint>

namespace spla
{

/// Sizes of one call, named once.
struct problem
{
    std::int64_t batch = 1;
    std::int64_t queries = 0;      ///< L: query tokens of this call
    std::int64_t keys = 0;         ///< M: key tokens so far, those of this call included
    std::int64_t query_heads = 1;  ///< Hq
    std::int64_t key_heads = 1;    ///< Hk, a divisor of Hq
    std::int64_t head_dim = 64;    ///< D
    std::int64_t value_dim = 64;   ///< Dv
    std::int64_t residual_dim = 0; ///< width of the residual branch's own queries and keys; 0: head_dim
    element_kind element = element_kind::float32;

    constexpr std::int64_t group() const { return key_heads > 0 ? query_heads / key_heads : 0; }
    constexpr std::int64_t residual_width() const { return residual_dim > 0 ? residual_dim : head_dim; }
};

} // namespace spla
