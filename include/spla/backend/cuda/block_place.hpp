// SPDX-FileCopyrightText: The spla authors
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once
#include "../../algorithm/sequence_table.hpp"

namespace spla::cuda
{

/// Where the rows of a key block lie: its keys (or their features) and its values, in coordinates of the copy engine.
/// Each lane finds one block's, so that 32 look into a page table together: one after the other they would wait for
/// memory longer than products take.
struct block_place
{
    int key_token, key_batch, value_token, value_batch;

    /// token: the block's first.
    static __device__ block_place find(detail::token_map const& keys, detail::token_map const& values, int sequence,
                                       int token)
    {
        auto const key = keys(sequence, token), value = values(sequence, token);
        return {static_cast<int>(key.token), static_cast<int>(key.batch), static_cast<int>(value.token),
                static_cast<int>(value.batch)};
    }
    /// What a lane found. All of a warp call it.
    __device__ block_place of(int lane) const
    {
        return {__shfl_sync(0xffffffffu, key_token, lane), __shfl_sync(0xffffffffu, key_batch, lane),
                __shfl_sync(0xffffffffu, value_token, lane), __shfl_sync(0xffffffffu, value_batch, lane)};
    }
};

/// Of a warp's walk: of 32 blocks, and of the 32 before them, one of which may still be at work.
using block_places = block_place[64];

} // namespace spla::cuda
