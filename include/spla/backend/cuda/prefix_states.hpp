// SPDX-FileCopyrightText: The spla authors
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once
#include "key_features.hpp"
#include "launch.hpp"
#include "state_walk.hpp"
#include "tensor_map.hpp"

/// Blocks that enter the linear state on Hopper (spec section 4): a block of threads carries a slice of a running state
/// over the blocks, and leaves the state before each.
namespace spla::cuda
{

/// A warpgroup that multiplies, a warp that loads, one that stores, one for the normaliser.
inline constexpr int state_threads = 224;

template <class Arguments>
__global__ __launch_bounds__(state_threads, 1) void state_kernel(__grid_constant__ Arguments const a)
{
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
    extern __shared__ unsigned char raw[];
    state_memory& m = *reinterpret_cast<state_memory*>(raw + (1024 - shared_address(raw) % 1024) % 1024);
    state_slice const slice(a);
    if (slice.blocks == 0) return;
    bool const normalises = a.state.normalised && slice.column == 0;
    if (threadIdx.x == 0)
    {
        for (int i = 0; i < state_memory::stages; ++i) m.full[i].init(1), m.free[i].init(normalises ? 5 : 4);
        for (int i = 0; i < state_memory::outputs; ++i) m.output_full[i].init(128), m.output_free[i].init(1);
        fence_barrier_init();
    }
    __syncthreads();
    if (threadIdx.x < 128)
        state_carrier(a, m, slice).run();
    else if (threadIdx.x < 160)
    {
        if (threadIdx.x == 128) load_state_blocks(a, m, slice);
    }
    else if (threadIdx.x < 192)
    {
        if (threadIdx.x == 160) store_states(a, m, slice);
    }
    else if (normalises)
        carry_normaliser(a, m, slice);
#endif
}

/// Prefix states as the copy engine sees them: what a slice has of padding is outside.
inline CUtensorMap make_prefix_map(portable::linear_tensor<float> const& state, int width, int halves)
{
    auto const leading = static_cast<cuuint64_t>(state.leading), rows = static_cast<cuuint64_t>(width);
    cuuint64_t const any_number = 1 << 30;
    return encode_tensor_map(
        CU_TENSOR_MAP_DATA_TYPE_FLOAT32, 4, state.prefix, {leading, rows, static_cast<cuuint64_t>(halves), any_number},
        {leading * 4, rows * leading * 4, halves * rows * leading * 4}, {state_columns, state_tile, 1, 1});
}

/// Adds the blocks that enter (of a fixed batch from state.prefix_first to state.state_end) to the running states of
/// every sequence, and leaves the state before each in its prefix states: bit for bit the same however many calls the
/// blocks come in. Features are of keys `width` wide. Values lie as can_map() wants them, at most 128 wide and a
/// multiple of 8.
inline void enter_blocks_on_hopper(Kokkos::Cuda const& exec, feature_tensor const& features,
                                   detail::tensor<bfloat16 const> const& value,
                                   portable::linear_tensor<float> const& state, detail::sequence_table const& sequences,
                                   int width, int value_dim)
{
    if (sequences.count <= 0) return;
    on_device const here(exec.cuda_device());
    detail::tensor<bfloat16 const> values = value;
    values.extent[3] = value_dim; // columns behind arrive as zeros
    state_arguments a{};
    a.features = make_tensor_map<bfloat16>(features.as_tensor(), 1, block_tokens);
    a.value = make_tensor_map<bfloat16>(values, 1, block_tokens, state_columns);
    a.prefix = make_prefix_map(state, width, features.halves);
    a.features_map = features.map, a.value_map = value.map;
    a.sequences = sequences;
    a.state = state;
    a.first_token = static_cast<int>(features.first);
    a.width = width;
    a.padded_width = features.padded_width, a.halves = features.halves;
    a.column_tiles = static_cast<int>((state.leading + state_columns - 1) / state_columns);
    int const tiles = features.row_numbers() / state_tile * a.column_tiles;
    constexpr int bytes = sizeof(state_memory) + 1024; // room to align
    static_assert(bytes <= most_shared_bytes);
    auto* const kernel = state_kernel<state_arguments>;
    require_success(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes), "shared memory",
                    "prefix states");
    kernel<<<static_cast<unsigned>(sequences.count * state.key_heads * tiles), state_threads, bytes,
             exec.cuda_stream()>>>(a);
    require_success(cudaGetLastError(), "launch", "prefix states");
}

} // namespace spla::cuda
