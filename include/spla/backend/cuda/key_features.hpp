// SPDX-FileCopyrightText: The spla authors
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once
#include "../../view_concepts.hpp"
#include "launch.hpp"
#include "matrix_product.hpp"
#include "row_features.hpp"
#include "row_pieces.hpp"

#include <algorithm>

/// Features phi(k) of keys, rounded once to bf16, as matrix units read them (spec section 4).
namespace spla::cuda
{

/// Features [batch, token, head, half, padded_width] of some tokens of each sequence: zeros from the keys' width on.
/// 16-byte aligned.
struct feature_tensor
{
    bfloat16* data = nullptr;
    std::int64_t tokens = 0, heads = 0; ///< of a sequence
    int padded_width = 64;              ///< 64 or 128
    int halves = 1;

    KOKKOS_FUNCTION int row_numbers() const { return halves * padded_width; }
    detail::tensor<bfloat16 const> as_tensor(std::int64_t sequences) const
    {
        std::int64_t const row = row_numbers();
        return {data, {tokens * heads * row, heads * row, row}, {sequences, tokens, heads, row}, {}};
    }
};

template <class Element>
struct key_feature_arguments
{
    detail::tensor<Element const> key;
    feature_tensor to;
    std::int64_t first;
    std::uint32_t sequences, rows, heads; ///< rows: tokens x heads of a sequence
    int pieces;                           ///< of a key
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
    std::uint32_t const first_row = blockIdx.x * (feature_rows * at_once) + threadIdx.x / Lanes;
    bool const here = lane < a.pieces;
    for (std::uint32_t sequence = blockIdx.y; sequence < a.sequences; sequence += gridDim.y)
    {
        uint4 piece[feature_rows] = {};
#pragma unroll
        for (int i = 0; i < feature_rows; ++i)
        {
            std::uint32_t const row = first_row + i * at_once;
            if (!here || row >= a.rows) continue;
            auto const* const from = a.key.row(sequence, a.first + row / a.heads, row % a.heads);
            piece[i] = __ldg(reinterpret_cast<uint4 const*>(from) + lane);
        }
        uint4* const to = reinterpret_cast<uint4*>(a.to.data) + sequence * a.to.tokens * a.heads * (halves * Lanes);
#pragma unroll
        for (int i = 0; i < feature_rows; ++i)
        {
            std::uint32_t const row = first_row + i * at_once;
            float x[2][piece_numbers];
            unpack<Element>(piece[i], x[0]);
            map_features<FeatureMap>::template apply<Lanes>(x[0], x[1], here ? piece_numbers : 0);
            if (row >= a.rows) continue;
#pragma unroll
            for (int h = 0; h < halves; ++h)
                to[(static_cast<std::int64_t>(row) * halves + h) * Lanes + lane] =
                    uint4{pack<bfloat16>(x[h][0], x[h][1]), pack<bfloat16>(x[h][2], x[h][3]),
                          pack<bfloat16>(x[h][4], x[h][5]), pack<bfloat16>(x[h][6], x[h][7])};
        }
    }
#endif
}

/// phi of tokens [first, first + count) of every sequence; the first one's are token 0's of `to`. Keys are of a fixed
/// batch or in pages, as can_map() wants them, at most 128 wide and a multiple of 8; to.padded_width is the next of 64
/// and 128, to.halves that of the map, to.tokens at least `count`. Tokens x heads of a sequence fit an int.
template <class FeatureMap, class Element>
void make_key_features(Kokkos::Cuda const& exec, detail::tensor<Element const> const& key, feature_tensor const& to,
                       std::int64_t sequences, std::int64_t first, std::int64_t count)
{
    static_assert(feature_halves<FeatureMap> > 0, "spla: no features on matrix units for a map of one's own");
    std::int64_t const rows = count * to.heads;
    if (sequences <= 0 || rows <= 0) return;
    on_device const here(exec.cuda_device());
    key_feature_arguments<Element> const a{key,
                                           to,
                                           first,
                                           static_cast<std::uint32_t>(sequences),
                                           static_cast<std::uint32_t>(rows),
                                           static_cast<std::uint32_t>(to.heads),
                                           static_cast<int>(key.extent[3] / piece_numbers)};
    auto const launch = [&](auto* kernel, int lanes) {
        std::int64_t const block_rows = feature_rows * feature_threads / lanes;
        dim3 const blocks(static_cast<unsigned>((rows + block_rows - 1) / block_rows),
                          static_cast<unsigned>(std::min<std::int64_t>(sequences, 65535)));
        kernel<<<blocks, feature_threads, 0, exec.cuda_stream()>>>(a);
    };
    if (to.padded_width == 64)
        launch(key_feature_kernel<FeatureMap, Element, 8>, 8);
    else
        launch(key_feature_kernel<FeatureMap, Element, 16>, 16);
    require_success(cudaGetLastError(), "launch", "key features");
}

} // namespace spla::cuda
