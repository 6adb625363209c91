// SPDX-FileCopyrightText: The spla authors
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once
#include "exact_branch.hpp"
#include "list_state_kernel.hpp"
#include "residual_kernel.hpp"

#include <algorithm>
#include <climits>
#include <limits>

/// From a checked call to the residual branch on Hopper.
namespace spla::cuda
{

template <class FeatureMap, int Width, bool Normalised>
void launch_residual(Kokkos::Cuda const& exec, residual_arguments const& a)
{
    constexpr int bytes = sizeof(residual_memory<feature_halves<FeatureMap>, Width>) + 1024; // room to align
    static_assert(bytes <= most_shared_bytes);
    launch_blocks("residual branch", exec, residual_kernel<FeatureMap, Width, Normalised>,
                  static_cast<std::int64_t>(a.shape.tiles.most_tiles) * a.shape.tiles.key_heads, bytes, a);
}

template <class FeatureMap, int Width>
void launch_list_state(Kokkos::Cuda const& exec, list_state_arguments const& a)
{
    constexpr int bytes = sizeof(list_state_memory<feature_halves<FeatureMap>, Width>) + 1024; // room to align
    static_assert(bytes <= most_shared_bytes);
    launch_blocks("residual branch", exec, list_state_kernel<FeatureMap, Width>,
                  static_cast<std::int64_t>(a.shape.tiles.most_tiles) * a.shape.tiles.key_heads, bytes, a);
}

/// May rows be read two numbers at a time?
inline bool can_read_pairs(detail::tensor<float const> const& t)
{
    bool fits = reinterpret_cast<std::uintptr_t>(t.data) % 8 == 0;
    for (int i = 0; i < 3; ++i) fits = fits && (t.extent[i] <= 1 || t.stride[i] % 2 == 0);
    return fits;
}

/// The copy engine's view of states from `first` on, however many there are: coordinates (column, feature of a half,
/// half, number). What lies behind the columns and features of a half arrives as zeros.
inline CUtensorMap make_state_map(float const* first, portable::linear_tensor<float> const& state, int halves,
                                  int width, int value_dim, int box_rows)
{
    CUtensorMap map{};
    cuuint64_t const row = static_cast<cuuint64_t>(state.leading) * sizeof(float);
    cuuint64_t const strides[] = {row, row * width, row * static_cast<cuuint64_t>(state.features)};
    cuuint64_t const most = (cuuint64_t{1} << 40) / strides[2]; // no device has memory for more
    cuuint64_t const extents[] = {static_cast<cuuint64_t>(value_dim), static_cast<cuuint64_t>(width),
                                  static_cast<cuuint64_t>(halves), std::min<cuuint64_t>(most, INT_MAX)};
    cuuint32_t const box[] = {state_columns, static_cast<cuuint32_t>(box_rows), 1, 1};
    cuuint32_t const steps[] = {1, 1, 1, 1};
    CUresult const result =
        tensor_map_encoder()(&map, CU_TENSOR_MAP_DATA_TYPE_FLOAT32, 4, const_cast<float*>(first), extents, strides, box,
                             steps, CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_128B,
                             CU_TENSOR_MAP_L2_PROMOTION_L2_256B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
    if (result != CUDA_SUCCESS) Kokkos::abort("spla: a tensor map of linear states was refused by the driver");
    return map;
}
inline bool can_map(portable::linear_tensor<float> const& state)
{
    return reinterpret_cast<std::uintptr_t>(state.running) % 16 == 0 &&
           reinterpret_cast<std::uintptr_t>(state.prefix) % 16 == 0 && state.leading % 4 == 0;
}

/// Does a call cost less in state form, list by list? Only lists that tokens share have the rows for it. Normalisers
/// stay in token form.
template <class FeatureMap, int Width>
bool pays_in_state_form(portable::attention_shape const& shape)
{
    std::int64_t const tile = shape.bounds.tile;
    if (tile <= 1 || shape.normalised || shape.mode == residual_mode::direct) return false;
    std::int64_t const lists = tile_count(shape.sequences.queries, shape.sequences.keys, tile);
    constexpr std::int64_t most = std::numeric_limits<int>::max() / 2;
    if (tile > most || shape.sequences.count * lists * shape.key_heads > most) return false; // an int counts them
    return pays_in_state_form(tile * shape.group, feature_halves<FeatureMap>, Width);
}

/// The residual branch of a call that why_no_residual_branch() has nothing against, and its combination with the exact
/// branch's finished rows. False, and nothing done, where a view cannot be copied by 16 bytes, or lists lie very far
/// apart. key_features: phi of the residual branch's keys, [batch, token, key_head, halves x padded_width()], of all
/// blocks that compete for any query. exact: rows that `out.output` is made of; absent where that is.
template <class FeatureMap>
bool attend_residual(Kokkos::Cuda const& exec, detail::tensor<bfloat16 const> const& query,
                     detail::tensor<bfloat16 const> const& key_features, detail::tensor<bfloat16 const> const& value,
                     detail::list_tensor const& list, portable::linear_tensor<float> const& state,
                     detail::tensor<float const> const& exact, portable::attention_outputs<bfloat16> const& out,
                     portable::attention_shape const& shape)
{
    static_assert(feature_halves<FeatureMap> > 0, "spla: no features on matrix units for a map of one's own");
    if (!runs_here(exec) || !can_map(query) || !can_map(key_features) || !can_map(value)) return false;
    if (!can_store(out.residual) || !can_store(out.output) || !can_store(out.sparse)) return false;
    if (list && list.stride[1] > (1 << 23)) return false; // an int finds the lists of a tile's tokens
    if (out.output && (!exact || !can_read_pairs(exact))) return false;
    residual_arguments a{};
    a.features_map = key_features.map, a.value_map = value.map;
    a.query = query;
    a.list = list;
    a.state = state;
    a.exact = exact;
    a.out = out;
    a.shape.width = shape.residual_width;
    a.shape.direct = shape.mode == residual_mode::direct;
    auto const map_boxes = [&](residual_arguments& to, int tokens) {
        to.features = make_tensor_map<bfloat16>(key_features, 1, tokens);
        to.value = make_tensor_map<bfloat16>(value, 1, tokens);
    };
    auto const launch = [&]<int Width>() {
        if (pays_in_state_form<FeatureMap, Width>(shape) && can_map(state))
        {
            list_state_arguments lists{a};
            int const tile = static_cast<int>(shape.bounds.tile), most = tile_rows / shape.group;
            lists.shape.tiles = tiles_of(shape, tile);
            lists.rows = tiles_of(shape, tile < most ? tile : most);
            map_boxes(lists, list_state_memory<feature_halves<FeatureMap>, Width>::stage_keys);
            auto const map_states = [&](float const* first) {
                return make_state_map(first, state, feature_halves<FeatureMap>, shape.residual_width, shape.value_dim,
                                      Width);
            };
            lists.running = map_states(state.running);
            lists.prefix = map_states(state.prefix ? state.prefix : state.running);
            return launch_list_state<FeatureMap, Width>(exec, lists);
        }
        a.shape.tiles = tiles_of(shape, tile_rows / shape.group);
        map_boxes(a, block_tokens);
        if (shape.normalised)
            launch_residual<FeatureMap, Width, true>(exec, a);
        else
            launch_residual<FeatureMap, Width, false>(exec, a);
    };
    if (padded_width(shape.residual_width, shape.value_dim) == 64)
        launch.template operator()<64>();
    else
        launch.template operator()<128>();
    return true;
}

} // namespace spla::cuda
