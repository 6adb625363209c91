// SPDX-FileCopyrightText: The spla authors
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once
#include "branch_work.hpp"
#include "coverage.hpp"
#include "exact_kernel.hpp"
#include "tensor_map.hpp"

/// From a checked call to the exact branch on Hopper.
namespace spla::cuda
{

/// Where an output may be written by 16 bytes; others are written number by number.
template <class Element>
bool can_store(detail::output_tensor<Element> const& t)
{
    if (!t || t.wide) return true;
    bool fits = reinterpret_cast<std::uintptr_t>(t.data) % 16 == 0;
    for (int i = 0; i < 3; ++i) fits = fits && t.stride[i] % 8 == 0;
    return fits;
}

template <class Element, int KeyWidth, int ValueWidth>
void launch_exact(Kokkos::Cuda const& exec, exact_arguments<Element> const& a)
{
    constexpr int bytes = sizeof(exact_memory<KeyWidth, ValueWidth>) + 1024; // room to align
    static_assert(bytes <= most_shared_bytes);
    launch_blocks("exact branch", exec, exact_kernel<Element, KeyWidth, ValueWidth>,
                  a.shape.most_tiles * a.shape.key_heads, bytes, a);
}

/// The narrowest of the kernels that there are.
template <class Element>
void launch_exact_of_width(Kokkos::Cuda const& exec, exact_arguments<Element> const& a, int width)
{
    if constexpr (has_narrow_kernels)
    {
        if (is_narrow(width, a.shape.value_dim)) return launch_exact<Element, 64, 64>(exec, a);
    }
    if constexpr (has_wide_kernels)
    {
        if (width > 192 || a.shape.value_dim > 128) return launch_exact<Element, 256, 256>(exec, a);
        if (width > 128) return launch_exact<Element, 192, 128>(exec, a);
    }
    launch_exact<Element, 128, 128>(exec, a);
}

/// The exact branch of a call that why_no_exact_branch() has nothing against. False, and nothing done, where a view
/// cannot be copied by 16 bytes. work: prepared for this call.
template <class Element>
bool attend(Kokkos::Cuda const& exec, detail::tensor<Element const> const& query,
            detail::tensor<Element const> const& key, detail::tensor<Element const> const& value,
            portable::attention_outputs<Element> out, portable::attention_shape const& shape, branch_work const& work)
{
    if (!out.sparse)
        out.sparse = out.output; // sparse_only: the branch is the output
    else if (out.output)
        return false; // two outputs
    if (!runs_here(exec) || !can_map(query) || !can_map(key) || !can_map(value) || !can_store(out.sparse)) return false;
    exact_arguments<Element> a{};
    a.shape = tiles_of(shape, work.layout.tile_tokens, work.tables.tiles);
    a.shape.combines = shape.everything && shape.residual;
    a.shape.scale = static_cast<float>(shape.scale * 1.4426950408889634); // exp2 in place of exp
    a.query = make_tensor_map<Element>(query, shape.group, a.shape.tokens);
    a.key = make_tensor_map<Element>(key, 1, block_tokens);
    a.value = make_tensor_map<Element>(value, 1, block_tokens);
    a.query_map = query.map, a.key_map = key.map, a.value_map = value.map;
    a.unions = work.unions;
    a.out = out;
    launch_exact_of_width(exec, a, shape.width);
    return true;
}

} // namespace spla::cuda
