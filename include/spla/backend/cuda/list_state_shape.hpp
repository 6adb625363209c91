// SPDX-FileCopyrightText: The spla authors
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once
#include "residual_shape.hpp"

/// Sizes of the residual branch in state form, for lists that all tokens of a tile share, and what a block of threads
/// keeps in shared memory.
///
/// A list's item: what it selects is summed once, S = sum of phi(K_b)^T V_b, kept transposed in accumulators (a row is
/// a value column, a column a feature), and D = the prefix state - S is multiplied by phi of all its tokens' rows.
namespace spla::cuda
{

struct list_state_arguments : residual_arguments ///< its tiles are those of the lists; boxes of its maps are stages
{
    exact_shape rows;            ///< tiles of at most tile_rows rows, none of which crosses a list's tile
    CUtensorMap running, prefix; ///< states [number, half, width, value_dim], in boxes of state_columns x padded width
};

inline constexpr int state_columns = 32; ///< of a box of a state: rows of 128 bytes, swizzled

/// A list as the warps that multiply see it.
struct list_item
{
    tile_place place;
    int blocks; ///< selected ones
    bool works; ///< its rows are not zero by construction
};

/// Shared memory of one block of threads.
template <int Halves, int Width>
struct list_state_memory
{
    static constexpr int panels = Width / panel_width;
    static constexpr int feature_panels = Halves * panels;
    static constexpr int stage_keys = feature_panels == 4 ? 32 : 64; ///< small enough for copies to run well ahead
    static constexpr int stages = feature_panels == 4 || panels == 2 ? 4 : 6;
    static constexpr int stages_a_block = block_tokens / stage_keys;
    static constexpr int items = 2;

    // Value columns by features that a warpgroup sums: 64 by `summed`. Of wide values each takes a half; of narrow ones
    // each takes a half of the features, or where those are a panel only, the first takes all.
    static constexpr int summed = Width == 128 ? Halves * Width : panel_width;
    static constexpr int summing_warps = feature_panels == 1 ? 4 : 8;

    struct stage
    {
        std::uint16_t features[feature_panels][stage_keys][panel_width];
        std::uint16_t value[panels][stage_keys][panel_width];
    };
    stage loaded[stages];
    static constexpr int state_boxes = Halves * (Width / state_columns);
    union
    {
        float state[state_boxes][Width][state_columns];                  ///< the prefix state, half by half
        std::uint16_t difference[2][feature_panels][Width][panel_width]; ///< upper and lower halves of D, transposed
    };
    list_item item[items];
    barrier item_full[items], item_free[items];
    barrier full[stages], free[stages];
    barrier state_full, difference_full, difference_free;
};

/// Does such a list cost less in state form? F Dv / (F + Dv) rows are where products of a block are as many in both
/// (spec section 4; F and Dv are what matrix units see of them). Measured, it is 150 rows where that says 85: a list's
/// state waits for its blocks, for its prefix state and to be written; tokens' products hide all that.
constexpr bool pays_in_state_form(std::int64_t rows, int halves, int padded)
{
    std::int64_t const features = static_cast<std::int64_t>(halves) * padded;
    return 4 * rows * (features + padded) > 7 * features * padded;
}

} // namespace spla::cuda
