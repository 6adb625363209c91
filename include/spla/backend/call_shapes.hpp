// SPDX-FileCopyrightText: The spla authors
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once
#include "../problem.hpp"
#include "../sequence_state.hpp"
#include "portable/attention_shape.hpp"
#include "portable/selection_kernel.hpp"

#include <algorithm>
#include <cmath>
#include <cstdint>

/// From a call's sizes and options to what kernels want of them.
namespace spla::detail
{

/// Blocks that the call's keys touch: no list, and no walk over blocks, is longer.
inline std::int64_t blocks_of(problem const& p, int block)
{
    return ceil_divide(p.keys, block);
}

/// Entries of one list of the call's own: top_k, or all blocks where there are fewer; 1 at least.
template <class Metric, class FeatureMap>
std::int64_t list_capacity(problem const& p, options<Metric, FeatureMap> const& o)
{
    return std::max<std::int64_t>(1, std::min<std::int64_t>(o.top_k, blocks_of(p, o.block)));
}

/// What attention kernels need of sizes and options, all but the sequences and how they are split.
template <class Metric, class FeatureMap>
portable::attention_shape attention_shape_of(problem const& p, options<Metric, FeatureMap> const& o)
{
    portable::attention_shape s;
    s.key_heads = p.key_heads;
    s.group = static_cast<int>(p.group());
    s.width = static_cast<int>(p.head_dim);
    s.residual_width = static_cast<int>(p.residual_width());
    s.features = o.feature_map.features(s.residual_width);
    s.value_dim = static_cast<int>(p.value_dim);
    s.bounds = window_of(o);
    s.scale = o.scale.value_or(1.0 / std::sqrt(static_cast<double>(p.head_dim)));
    s.normalised = o.normalised;
    s.mode = o.residual;
    s.may_read_unselected = o.may_read_unselected;
    return s;
}

/// The same of selection; keys: the most of any sequence.
template <class Metric, class FeatureMap>
portable::selection_shape selection_shape_of(problem const& p, options<Metric, FeatureMap> const& o,
                                             sequence_table const& sequences)
{
    portable::selection_shape s;
    s.sequences = sequences;
    s.key_heads = p.key_heads;
    s.group = static_cast<int>(p.group());
    s.width = static_cast<int>(p.head_dim);
    s.bounds = window_of(o);
    s.share = o.share;
    s.top_k = o.top_k;
    s.kept = o.kept_keys;
    s.top_p = o.top_p;
    s.scale = o.scale.value_or(1.0 / std::sqrt(static_cast<double>(p.head_dim)));
    s.most_blocks = sequences.keys > 0 ? s.bounds.competing(sequences.keys - 1).count() : 0;
    return s;
}

/// What summaries are like, without their numbers.
template <class Metric, class FeatureMap>
summary_tensor summaries_of(problem const& p, options<Metric, FeatureMap> const& o)
{
    summary_tensor summary;
    summary.storage = resolve(o.storage, p.element);
    summary.head_dim = p.head_dim, summary.key_heads = p.key_heads;
    summary.sub_blocks = o.sub_blocks;
    summary.vectors = 1 + Metric::covariance_vectors(static_cast<int>(p.head_dim)) + o.kept_keys;
    return summary;
}

} // namespace spla::detail
