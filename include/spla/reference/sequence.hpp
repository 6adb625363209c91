// SPDX-FileCopyrightText: The spla authors
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once
#include "../algorithm/causal_bounds.hpp"
#include "../problem.hpp"

#include <Eigen/Dense>

#include <cmath>
#include <cstdint>
#include <vector>

/// The truth that kernels are held against: the definitions of SPLA as plain loops in double over Eigen matrices, one
/// sequence at a time, knowing nothing of the kernels' identities (explicit sums over unselected blocks).
namespace spla::reference
{

using matrix = Eigen::MatrixXd;
using vector = Eigen::VectorXd;

/// One sequence: per query head [L, D], per key head [M, D] and [M, Dv].
struct sequence
{
    std::vector<matrix> query, key, value, residual_query, residual_key;

    std::int64_t queries() const { return query.front().rows(); }
    std::int64_t keys() const { return key.front().rows(); }
    int group() const { return static_cast<int>(query.size() / key.size()); }
    std::int64_t position(std::int64_t i) const { return i + keys() - queries(); }
};

/// Ascending selected blocks by [tile][key head]; tiles as spla::tile_count() counts them.
using lists = std::vector<std::vector<std::vector<int>>>;

template <class Metric, class FeatureMap>
double scale_of(sequence const& s, options<Metric, FeatureMap> const& o)
{
    return o.scale.value_or(1.0 / std::sqrt(static_cast<double>(s.query.front().cols())));
}

/// First competing block and the one after the last, of the list of tile number t (position / T).
template <class Metric, class FeatureMap>
std::pair<int, int> competing_blocks(std::int64_t first_query_position, options<Metric, FeatureMap> const& o)
{
    if (first_query_position < 0) return {0, 0};
    int const own = static_cast<int>(first_query_position / o.block);
    return {o.sink_blocks, std::max(o.sink_blocks, own - o.local_blocks)};
}

/// Position of the first query of the tile of position p, whether or not a call holds it.
template <class Metric, class FeatureMap>
std::int64_t tile_begin(std::int64_t p, options<Metric, FeatureMap> const& o)
{
    std::int64_t const t = o.share.kind == sharing_kind::per_token ? 1 : o.share.tile;
    std::int64_t begin = p;
    while (begin % t != 0) --begin;
    return begin;
}

} // namespace spla::reference
