// SPDX-FileCopyrightText: The spla authors
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once
#include "feature_map.hpp"
#include "metric.hpp"

#include <optional>

namespace spla
{

/// Which queries share one list of selected blocks (spec: sharing). Tiles are aligned to T tokens of key position.
enum class sharing_kind
{
    per_token,   ///< every query has its own list
    first_query, ///< the tile's first query makes the list; causal, a decode step reproduces a prefill
    tile_sum     ///< masses are summed over the tile's queries; not causal, decode cannot reproduce it
};

struct sharing
{
    sharing_kind kind = sharing_kind::per_token;
    int tile = 1;        ///< T tokens; divides the block or is a multiple of it
    int score_every = 1; ///< tile_sum: every n-th query of the tile scores; the first of the call's if none would

    static constexpr sharing per_token() { return {}; }
    static constexpr sharing first_query(int tile) { return {sharing_kind::first_query, tile, 1}; }
    static constexpr sharing tile_sum(int tile, int score_every = 1)
    {
        return {sharing_kind::tile_sum, tile, score_every};
    }
};

/// How block summaries are stored.
enum class summary_storage
{
    automatic, ///< bf16 for 16-bit elements, fp32 otherwise
    bf16,
    fp32,
    int8 ///< symmetric, one fp32 scale max|x|/127 per vector, round to nearest even
};

/// How the residual branch is summed.
enum class residual_mode
{
    automatic, ///< subtract; with may_read_unselected, whichever reads fewer blocks
    subtract,  ///< state minus selected: unselected blocks are never read
    direct     ///< the unselected keys themselves (needs may_read_unselected); what subtract is tested against
};

/// How the two branches become one output.
enum class combination_kind
{
    rms_sum,    ///< w_s o_sparse / rms(o_sparse) + w_r R / rms(R)
    sum,        ///< w_s o_sparse + w_r R
    separate,   ///< both branches are returned; the output is not written
    sparse_only ///< the exact branch alone; no residual is computed
};

/// Everything that decides what SPLA computes. Plain values with defaults; Metric and FeatureMap are policies.
template <class Metric = taylor<diagonal>, class FeatureMap = softmax_pair>
struct options
{
    using metric_type = Metric;
    using feature_map_type = FeatureMap;

    std::optional<double> scale = {}; ///< logit scale s; 1/sqrt(head_dim) where empty
    int block = 64;                   ///< B, tokens in a key block
    int sink_blocks = 1;              ///< first blocks, always exact
    int local_blocks = 8;             ///< blocks before the own block, always exact
    int top_k = 54;                   ///< most selected blocks of a list
    double top_p = 1.0;               ///< in (0, 1): smallest number of blocks whose mass reaches this share; 1: off
    int kept_keys = Metric::default_kept_keys; ///< outlier keys kept as they are, per sub-block
    int sub_blocks = 1;                        ///< statistics per block; divides the block
    summary_storage storage = summary_storage::automatic;
    sharing share = {};
    residual_mode residual = residual_mode::automatic;
    bool may_read_unselected = false;
    bool normalised = false; ///< residual divided by phi(q) . sum phi(k) over the same keys
    combination_kind combine = combination_kind::rms_sum;
    double epsilon = 1e-6;     ///< of the root mean square
    int segment_tokens = 4096; ///< S: most tokens whose prefix states are kept at once
    FeatureMap feature_map = {};
    /// Checked mode: before its work, a call looks on the device at what it is given: lists of the caller's, and
    /// whether appended keys and values are finite. The first offence is thrown as a value_error that names its place
    /// and value. The host waits for it: not for a graph, and not for speed.
    bool checked = false;
};

/// Preset: twice the statistics, the closest to the oracle on real traces (spec section 8).
inline constexpr options<> high_fidelity()
{
    return {.sub_blocks = 2};
}

/// Preset: the paper's own metric, without kept keys.
inline constexpr options<> paper()
{
    return {.kept_keys = 0};
}

constexpr char const* name(sharing_kind kind)
{
    switch (kind)
    {
    case sharing_kind::per_token:
        return "per_token";
    case sharing_kind::first_query:
        return "first_query";
    case sharing_kind::tile_sum:
        break;
    }
    return "tile_sum";
}

constexpr char const* name(summary_storage storage)
{
    switch (storage)
    {
    case summary_storage::automatic:
        return "automatic";
    case summary_storage::bf16:
        return "bf16";
    case summary_storage::fp32:
        return "fp32";
    case summary_storage::int8:
        break;
    }
    return "int8";
}

/// The storage that `automatic` stands for.
constexpr summary_storage resolve(summary_storage storage, element_kind element)
{
    if (storage != summary_storage::automatic) return storage;
    bool const narrow = element == element_kind::bfloat16 || element == element_kind::float16;
    return narrow ? summary_storage::bf16 : summary_storage::fp32;
}

} // namespace spla
