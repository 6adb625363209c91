// SPDX-FileCopyrightText: The spla authors
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once
#include "../../view_concepts.hpp"
#include "built_widths.hpp"
#include "launch.hpp"
#include "matrix_product.hpp"
#include "row_features.hpp"
#include "row_pieces.hpp"

#include <algorithm>

/// Features phi(k) of keys, rounded once to bf16, as matrix units read them (spec section 4).
namespace spla::cuda
{

/// Features [batch, token, head, half, padded_width] of tokens of each sequence: zeros from the keys' width on. Of
/// variable lengths they lie one sequence after the other, in a batch of one, where `map` says. 16-byte aligned.
struct feature_tensor
{
    bfloat16* data = nullptr;
    std::int64_t batch = 0, tokens = 0, heads = 0;
    std::int64_t first = 0; ///< token of each sequence that the first ones here are of
    int padded_width = 64;  ///< 64 or 128
    int halves = 1;
    detail::token_map map;

    KOKKOS_FUNCTION int row_numbers() const { return halves * padded_width; }
    detail::tensor<bfloat16 const> as_tensor() const
    {
        std::int64_t const row = row_numbers();
        return {data, {tokens * heads * row, heads * row, row}, {batch, tokens, heads, row}, map};
    }
};

template <class Element>
struct key_feature_arguments
{
    detail::tensor<Element const> key;
    feature_tensor to;
    detail::item_table tokens; ///< of each sequence, from its first on
    std::uint32_t heads;
    int pieces; ///< of a key

    /// Rows are (token, head).
    __device__ std::uint32_t rows() const
    {
        std::int64_t const all = tokens.first ? tokens.first[tokens.sequences] : tokens.sequences * tokens.each;
        return static_cast<std::uint32_t>(all) * heads;
    }
    __device__ Element const* row(std::uint32_t number) const
    {
        std::uint32_t const token = number / heads;
        detail::item_table::place at{0, token};
        if (tokens.first || tokens.sequences > 1) at = tokens.find(token);
        return key.row(at.sequence, at.item, number - token * heads);
    }
};

inline constexpr int feature_threads = 256;
inline constexpr int feature_rows = 4; ///< of a thread: so many loads are under way at once

/// `Lanes` lanes a row, 8 numbers each.
template <class FeatureMap, class Element, int Lanes>
__global__
__launch_bounds__(feature_threads) void key_feature_kernel(__grid_constant__ key_feature_arguments<Element> const a)
{
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
    constexpr std::uint32_t at_once = feature_threads / Lanes;
    constexpr int halves = feature_halves<FeatureMap>;
    int const lane = threadIdx.x % Lanes;
    bool const here = lane < a.pieces;
    std::uint32_t const rows = a.rows();
    uint4* const to = reinterpret_cast<uint4*>(a.to.data);
    for (std::uint32_t first_row = blockIdx.x * (feature_rows * at_once) + threadIdx.x / Lanes;
         first_row - threadIdx.x / Lanes < rows; first_row += gridDim.x * (feature_rows * at_once))
    {
        uint4 piece[feature_rows] = {};
#pragma unroll
        for (int i = 0; i < feature_rows; ++i)
        {
            std::uint32_t const row = first_row + i * at_once;
            if (here && row < rows) piece[i] = __ldg(reinterpret_cast<uint4 const*>(a.row(row)) + lane);
        }
#pragma unroll
        for (int i = 0; i < feature_rows; ++i)
        {
            std::uint32_t const row = first_row + i * at_once;
            float x[2][piece_numbers];
            unpack<Element>(piece[i], x[0]);
            map_features<FeatureMap>::template apply<Lanes>(x[0], x[1], here ? piece_numbers : 0);
            if (row >= rows) continue;
#pragma unroll
            for (int h = 0; h < halves; ++h)
                to[(static_cast<std::int64_t>(row) * halves + h) * Lanes + lane] =
                    uint4{pack<bfloat16>(x[h][0], x[h][1]), pack<bfloat16>(x[h][2], x[h][3]),
                          pack<bfloat16>(x[h][4], x[h][5]), pack<bfloat16>(x[h][6], x[h][7])};
        }
    }
#endif
}

/// phi of the keys of `tokens`, which are to.batch x to.tokens at most. Keys lie as can_map() wants them, at most 128
/// wide and a multiple of 8; to.padded_width is the next of 64 and 128, to.halves that of the map. Tokens x heads of
/// all sequences fit an int.
template <class FeatureMap, class Element>
void make_key_features(Kokkos::Cuda const& exec, detail::tensor<Element const> const& key, feature_tensor const& to,
                       detail::item_table const& tokens)
{
    static_assert(feature_halves<FeatureMap> > 0, "spla: no features on matrix units for a map of one's own");
    std::int64_t const rows = to.batch * to.tokens * to.heads;
    if (rows <= 0) return;
    on_device const here(exec.cuda_device());
    key_feature_arguments<Element> const a{key, to, tokens, static_cast<std::uint32_t>(to.heads),
                                           static_cast<int>(key.extent[3] / piece_numbers)};
    auto const launch = [&](auto* kernel, int lanes) {
        // Variable lengths: most of the rows that there is room for may not be there.
        std::int64_t const block_rows = feature_rows * feature_threads / lanes, most = tokens.first ? 4096 : rows;
        std::int64_t const blocks = std::min((rows + block_rows - 1) / block_rows, most);
        kernel<<<static_cast<unsigned>(blocks), feature_threads, 0, exec.cuda_stream()>>>(a);
    };
    auto const launch_padded = [&] {
        if constexpr (has_narrow_kernels)
        {
            if (to.padded_width == 64) return launch(key_feature_kernel<FeatureMap, Element, 8>, 8);
        }
        launch(key_feature_kernel<FeatureMap, Element, 16>, 16);
    };
    launch_padded();
    require_success(cudaGetLastError(), "launch", "key features");
}

} // namespace spla::cuda
