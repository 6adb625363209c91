// SPDX-FileCopyrightText: The spla authors
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once
#include "algorithm/rule_checker.hpp"
#include "options.hpp"
#include "problem.hpp"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <optional>

namespace spla
{

namespace detail
{
/// Rules on the options alone: what calls that have no keys can be held to.
template <class Metric, class FeatureMap>
void require_options(rule_checker& c, options<Metric, FeatureMap> const& o)
{
    auto const value = rule_kind::value;
    c.require(!o.scale || std::isfinite(*o.scale), value, "scale", o.scale.value_or(0.0), "a finite number");
    c.require(o.block >= 1 && o.block <= 1024, value, "block", o.block, "1 to 1024");
    c.require(o.sink_blocks >= 0, value, "sink_blocks", o.sink_blocks, "0 or more");
    c.require(o.local_blocks >= 0, value, "local_blocks", o.local_blocks, "0 or more");
    c.require(o.top_k >= 0, value, "top_k", o.top_k, "0 or more");
    c.require(o.top_p > 0.0 && o.top_p <= 1.0, value, "top_p", o.top_p, "above 0, at most 1 (1: off)");
    c.require(o.sub_blocks >= 1 && o.block % (o.sub_blocks > 0 ? o.sub_blocks : 1) == 0, value, "sub_blocks",
              o.sub_blocks, phrase{"a divisor of the block, ", o.block});
    if (!c.found())
        c.require(o.kept_keys >= 0 && o.kept_keys < o.block / o.sub_blocks, value, "kept_keys", o.kept_keys,
                  phrase{"0 to ", o.block / o.sub_blocks - 1, " (fewer than the keys of a sub-block)"});
    if (Metric::reads_keys)
    {
        c.require(o.kept_keys == 0, value, "kept_keys", o.kept_keys, "0 with exact_mass, which keeps no summary");
        c.require(o.sub_blocks == 1, value, "sub_blocks", o.sub_blocks, "1 with exact_mass, which keeps no summary");
    }
    int const tile = o.share.tile;
    c.require(tile >= 1, value, "share.tile", tile, "1 or more");
    if (!c.found())
    {
        c.require(o.share.kind != sharing_kind::per_token || tile == 1, value, "share.tile", tile, "1 with per_token");
        c.require(o.block % tile == 0 || tile % o.block == 0, value, "share.tile", tile,
                  phrase{"a divisor or a multiple of the block, ", o.block});
    }
    c.require(o.share.score_every >= 1, value, "share.score_every", o.share.score_every, "1 or more");
    c.require(o.share.score_every == 1 || o.share.kind == sharing_kind::tile_sum, value, "share.score_every",
              o.share.score_every, "1 unless the sharing is tile_sum");
    c.require(o.residual != residual_mode::direct || o.may_read_unselected, value, "residual", "direct",
              "automatic or subtract, unless may_read_unselected");
    c.require(o.epsilon >= 0.0 && std::isfinite(o.epsilon), value, "epsilon", o.epsilon, "0 or more");
    c.require(o.segment_tokens >= o.block && o.segment_tokens >= tile, value, "segment_tokens", o.segment_tokens,
              "at least the block and the sharing tile");
}

/// Rules on the sizes alone.
inline void require_sizes(rule_checker& c, problem const& p)
{
    auto const shape = rule_kind::shape;
    auto const unsupported = rule_kind::unsupported;
    c.require(p.batch >= 0, shape, "batch", p.batch, "0 or more");
    c.require(p.queries >= 0, shape, "queries", p.queries, "0 or more");
    c.require(p.keys >= 0, shape, "keys", p.keys, "0 or more");
    c.require(p.query_heads >= 1, shape, "query_heads", p.query_heads, "1 or more");
    c.require(p.key_heads >= 1, shape, "key_heads", p.key_heads, "1 or more");
    if (!c.found())
        c.require(p.query_heads % p.key_heads == 0, shape, "query_heads", p.query_heads,
                  phrase{"a multiple of the ", p.key_heads, " key heads"});
    c.require(p.key_heads < 1 || p.query_heads / p.key_heads <= 1024, unsupported, "query heads per key head",
              p.group(), "at most 1024");
    c.require(p.head_dim >= 1 && p.head_dim <= 1024, unsupported, "head_dim", p.head_dim, "1 to 1024");
    c.require(p.value_dim >= 1 && p.value_dim <= 1024, unsupported, "value_dim", p.value_dim, "1 to 1024");
    c.require(p.residual_dim >= 0 && p.residual_dim <= 1024, unsupported, "residual_dim", p.residual_dim,
              "0 (head_dim) to 1024");
}
} // namespace detail

namespace detail
{
/// At least as many numbers as any tensor, state or workspace of such a call has: they must be counted in 64 bits.
template <class Metric, class FeatureMap>
double most_numbers(problem const& p, options<Metric, FeatureMap> const& o, int features)
{
    auto const number = [](auto n) { return static_cast<double>(n); };
    double const width = number(std::max({p.head_dim, p.value_dim, p.residual_dim, std::int64_t{16}}));
    double const tokens = number(p.queries) + number(p.keys) + number(o.segment_tokens) + number(o.block);
    double const blocks = number(p.keys / o.block) + 1;
    double const segment = number(o.segment_tokens / o.block) + number(o.share.tile / o.block) + 2;
    double const vectors =
        o.sub_blocks * (1.0 + Metric::covariance_vectors(static_cast<int>(p.head_dim)) + o.kept_keys);
    double const heads = number(std::max<std::int64_t>(p.batch, 1)) * number(p.query_heads);
    double const runs = blocks / 8 + 2; // of a decode step, which has a partial row for each
    return heads * std::max({tokens * width, blocks * vectors * width, segment * features * 2 * width,
                             tokens * std::min(number(o.top_k) + 1, blocks),
                             std::min(number(p.queries), number(o.segment_tokens)) * runs * (4 + 2 * width)});
}
} // namespace detail

/// The first rule that sizes and options violate, or nothing. Pure: no launch, no allocation of device memory. Entry
/// points throw what this returns, and further rules on their views, state, workspace and kernels: each call has its
/// own check_<call>() that returns the first of all.
template <class Metric, class FeatureMap>
std::optional<violation> check(problem const& p, options<Metric, FeatureMap> const& o, char const* call = "check")
{
    detail::rule_checker c(call);
    detail::require_sizes(c, p);
    detail::require_options(c, o);
    if (!c.found())
    {
        std::int64_t const limit = std::int64_t{1} << 31;
        if (p.element != element_kind::float64)
        {
            // Kernels take them in fp32.
            c.require(std::isfinite(static_cast<float>(o.scale.value_or(0.0))), rule_kind::value, "scale",
                      o.scale.value_or(0.0), "a number that is finite in fp32");
            c.require(std::isfinite(static_cast<float>(o.epsilon)), rule_kind::value, "epsilon", o.epsilon,
                      "a number that is finite in fp32");
        }
        int const features = o.feature_map.features(static_cast<int>(p.residual_width()));
        c.require(features >= 1 && features <= 4096, rule_kind::unsupported, "feature_map.features()", features,
                  "1 to 4096");
        c.require(p.keys < limit * o.block, rule_kind::unsupported, "keys", p.keys, "fewer than 2^31 blocks");
        double const numbers = detail::most_numbers(p, o, features);
        c.require(numbers < 0x1p58, rule_kind::unsupported, "numbers of one tensor, state or workspace", numbers,
                  "below 2^58");
    }
    return c.found();
}

} // namespace spla
