// SPDX-FileCopyrightText: The spla authors
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once
#include "decode_best_blocks.hpp"
#include "decode_items.hpp"
#include "decode_scores.hpp"

/// Selection for decoded tokens on Hopper: memory is read all the time, while some of what came is selected from. It
/// begins before its step's schedule and statistics are made, and scores what these do not change; who selects waits.
namespace spla::cuda
{

/// Number: of summaries, as they are stored.
template <class Number>
__global__ __launch_bounds__(decode_threads(decode_scorers),
                             1) void decode_selection_kernel(__grid_constant__ decode_selection_arguments const a)
{
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
    extern __shared__ __align__(16) unsigned char raw[];
    decode_selection_places const m(raw, a.sizes);
    int const scorers = static_cast<int>(blockDim.x) / 32 - decode_selectors - 1;
    if (threadIdx.x == 0)
    {
        // Every thread arrives: what racecheck can follow.
        for (int i = 0; i < decode_stages; ++i)
        {
            m.fixed.found[i].init(32), m.fixed.loaded[i].init(32), m.fixed.free[i].init(decode_selector_threads);
            m.fixed.scored[i].init(32 * scorers);
        }
        fence_barrier_init();
    }
    let_next_launch_begin();
    __syncthreads();
    int const warp = threadIdx.x / 32;
    if (warp < decode_selectors)
        decode_best_blocks(a, m).run();
    else if (warp < decode_selectors + scorers)
        decode_scores<Number>(a, m, scorers).run(warp - decode_selectors);
    else
        decode_items(a, m).run();
#endif
}

} // namespace spla::cuda
