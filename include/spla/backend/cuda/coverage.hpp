// SPDX-FileCopyrightText: The spla authors
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once
#include "../../options.hpp"
#include "../../problem.hpp"
#include "decode_selection.hpp"
#include "device.hpp"
#include "exact_shape.hpp"
#include "key_features.hpp"
#include "residual_shape.hpp"
#include "selection.hpp"

#include <limits>

/// Which calls the Hopper kernels take, and why not the others: each function names a reason, or returns null where its
/// stage runs on matrix units.
namespace spla::cuda
{

inline char const* why_not_here(int device)
{
    return has_hopper_code(device) ? nullptr : "not a Hopper GPU, or a program that was not built for sm_90a";
}

/// What both branches ask of sizes, the widths of their rows apart.
template <class Metric, class FeatureMap>
char const* why_no_tiles(problem const& p, options<Metric, FeatureMap> const& o)
{
    if (o.block != block_tokens) return "blocks of other than 64 tokens";
    if (p.group() > tile_rows) return "more than 128 query heads to a key head";
    std::int64_t const tokens = tile_rows / p.group();
    std::int64_t const items = p.batch * p.key_heads * (p.queries / tokens + 2);
    if (p.keys > std::numeric_limits<int>::max() / 2 || items > std::numeric_limits<int>::max() / 2)
        return "more tokens than an int counts";
    return p.keys == 0 ? "no keys" : nullptr;
}
inline char const* why_no_copies(std::int64_t width, std::int64_t value_dim)
{
    return width % 8 != 0 || value_dim % 8 != 0 ? "heads not of whole 16 bytes" : nullptr;
}
inline char const* why_no_rows(std::int64_t width, std::int64_t value_dim)
{
    if (width > 128 || value_dim > 128) return "heads wider than 128";
    return why_no_copies(width, value_dim);
}
/// The exact branch alone has kernels for wider ones.
inline char const* why_no_exact_rows(std::int64_t width, std::int64_t value_dim)
{
    if (width > 256 || value_dim > 256) return "heads wider than 256";
    if (!has_wide_kernels && (width > 128 || value_dim > 128))
        return "heads wider than 128, in a program built for those (SPLA_HOPPER_WIDTH_128)";
    return why_no_copies(width, value_dim);
}

template <class Metric, class FeatureMap>
char const* why_no_exact_branch(int device, problem const& p, options<Metric, FeatureMap> const& o)
{
    if (p.element != element_kind::bfloat16 && p.element != element_kind::float16) return "elements of 32 or 64 bits";
    if (char const* const why = why_no_exact_rows(p.head_dim, p.value_dim)) return why;
    if (char const* const why = why_no_tiles(p, o)) return why;
    if (o.scale && *o.scale <= 0) return "a logit scale that is not positive";
    return why_not_here(device);
}

template <class Metric, class FeatureMap>
char const* why_no_residual_branch(int device, problem const& p, options<Metric, FeatureMap> const& o)
{
    if (p.element != element_kind::bfloat16) return "elements other than bf16";
    if (feature_halves<FeatureMap> == 0) return "a feature map of the user's own";
    if (char const* const why = why_no_rows(p.residual_width(), p.value_dim)) return why;
    if (char const* const why = why_no_tiles(p, o)) return why;
    if (o.may_read_unselected) return "unselected keys may be summed directly";
    return why_not_here(device);
}

/// Are such a problem's key features rounded to bf16, so that the state and what is subtracted from it agree on every
/// kernel? A matter of the keys alone: calls of any number of query heads share a state.
template <class FeatureMap>
bool rounds_features(int device, element_kind element, std::int64_t width, std::int64_t value_dim, std::int64_t block)
{
    return element == element_kind::bfloat16 && feature_halves<FeatureMap> > 0 && !why_no_rows(width, value_dim) &&
           block == block_tokens && !why_not_here(device);
}

/// has_room: the call has memory for summaries that matrix units cannot take as they are.
template <class Metric>
char const* why_no_selection(int device, element_kind element, portable::selection_shape const& shape,
                             detail::summary_tensor const& summary, bool has_room)
{
    if (!scores_on_matrix_units<Metric>) return "a metric that is not a product with means and variances";
    if (element != element_kind::bfloat16) return "elements other than bf16";
    if (summary.storage == summary_storage::fp32) return "summaries in fp32";
    if (summary.storage == summary_storage::int8 && !has_room) return "8-bit summaries in a call that keeps no copy";
    if (char const* const why = why_no_rows(shape.width, 8)) return why;
    if (shape.kept > 1) return "more than one kept key";
    if (shape.scale <= 0) return "a logit scale that is not positive";
    if (shape.group > tile_rows) return "more than 128 query heads to a key head";
    std::int64_t const most = std::numeric_limits<int>::max() / 2, keys = shape.sequences.keys;
    std::int64_t const lists = tile_count(shape.sequences.queries, keys, shape.bounds.tile);
    if (keys > most || shape.sequences.count * shape.key_heads * (lists + 1) > most)
        return "more tokens than an int counts";
    selection_sizes s = selection_sizes_of(shape, summary.sub_blocks, summary.vectors);
    if (!(is_narrow(shape.width, 0) ? fit<64>(s) : fit<128>(s))) return "lists too long for shared memory";
    return why_not_here(device);
}

/// Why such a step's decoded tokens are selected for by the portable kernel; null where they are not.
template <class Metric>
char const* why_no_decode_selection(int device, element_kind element, portable::selection_shape const& shape,
                                    detail::summary_tensor const& summary, std::int64_t few_queries)
{
    if (!scores_on_matrix_units<Metric>) return "a metric that is not a product with means and variances";
    if (element != element_kind::bfloat16) return "elements other than bf16";
    if (summary.storage == summary_storage::fp32) return "summaries in fp32";
    if (shape.share.kind == sharing_kind::tile_sum) return "lists summed over a tile's queries";
    if (shape.kept > 1) return "more than one kept key";
    if (summary.sub_blocks > 1) return "summaries of sub-blocks";
    if (shape.width > most_decode_width) return "heads wider than 128";
    if (shape.width % 8 != 0) return "heads not of whole 16 bytes";
    if (shape.group > most_queries) return "more than 64 query heads to a key head";
    if (shape.scale <= 0) return "a logit scale that is not positive";
    std::int64_t const most = std::numeric_limits<int>::max() / 2;
    if (shape.sequences.keys > most) return "more tokens than an int counts";
    auto const s = decode_selection_sizes_of<Metric>(shape, summary.vectors, few_queries);
    if (s.most_panels > most || s.most_rows > most) return "more blocks than an int counts";
    if (decode_selection_memory::bytes(s) > most_shared_bytes) return "contexts too long for shared memory";
    return why_not_here(device);
}

} // namespace spla::cuda
