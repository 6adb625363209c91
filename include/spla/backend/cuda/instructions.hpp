// SPDX-FileCopyrightText: The spla authors
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once
#include <cuda.h>

#include <cstdint>

/// Hopper's barriers and bulk copies, one instruction a function (PTX ISA: mbarrier, cp.async.bulk.tensor, setmaxnreg).
namespace spla::cuda
{

/// Address of shared memory as instructions want it.
inline __device__ std::uint32_t shared_address(void const* p)
{
    return static_cast<std::uint32_t>(__cvta_generic_to_shared(p));
}

/// A barrier in shared memory: a phase ends when `count` arrivals and all announced bytes are there.
struct barrier
{
    std::uint64_t bits;

    __device__ void init(int count)
    {
        asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(shared_address(this)), "r"(count) : "memory");
    }
    __device__ void arrive()
    {
        asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(shared_address(this)) : "memory");
    }
    /// Arrives, and announces bytes that copies will bring.
    __device__ void arrive_expecting(int bytes)
    {
        asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(shared_address(this)), "r"(bytes)
                     : "memory");
    }
    /// Has the phase of this parity ended?
    __device__ bool passed(std::uint32_t parity) const
    {
        std::uint32_t done;
        asm volatile("{\n"
                     ".reg .pred done;\n"
                     "mbarrier.test_wait.parity.shared::cta.b64 done, [%1], %2;\n"
                     "selp.b32 %0, 1, 0, done;\n"
                     "}\n"
                     : "=r"(done)
                     : "r"(shared_address(this)), "r"(parity)
                     : "memory");
        return done;
    }
    /// Waits for the end of the phase of this parity.
    __device__ void wait(std::uint32_t parity)
    {
        asm volatile("{\n"
                     ".reg .pred done;\n"
                     "again:\n"
                     "mbarrier.try_wait.parity.shared::cta.b64 done, [%0], %1;\n"
                     "@done bra finished;\n"
                     "bra again;\n"
                     "finished:\n"
                     "}\n" ::"r"(shared_address(this)),
                     "r"(parity)
                     : "memory");
    }
};

/// This warp has read what is behind the barrier.
inline __device__ void let_go(barrier& free)
{
    __syncwarp();
    if (threadIdx.x % 32 == 0) free.arrive();
}

/// Parity of the phase in which the n-th use of a ring of places is announced.
inline __device__ std::uint32_t phase_parity(int n, int places)
{
    return static_cast<std::uint32_t>(n) / static_cast<std::uint32_t>(places) & 1; // n is never negative
}
/// And of that in which the n-th use finds its place free: the first finds it so.
inline __device__ std::uint32_t free_parity(int n, int places)
{
    return phase_parity(n, places) ^ 1;
}

/// Barriers that were just initialised, seen by the copy engine.
__device__ inline void fence_barrier_init()
{
    asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
}

/// Ordinary writes to shared memory, seen by matrix units and the copy engine after the next barrier.
__device__ inline void fence_shared_writes()
{
    asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
}

/// Copies one box of a tensor of rank 4 to shared memory; what lies outside the tensor arrives as zeros.
__device__ inline void copy_box(CUtensorMap const& map, barrier& done, void* to, int c0, int c1, int c2, int c3)
{
    asm volatile("cp.async.bulk.tensor.4d.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1, {%3, %4, %5, "
                 "%6}], [%2];" ::"r"(shared_address(to)),
                 "l"(&map), "r"(shared_address(&done)), "r"(c0), "r"(c1), "r"(c2), "r"(c3)
                 : "memory");
}

/// Copies shared memory to one box of a tensor of rank 4, all but what lies outside the tensor.
__device__ inline void store_box(CUtensorMap const& map, void const* from, int c0, int c1, int c2, int c3)
{
    asm volatile("cp.async.bulk.tensor.4d.global.shared::cta.bulk_group [%0, {%2, %3, %4, %5}], [%1];" ::"l"(&map),
                 "r"(shared_address(from)), "r"(c0), "r"(c1), "r"(c2), "r"(c3)
                 : "memory");
}
/// This thread's stores since the last call are a group.
__device__ inline void close_stores()
{
    asm volatile("cp.async.bulk.commit_group;" ::: "memory");
}
/// Waits until at most N groups of this thread's stores have shared memory to read.
template <int N>
__device__ void wait_stores()
{
    asm volatile("cp.async.bulk.wait_group.read %0;" ::"n"(N) : "memory");
}

/// A box of a tensor (copy_box) into the second-level cache alone.
__device__ inline void fetch_box(CUtensorMap const& map, int c0, int c1, int c2, int c3)
{
    asm volatile("cp.async.bulk.prefetch.tensor.4d.L2.global.tile [%0, {%1, %2, %3, %4}];" ::"l"(&map), "r"(c0),
                 "r"(c1), "r"(c2), "r"(c3)
                 : "memory");
}

/// Copies bytes that lie together to shared memory, in units of 16.
inline __device__ void copy_bytes(void const* from, barrier& done, void* to, int bytes)
{
    asm volatile("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" ::"r"(
                     shared_address(to)),
                 "l"(__cvta_generic_to_global(from)), "r"(bytes), "r"(shared_address(&done))
                 : "memory");
}

/// A line of 128 bytes into the second-level cache.
inline __device__ void fetch_line(void const* from)
{
    asm volatile("prefetch.global.L2 [%0];" ::"l"(__cvta_generic_to_global(from)));
}

/// True in one thread of the warp, all of which call it: the compiler then knows that what follows is done once.
inline __device__ bool elected()
{
    std::uint32_t one;
    asm volatile("{\n"
                 ".reg .pred one;\n"
                 "elect.sync _|one, 0xffffffff;\n"
                 "selp.b32 %0, 1, 0, one;\n"
                 "}\n"
                 : "=r"(one));
    return one;
}

/// Programmatic dependent launch (PTX ISA: griddepcontrol). The next launch of the stream, if it was allowed to (see
/// launch_blocks()), begins once every block of threads has said so or ended...
inline __device__ void let_next_launch_begin()
{
    asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
}
/// ... and waits here for all that earlier launches do. No block of threads may end without having waited: what follows
/// counts on it.
inline __device__ void wait_for_earlier_launches()
{
    asm volatile("griddepcontrol.wait;" ::: "memory");
}

/// Registers that each thread of this warpgroup has from here on.
template <int N>
__device__ void give_registers()
{
    asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(N));
}
template <int N>
__device__ void take_registers()
{
    asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(N));
}

/// The block's hardware barriers 1 to 15, among some of its threads.
__device__ inline void sync_threads(int number, int threads)
{
    asm volatile("bar.sync %0, %1;" ::"r"(number), "r"(threads) : "memory");
}
__device__ inline void arrive_threads(int number, int threads)
{
    asm volatile("bar.arrive %0, %1;" ::"r"(number), "r"(threads) : "memory");
}

/// 2^x, to 2 units in the last place.
__device__ inline float exp2_fast(float x)
{
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}

} // namespace spla::cuda
