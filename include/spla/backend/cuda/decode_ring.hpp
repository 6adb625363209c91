// SPDX-FileCopyrightText: The spla authors
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once
#include "decode_shape.hpp"

/// What is loaded for a quad of warps, from the side that multiplies, and how its four warps meet.
namespace spla::cuda
{

template <class Memory>
class ring_reader
{
public:
    __device__ ring_reader(Memory& m, int worker) : m_(m), worker_(worker) {}

    __device__ typename Memory::worker& own() const { return m_.of[worker_]; }
    /// Goes on to the next run.
    __device__ decode_run const& next_run()
    {
        ++runs_;
        m_.found[worker_][runs_ % Memory::runs].wait(phase_parity(runs_, Memory::runs));
        return m_.run[worker_][runs_ % Memory::runs];
    }
    /// The run before, which nobody has let go.
    __device__ decode_run const& last_run() const { return m_.run[worker_][(runs_ - 1) % Memory::runs]; }
    __device__ void leave_last_run() { let_go(m_.done[worker_][(runs_ - 1) % Memory::runs]); }
    /// Goes on to the next place.
    __device__ decode_note next()
    {
        int const at = ++used_ % Memory::places;
        m_.full[worker_][at].wait(phase_parity(used_, Memory::places));
        decode_note const note = m_.note[worker_][at];
        place_ = note.place;
        return note;
    }
    __device__ typename Memory::place& place() const { return m_.at[place_]; }
    /// This warp has read the place.
    __device__ void leave() { let_go(m_.free[place_]); }

    __device__ void meet() const { sync_threads(1 + worker_, 128); }
    /// What each warp tells the others of its heads.
    __device__ auto& largest() const { return m_.largest[worker_]; }
    __device__ auto& weights() const { return m_.weights[worker_]; }
    __device__ int& merges() const { return m_.merges[worker_]; }

private:
    Memory& m_;
    int worker_, runs_ = -1, used_ = -1, place_ = 0;
};

} // namespace spla::cuda
