// SPDX-FileCopyrightText: The spla authors
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once
#include "../portable/schedule_kernel.hpp"
#include "decode_sequences.hpp"

/// A step's schedule (portable::schedule_kernel) where a launch has other work to do beside it: each part of it by a
/// block of threads of its own.
namespace spla::cuda
{

/// By `Threads` threads, a sequence each, as often as there are sequences left.
template <int Threads>
class step_schedule
{
    using kernel = portable::schedule_kernel<Kokkos::Cuda>;
    using schedule = portable::schedule;
    static constexpr int warps = Threads / 32;

public:
    /// Blocks of threads: the last one counts offsets that fall, and does what is done once.
    static constexpr int parts = schedule::counted + 1;

    struct memory
    {
        int sums[2][warps];
    };

    __device__ step_schedule(kernel const& of, memory& m) : of_(of), m_(m) {}

    __device__ void make(int part)
    {
        bool const last = part == schedule::counted;
        detail::sequence_table const& table = of_.attention.sequences; // falling offsets are counted here
        int const n = static_cast<int>(of_.made.sequences);
        std::int32_t* const first = of_.made.first(last ? schedule::falls : part);
        std::int64_t const block = of_.attention.bounds.block, room = of_.tuned.context_tokens / block;
        int before = 0, fallen = 0, reached = 0;
        if (threadIdx.x == 0) first[0] = 0;
        for (int base = 0; base < n; base += Threads)
        {
            int const b = base + static_cast<int>(threadIdx.x);
            bool const there = b < n;
            if (there) fetch_sequence(table, b);
            int const falls = there && table.offsets[b + 1] < table.offsets[b] ? 1 : 0;
            running_sum const falling = add_up(falls);
            detail::sequence s{b, 0, 0};
            if (there && fallen + falling.here == 0) s = table[b];
            fallen += falling.all;
            bool is_tuned = false;
            if (of_.tuned.tile_tokens > 0)
            {
                // Those whose context fits, in the order of the batch.
                running_sum const blocks =
                    add_up(static_cast<int>(::min(std::int64_t{of_.context_of(s) / block}, room + 1)));
                is_tuned = of_.may_be_tuned(s) && reached + blocks.here <= room;
                reached += blocks.all;
            }
            running_sum const counted =
                last ? falling : add_up(static_cast<int>(there ? of_.count(s, part, is_tuned) : 0));
            if (there) first[b + 1] = before + counted.here;
            before += counted.all;
            if (last && there && of_.held) of_.hold(s);
        }
        if (!last) return;
        for (portable::cleared_counters const& c : {of_.decoded_panels, of_.decoded_runs})
            for (std::int64_t i = threadIdx.x; i < c.count; i += Threads) c.first[i] = 0;
    }

private:
    struct running_sum
    {
        int here, all;
    };
    /// Over the block's threads up to this one, and over all of them.
    __device__ running_sum add_up(int x)
    {
        int const lane = threadIdx.x % 32, warp = threadIdx.x / 32;
        int(&sums)[warps] = m_.sums[turn_++ % 2]; // those before may still be read
        x = sum_to_lane(x);
        if (lane == 31) sums[warp] = x;
        __syncthreads();
        int all = 0;
#pragma unroll
        for (int w = 0; w < warps; ++w)
        {
            if (w == warp) x += all;
            all += sums[w];
        }
        return {x, all};
    }

    kernel const& of_;
    memory& m_;
    int turn_ = 0;
};

} // namespace spla::cuda
