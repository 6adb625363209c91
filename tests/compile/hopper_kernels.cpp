// SPDX-FileCopyrightText: The spla authors
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
// Hopper's kernels, for cmake/cuda/check, which looks into what the compiler makes of them.
#include <spla/spla.hpp>

namespace spla::cuda
{
template __global__ void exact_kernel<bfloat16, 64, 64>(const __grid_constant__ exact_arguments<bfloat16>);
template __global__ void exact_kernel<bfloat16, 128, 128>(const __grid_constant__ exact_arguments<bfloat16>);
template __global__ void exact_kernel<bfloat16, 192, 128>(const __grid_constant__ exact_arguments<bfloat16>);
template __global__ void exact_kernel<bfloat16, 256, 256>(const __grid_constant__ exact_arguments<bfloat16>);
template __global__ void exact_kernel<float16, 128, 128>(const __grid_constant__ exact_arguments<float16>);
template __global__ void exact_kernel<float16, 256, 256>(const __grid_constant__ exact_arguments<float16>);
template __global__ void selection_kernel<taylor<diagonal>, 64, true>(const __grid_constant__ selection_arguments);
template __global__ void selection_kernel<taylor<diagonal>, 128, true>(const __grid_constant__ selection_arguments);
template __global__ void residual_kernel<softmax_pair, 64, false>(const __grid_constant__ residual_arguments);
template __global__ void residual_kernel<softmax_pair, 128, false>(const __grid_constant__ residual_arguments);
template __global__ void residual_kernel<softmax, 128, true>(const __grid_constant__ residual_arguments);
template __global__ void base_state_kernel<softmax_pair, 64>(const __grid_constant__ base_state_arguments);
template __global__ void base_state_kernel<softmax_pair, 128>(const __grid_constant__ base_state_arguments);
template __global__ void state_kernel<state_arguments>(const __grid_constant__ state_arguments);
template __global__ void decode_kernel<softmax_pair, 64, 8>(const __grid_constant__ decode_arguments);
template __global__ void decode_kernel<softmax_pair, 128, 4>(const __grid_constant__ decode_arguments);
template __global__ void decode_kernel<softmax_pair, 128, 8>(const __grid_constant__ decode_arguments);
template __global__ void opening_kernel<softmax_pair, 8, true>(const __grid_constant__ opening_arguments);
template __global__ void opening_kernel<softmax_pair, 16, true>(const __grid_constant__ opening_arguments);
template __global__ void decode_selection_kernel<bfloat16>(const __grid_constant__ decode_selection_arguments);
template __global__ void decode_selection_kernel<std::int8_t>(const __grid_constant__ decode_selection_arguments);
} // namespace spla::cuda
