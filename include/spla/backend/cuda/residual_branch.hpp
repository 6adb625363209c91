// SPDX-FileCopyrightText: The spla authors
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once
#include "residual_base.hpp"
#include "residual_kernel.hpp"

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

/// May rows be read two numbers at a time?
inline bool can_read_pairs(detail::tensor<float const> const& t)
{
    bool fits = reinterpret_cast<std::uintptr_t>(t.data) % 8 == 0;
    for (int i = 0; i < 3; ++i) fits = fits && (t.extent[i] <= 1 || t.stride[i] % 2 == 0);
    return fits;
}

/// The residual branch of a call that why_no_residual_branch() has nothing against, and its combination with the exact
/// branch's finished rows. False, and nothing done, where a view cannot be copied by 16 bytes. key_features: phi of the
/// residual branch's keys, [batch, token, key_head, halves x padded_width()], of all blocks that compete for any query.
/// exact: rows that `out.output` is made of; absent where that is. work: what lies between kernels, prepared for this
/// call.
template <class FeatureMap>
bool attend_residual(Kokkos::Cuda const& exec, detail::tensor<bfloat16 const> const& query,
                     detail::tensor<bfloat16 const> const& key_features, detail::tensor<bfloat16 const> const& value,
                     detail::list_tensor const& list, portable::linear_tensor<float> const& state,
                     detail::tensor<float const> const& exact, portable::attention_outputs<bfloat16> const& out,
                     portable::attention_shape const& shape, branch_work const& work)
{
    static_assert(feature_halves<FeatureMap> > 0, "spla: no features on matrix units for a map of one's own");
    if (!runs_here(exec) || !can_map(query) || !can_map(key_features) || !can_map(value)) return false;
    if (!can_store(out.residual) || !can_store(out.output) || !can_store(out.sparse)) return false;
    if (out.output && (!exact || !can_read_pairs(exact))) return false;
    residual_arguments a{};
    a.features_map = key_features.map, a.value_map = value.map;
    a.query = query;
    a.unions = work.unions;
    a.state = state;
    a.exact = exact;
    a.out = out;
    a.shape.width = shape.residual_width;
    a.shape.direct = shape.mode == residual_mode::direct;
    auto const launch = [&]<int Width>() {
        if (work.layout.base.tokens > 0)
        {
            make_base<FeatureMap, Width>(exec, a, key_features, value, list, shape, work);
            if (work.layout.base.whole) return; // that was all
            a.base = base_rows_of(work, shape);
        }
        a.shape.tiles = tiles_of(shape, work.layout.tile_tokens, work.tables.tiles);
        a.features = make_tensor_map<bfloat16>(key_features, 1, block_tokens);
        a.value = make_tensor_map<bfloat16>(value, 1, block_tokens);
        if (shape.normalised)
            launch_residual<FeatureMap, Width, true>(exec, a);
        else
            launch_residual<FeatureMap, Width, false>(exec, a);
    };
    if constexpr (has_narrow_kernels)
    {
        if (is_narrow(shape.residual_width, shape.value_dim))
        {
            launch.template operator()<64>();
            return true;
        }
    }
    launch.template operator()<128>();
    return true;
}

} // namespace spla::cuda
