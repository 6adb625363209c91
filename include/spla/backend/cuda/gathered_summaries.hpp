// SPDX-FileCopyrightText: The spla authors
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once
#include "../../algorithm/block_summary.hpp"
#include "launch.hpp"

#include <algorithm>

/// Summaries as matrix units take them, where they do not lie so: those of sequences of variable lengths, in slots or
/// pages, become one row, of which the copy engine brings 64 blocks at a time; those of 8 bits become bf16, which holds
/// their numbers exactly, and their scales lie by block, for sums to be multiplied by.
namespace spla::cuda
{

/// Summaries of sequence after sequence, in workspace.
struct gathered_summaries
{
    bfloat16* vectors = nullptr; ///< [block, key head, sub-block, vector, dim]
    float* scales = nullptr;     ///< [key head, sub-block, vector, block]; null: 1
    std::int64_t blocks = 0;     ///< there is room for
    detail::item_table tokens;   ///< of each sequence, in whole blocks

    static std::int64_t vectors_of_block(detail::summary_tensor const& s)
    {
        return s.key_heads * s.sub_blocks * s.vectors;
    }
    /// Bytes of so many blocks: vectors, and behind them scales.
    static std::size_t vector_bytes(detail::summary_tensor const& s, std::int64_t blocks)
    {
        return static_cast<std::size_t>(blocks * vectors_of_block(s) * s.head_dim) * sizeof(bfloat16);
    }
    static std::size_t bytes(detail::summary_tensor const& s, std::int64_t blocks)
    {
        bool const scaled = s.storage == summary_storage::int8;
        // A panel of scales may begin at the last block.
        return vector_bytes(s, blocks) + (scaled ? static_cast<std::size_t>(blocks * vectors_of_block(s) + 64) * 4 : 0);
    }
    /// In memory of bytes().
    static gathered_summaries in(void* memory, detail::summary_tensor const& s, std::int64_t blocks,
                                 detail::item_table const& tokens)
    {
        auto* const first = static_cast<std::byte*>(memory);
        bool const scaled = s.storage == summary_storage::int8;
        return {reinterpret_cast<bfloat16*>(first),
                scaled ? reinterpret_cast<float*>(first + vector_bytes(s, blocks)) : nullptr, blocks, tokens};
    }
};

struct gather_arguments
{
    detail::summary_tensor from;
    gathered_summaries to;
    int block_tokens;
};

inline constexpr int gather_threads = 128;

/// Numbers of 8 bits as bf16: integers up to 127 are exact.
inline __device__ uint4 widen_numbers(std::int8_t const* from)
{
    uint2 const eight = *reinterpret_cast<uint2 const*>(from);
    auto const two = [](std::uint32_t word, int i) {
        auto const number = [&](int j) {
            return __float_as_uint(static_cast<float>(static_cast<std::int8_t>(word >> 8 * j & 255u))) >> 16;
        };
        return number(i) | number(i + 1) << 16;
    };
    return {two(eight.x, 0), two(eight.x, 2), two(eight.y, 0), two(eight.y, 2)};
}

/// A block of threads takes a block of tokens at a time, of all key heads.
template <class Arguments>
__global__ __launch_bounds__(gather_threads) void gather_kernel(__grid_constant__ Arguments const a)
{
    detail::item_table const& tokens = a.to.tokens;
    std::int64_t const all = tokens.first ? tokens.first[tokens.sequences] : tokens.sequences * tokens.each;
    int const vectors = static_cast<int>(a.from.key_heads) * a.from.sub_blocks * a.from.vectors;
    int const pieces = vectors * static_cast<int>(a.from.head_dim) / 8;
    for (std::int64_t n = blockIdx.x; n * a.block_tokens < all; n += gridDim.x)
    {
        auto const at = tokens.find(n * a.block_tokens);
        std::int64_t const first = a.from.number(at.sequence, at.item / a.block_tokens, 0, 0, 0);
        auto* const to = reinterpret_cast<uint4*>(a.to.vectors) + n * pieces;
        if (a.to.scales)
        {
            auto const* const from = a.from.template row<std::int8_t const>(first);
            for (int i = threadIdx.x; i < pieces; i += gather_threads) to[i] = widen_numbers(from + 8 * i);
            for (int v = threadIdx.x; v < vectors; v += gather_threads)
                a.to.scales[v * a.to.blocks + n] = a.from.scales[first + v];
            continue;
        }
        auto const* const from = reinterpret_cast<uint4 const*>(a.from.template row<bfloat16 const>(first));
        for (int i = threadIdx.x; i < pieces; i += gather_threads) to[i] = from[i];
    }
}

/// from: in bf16 or int8; heads are a multiple of 8 wide.
inline void gather_summaries(Kokkos::Cuda const& exec, detail::summary_tensor const& from, gathered_summaries const& to,
                             int block_tokens)
{
    std::int64_t const blocks = std::min<std::int64_t>(to.blocks, 2048);
    if (blocks <= 0) return;
    on_device const here(exec.cuda_device());
    gather_kernel<gather_arguments><<<static_cast<unsigned>(blocks), gather_threads, 0, exec.cuda_stream()>>>(
        gather_arguments{from, to, block_tokens});
    require_success(cudaGetLastError(), "launch", "summaries of sequences");
}

} // namespace spla::cuda
