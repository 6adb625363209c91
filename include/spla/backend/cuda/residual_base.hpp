// SPDX-FileCopyrightText: The spla authors
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once
#include "base_state_kernel.hpp"
#include "branch_work.hpp"
#include "change_kernel.hpp"
#include "tensor_map.hpp"

/// From a call to the bases of its tiles: how they differ, D carried along them, and phi(Q) D of their rows.
namespace spla::cuda
{

/// Rows of bases that are not yet a residual, where a call has such.
inline detail::tensor<float const> base_rows_of(branch_work const& work, portable::attention_shape const& shape)
{
    if (work.layout.base.tokens == 0 || work.layout.base.whole) return {};
    return rows_between(shape, reinterpret_cast<float const*>(work.data + work.layout.rows));
}

/// To the call's outputs where a base is all that a residual sums, or to base_rows_of() it.
template <class FeatureMap, int Width>
void make_base(Kokkos::Cuda const& exec, residual_arguments const& call,
               detail::tensor<bfloat16 const> const& key_features, detail::tensor<bfloat16 const> const& value,
               detail::list_tensor const& list, portable::attention_shape const& shape, branch_work const& work)
{
    branch_layout const& l = work.layout;
    exact_shape const chains = tiles_of(shape, l.base.tokens * l.base.chain, work.tables.chains);
    std::int64_t const items = static_cast<std::int64_t>(chains.most_tiles) * chains.key_heads;
    if (items <= 0) return;
    change_arguments find{chains, list, {}, work.unions, l.most_selected, l.base.whole};
    change_table& changes = find.to;
    changes.tiles = reinterpret_cast<tile_changes*>(work.data + l.changes);
    changes.blocks = reinterpret_cast<std::int32_t*>(work.data + l.blocks);
    changes.items = tiles_of(shape, l.base.tokens, work.tables.bases).items;
    changes.key_heads = shape.key_heads;
    changes.capacity = l.change_capacity;
    changes.tokens = l.base.tokens, changes.chain = l.base.chain;
    {
        on_device const here(exec.cuda_device());
        change_kernel<change_arguments>
            <<<static_cast<unsigned>(items), 32 * l.base.chain, 0, exec.cuda_stream()>>>(find);
        require_success(cudaGetLastError(), "launch", "changes of tiles");
    }
    base_state_arguments a{call};
    a.changes = changes;
    a.shape.tiles = chains;
    constexpr int box = base_state_memory<feature_halves<FeatureMap>, Width>::stage_keys;
    a.features = make_tensor_map<bfloat16>(key_features, 1, box);
    a.value = make_tensor_map<bfloat16>(value, 1, box);
    if (auto const rows = base_rows_of(work, shape))
    {
        a.out = {};
        a.out.residual = {const_cast<float*>(rows.data), true, {rows.stride[0], rows.stride[1], rows.stride[2]}, {}};
        a.out.residual.map = rows.map;
    }
    a.query_steps = steps_of(a.query, sizeof(bfloat16));
    a.exact_steps = steps_of(a.exact, sizeof(float));
    a.output_steps = steps_of(a.out.output, sizeof(bfloat16));
    a.is_plain = shape.value_dim == Width && a.out.output && !a.out.output.wide && !a.out.residual && !a.out.sparse &&
                 !a.out.rule.residual_weight.data && !a.out.rule.sparse_weight.data && can_map(a.exact) &&
                 a.exact_steps.known && a.output_steps.known;
    launch_base_state<FeatureMap, Width>(exec, a);
}

} // namespace spla::cuda
