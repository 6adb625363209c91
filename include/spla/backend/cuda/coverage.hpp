// SPDX-FileCopyrightText: The spla authors
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once
#include "../../options.hpp"
#include "../../problem.hpp"
#include "device.hpp"
#include "exact_shape.hpp"

#include <limits>

/// Which calls the Hopper kernels take, and why not the others.
namespace spla::cuda
{

/// Why the exact branch of such a call does not run on matrix units; null where it does.
template <class Metric, class FeatureMap>
char const* why_not_hopper(int device, problem const& p, options<Metric, FeatureMap> const& o)
{
    if (p.element != element_kind::bfloat16 && p.element != element_kind::float16) return "elements of 32 or 64 bits";
    if (o.block != block_tokens) return "blocks of other than 64 tokens";
    if (p.head_dim > 128 || p.value_dim > 128) return "heads wider than 128";
    if (p.head_dim % 8 != 0 || p.value_dim % 8 != 0) return "heads not of whole 16 bytes";
    if (p.group() > tile_rows) return "more than 128 query heads to a key head";
    if (o.scale && *o.scale <= 0) return "a logit scale that is not positive";
    std::int64_t const tokens = tile_rows / p.group();
    std::int64_t const items = p.batch * p.key_heads * (p.queries / tokens + 2);
    if (p.keys > std::numeric_limits<int>::max() / 2 || items > std::numeric_limits<int>::max() / 2)
        return "more tokens than an int counts";
    if (p.keys == 0) return "no keys";
    if (!has_hopper_code(device)) return "not a Hopper GPU, or a program that was not built for sm_90a";
    return nullptr;
}

} // namespace spla::cuda
