// SPDX-FileCopyrightText: The spla authors
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once
#include "../../view_concepts.hpp"

#include <cuda.h>
#include <cuda_runtime.h>

/// Tensor maps: what the copy engine is told of a tensor, made on the host for each launch.
namespace spla::cuda
{

/// The driver's encoder, found without linking the driver; null where there is none.
inline auto tensor_map_encoder()
{
    static auto const encoder = [] {
        void* entry = nullptr;
        cudaDriverEntryPointQueryResult found{};
        if (cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &entry, 12000, cudaEnableDefault, &found) !=
                cudaSuccess ||
            found != cudaDriverEntryPointSuccess)
            entry = nullptr;
        return reinterpret_cast<decltype(&cuTensorMapEncodeTiled)>(entry);
    }();
    return encoder;
}

/// The copy engine wants addresses and strides in units of 16 bytes.
template <class T>
bool can_map(detail::tensor<T> const& t)
{
    constexpr std::int64_t numbers = 16 / sizeof(T);
    bool fits = reinterpret_cast<std::uintptr_t>(t.data) % 16 == 0;
    for (int i = 0; i < 3; ++i) fits = fits && (t.extent[i] <= 1 || (t.stride[i] > 0 && t.stride[i] % numbers == 0));
    return fits;
}

/// A map of rank 4, the innermost dimension first, strides in bytes. A row of a box has 64 or 128 bytes, swizzled.
inline CUtensorMap encode_tensor_map(CUtensorMapDataType type, int type_bytes, void const* data,
                                     cuuint64_t const (&extents)[4], cuuint64_t const (&strides)[3],
                                     cuuint32_t const (&box)[4],
                                     CUtensorMapL2promotion fetched = CU_TENSOR_MAP_L2_PROMOTION_L2_256B)
{
    CUtensorMap map{};
    cuuint32_t const steps[] = {1, 1, 1, 1};
    auto const swizzle = box[0] * type_bytes == 128 ? CU_TENSOR_MAP_SWIZZLE_128B : CU_TENSOR_MAP_SWIZZLE_64B;
    CUresult const result =
        tensor_map_encoder()(&map, type, 4, const_cast<void*>(data), extents, strides, box, steps,
                             CU_TENSOR_MAP_INTERLEAVE_NONE, swizzle, fetched, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
    if (result != CUDA_SUCCESS) Kokkos::abort("spla: a tensor map that can_map() allows was refused by the driver");
    return map;
}

/// A tensor [batch, token, head, dim] of 16-bit numbers as the copy engine sees it: coordinates (dim, head, token,
/// batch), boxes of columns (64 or 32) x heads x tokens x 1.
template <class Element>
CUtensorMap make_tensor_map(detail::tensor<Element const> const& t, int box_heads, int box_tokens, int box_columns = 64,
                            CUtensorMapL2promotion fetched = CU_TENSOR_MAP_L2_PROMOTION_L2_256B)
{
    auto const extent = [&](int i) { return static_cast<cuuint64_t>(t.extent[i] > 0 ? t.extent[i] : 1); };
    auto const stride = [&](int i) { // a dimension of one element has no stride that matters
        return static_cast<cuuint64_t>(t.extent[i] > 1 ? t.stride[i] * 2 : 16);
    };
    auto const type =
        std::is_same_v<Element, bfloat16> ? CU_TENSOR_MAP_DATA_TYPE_BFLOAT16 : CU_TENSOR_MAP_DATA_TYPE_FLOAT16;
    return encode_tensor_map(type, 2, t.data, {extent(3), extent(2), extent(1), extent(0)},
                             {stride(2), stride(1), stride(0)},
                             {static_cast<cuuint32_t>(box_columns), static_cast<cuuint32_t>(box_heads),
                              static_cast<cuuint32_t>(box_tokens), 1},
                             fetched);
}

} // namespace spla::cuda
