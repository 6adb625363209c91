// SPDX-FileCopyrightText: The spla authors
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once
#include "decode_copier.hpp"
#include "decode_finder.hpp"
#include "decode_merge.hpp"
#include "decode_queries.hpp"
#include "decode_rows.hpp"

/// Decode on Hopper: both branches of a step's decoded tokens and their combination (spec sections 3 to 5). In a block
/// of threads some warps find what is next, each for a quad of warps that multiplies, and one has it copied.
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

/// Runs as they come. The last of an item to finish, of all multiprocessors, merges the item. Who asks whether it was
/// the last waits for memory, beside the next run's queries.
template <class FeatureMap, int Width, int Columns>
__device__ void attend_runs(decode_arguments const& a, decode_memory<feature_halves<FeatureMap>, Width, Columns>& m,
                            int worker)
{
    using memory = decode_memory<feature_halves<FeatureMap>, Width, Columns>;
    ring_reader<memory> ring(m, worker);
    for (bool first = true, asks = false;; first = false)
    {
        decode_run const& run = ring.next_run();
        bool const more = run.sequence >= 0, fresh = more && run.fresh;
        if (fresh) decode_queries<FeatureMap, Width, Columns>::load(a, run, ring.own());
        if (fresh || asks) ring.meet();
        if (asks && ring.merges()) merge_runs<Columns>(a, ring.last_run());
        if (!first) ring.leave_last_run();
        if (!more) return;
        decode_rows<FeatureMap, Width, Columns>(a, ring).attend(run);
        ring.meet();
        asks = run.finished > 0;
        if (!asks) continue;
        if (threadIdx.x % 128 == 96)
        {
            bool const last = finish(a.finished + run.item, run.finished) == run.runs;
            if (last) a.finished[run.item] = 0; // for the next launch
            ring.merges() = last;
        }
    }
}

template <class FeatureMap, int Width, int Columns>
__global__ __launch_bounds__((decode_team<Width, Columns>::threads),
                             1) void decode_kernel(__grid_constant__ decode_arguments const a)
{
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
    constexpr int halves = feature_halves<FeatureMap>;
    using memory = decode_memory<halves, Width, Columns>;
    using team = decode_team<Width, Columns>;
    extern __shared__ unsigned char raw[];
    memory& m = *reinterpret_cast<memory*>(raw + (1024 - shared_address(raw) % 1024) % 1024);
    if (threadIdx.x == 0)
    {
        for (int w = 0; w < memory::workers; ++w)
        {
            m.found_copies[w] = m.started_copies[w] = 0;
            for (int i = 0; i < memory::places; ++i) m.full[w][i].init(1);
            for (int i = 0; i < memory::runs; ++i) m.found[w][i].init(1), m.done[w][i].init(4);
        }
        for (int i = 0; i < memory::places; ++i) m.free[i].init(4);
        fence_barrier_init();
    }
    __syncthreads();
    if (threadIdx.x < 128)
    {
        give_registers<team::loading>();
        int const warp = threadIdx.x / 32;
        if (warp < memory::workers)
            decode_finder<halves, Width, Columns>{a, m, warp}.run();
        else if (warp == 3)
            decode_copier<halves, Width, Columns>{a, m}.run();
    }
    else
    {
        take_registers<team::multiplying>();
        attend_runs<FeatureMap, Width, Columns>(a, m, threadIdx.x / 128 - 1);
    }
#endif
}

} // namespace spla::cuda
