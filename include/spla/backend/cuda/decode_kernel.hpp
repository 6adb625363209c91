// SPDX-FileCopyrightText: The spla authors
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once
#include "decode_merge.hpp"
#include "decode_queries.hpp"
#include "decode_rows.hpp"
#include "decode_walk.hpp"

/// Decode on Hopper: both branches of a step's decoded tokens and their combination (spec sections 3 to 5).
namespace spla::cuda
{

/// So many more runs are finished; how many are. What the threads that met this one wrote before is seen by those that
/// meet who finds them all finished.
inline __device__ int finish(std::int32_t* runs, int more)
{
    int before;
    asm volatile("atom.acq_rel.gpu.global.add.s32 %0, [%1], %2;" : "=r"(before) : "l"(runs), "r"(more) : "memory");
    return before + more;
}

template <class FeatureMap, int Width, int Columns>
__global__
    __launch_bounds__(32 * decode_warps,
                      decode_teams<Width, Columns>) void decode_kernel(__grid_constant__ decode_arguments const a)
{
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
    using memory = decode_memory<feature_halves<FeatureMap>, Width>;
    extern __shared__ unsigned char raw[];
    unsigned char* const aligned = raw + (1024 - shared_address(raw) % 1024) % 1024;
    auto* const slices = reinterpret_cast<typename memory::slice*>(aligned);
    memory& m = *reinterpret_cast<memory*>(slices + decode_warps * a.places);
    int const warp = threadIdx.x / 32;
    if (threadIdx.x % 32 == 0)
    {
        for (int i = 0; i < a.places; ++i) m.full[warp][i].init(1);
        fence_barrier_init();
    }
    __syncwarp();
    let_next_launch_begin();
    using queries = decode_queries<FeatureMap, Width, Columns>;
    decode_walk<memory> walk(a, m, slices + warp * a.places);
    decode_rows<FeatureMap, Width, Columns> rows(a, m);
    decode_item const* item = walk.first_item();
    if (item) queries::load(a, *item, m);
    wait_for_earlier_launches();
    __syncthreads();
    item = nullptr;
    int run = 0, left = 0; // of the item
    for (bool starts = true;;)
    {
        walk.fill();
        if (starts)
        {
            if (left == 0)
            {
                decode_item const* const before = item;
                item = walk.next_item();
                if (before)
                {
                    // The last of an item to finish, of all multiprocessors, merges it. While one thread asks whether
                    // this one is, other warps bring the next item's queries: all have read the ones before.
                    if (threadIdx.x == 0) m.merges = finish(a.finished + before->item, before->taken) == before->runs;
                    if (item) queries::load(a, *item, m);
                    __syncthreads();
                    if (m.merges) merge_runs(a, *before);
                }
                if (!item) return;
                run = item->run, left = item->taken;
            }
            rows.open(*item, run);
        }
        decode_note note;
        auto& slice = walk.next(note);
        rows.add(slice, note);
        starts = note.last;
        if (starts)
        {
            rows.store(item->first_run + run, slice);
            ++run, --left;
        }
        __syncwarp();
        walk.leave();
    }
#endif
}

} // namespace spla::cuda
