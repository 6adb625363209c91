// SPDX-FileCopyrightText: The spla authors
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once
#include "built_widths.hpp"
#include "query_features.hpp"
#include "tile_union.hpp"

/// Sizes of the residual branch on Hopper, and what a block of threads keeps in shared memory.
namespace spla::cuda
{

inline constexpr int chunk_features = 64; ///< rows of a state that are read at once
inline constexpr int chunk_spacing = 4;   ///< key blocks from one such chunk to the next, so that it can be made ready

/// Width to which keys' features are padded with zeros, half by half.
constexpr int padded_width(int width, int value_dim)
{
    return is_narrow(width, value_dim) ? 64 : 128;
}

/// One launch: the tiles are those of the exact branch.
struct residual_shape
{
    exact_shape tiles;
    int width;   ///< of queries; features are that many, or two halves of that many
    bool direct; ///< what is not selected is summed, instead of what is selected subtracted
};

struct residual_arguments
{
    CUtensorMap features, value; ///< phi of the keys [batch, token, head, halves x padded width]; values
    detail::token_map features_map, value_map;
    detail::tensor<bfloat16 const> query;
    portable::linear_tensor<float> state;
    union_table unions;                ///< of the tiles
    detail::tensor<float const> base;  ///< rows phi(q) D of the tiles' bases; null where tiles read states
    detail::tensor<float const> exact; ///< finished rows of the exact branch, where there is an output of both
    portable::attention_outputs<bfloat16> out;
    residual_shape shape;
};

/// A tile as its warps see it.
struct residual_tile
{
    tile_place place;
    std::uint32_t idle[4]; ///< bit t % 32 of word t / 32: token t has no residual
    int state_end;         ///< the tile's state is that of the blocks before this one
    bool reads_state;
    bool visits; ///< any block
    bool fine;   ///< products are not rounded to 16 bits: most of what competes is selected
};

/// Whom a key block concerns, as the walk found it.
struct block_note
{
    std::uint32_t tokens[4]; ///< bit t % 32 of word t / 32: token t
    float sign;              ///< 1: what it adds is added to them; -1: subtracted
    int visits[2];           ///< is any token in the first, in the second warpgroup?
    int last;                ///< of the tile
};

/// Chunks of a state that are not all zeros.
inline __device__ int chunks_to_a_half(residual_shape const& shape)
{
    return (shape.width + chunk_features - 1) / chunk_features;
}

/// Rows of a tile's queries into the second-level cache, ahead of their turn. By one warp.
inline __device__ void fetch_queries(detail::tensor<bfloat16 const> const& query, tile_place const& t, int group,
                                     int width)
{
    int const rows = (t.end - t.begin) * group;
    for (int r = threadIdx.x % 32; r < rows; r += 32)
    {
        auto const* const row = reinterpret_cast<char const*>(
            query.row(t.sequence, t.begin - t.first_position + r / group, t.head * group + r % group));
#pragma unroll 1
        for (int byte = 0; byte < width * 2; byte += 128) fetch_line(row + byte);
    }
}

/// Shared memory of one block of threads.
template <int Halves, int Width>
struct residual_memory
{
    static constexpr int panels = Width / panel_width;
    static constexpr int feature_panels = Halves * panels;
    static constexpr int feature_stages = feature_panels == 4 ? 3 : 4;
    static constexpr int value_stages = 4;
    static constexpr int tiles = 2;

    std::uint16_t features[feature_stages][feature_panels][block_tokens][panel_width];
    std::uint16_t value[value_stages][panels][block_tokens][panel_width];
    std::uint16_t state[2][panels][chunk_features][panel_width]; ///< a chunk's upper and lower halves
    float raw_state[chunk_features * Width];                     ///< the next chunk
    block_note note[feature_stages];
    block_places places; ///< of the warp whose turn it is to load
    residual_tile tile[tiles];
    int steps; ///< loaded for all tiles before the next
    barrier tile_full[tiles], tile_free[tiles];
    barrier turn[2]; ///< of the two warps that load
    barrier features_full[feature_stages], features_free[feature_stages];
    barrier value_full[value_stages], value_free[value_stages];
    barrier state_full, state_free, raw_state_full;
};

} // namespace spla::cuda
