// SPDX-FileCopyrightText: The spla authors
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once
#include "selection_shape.hpp"

/// How masses go from the warpgroups that score to the warps that select: summed over neighbouring rows of a list, then
/// through a queue of panels in shared memory.
namespace spla::cuda
{

/// Masses are stored times 2^-26: those below 2^-100 are then subnormal, and become zero in sums.
inline constexpr float stored_mass = 0x1p-26f;

inline __device__ float add_counted(float sum, float mass)
{
    float result;
    asm("add.ftz.f32 %0, %1, %2;" : "=f"(result) : "f"(sum), "f"(mass));
    return result;
}

/// Panels of masses on their way from a warpgroup that scores to the warps that select, as either side sees them.
template <int Width>
class mass_queue
{
    using memory = selection_memory<Width>;

public:
    __device__ mass_queue(selection_places<Width> const& m, selection_sizes const& s, int party)
        : m_(m), s_(s), party_(party)
    {
    }

    /// Row of the panel at hand.
    __device__ float* row(int n) const
    {
        return m_.mass + ((party_ * s_.panels_ahead + at_) * s_.panel_rows + n) * memory::mass_stride;
    }
    __device__ void wait_full() const { m_.fixed.masses_full[party_][at_].wait(parity_); }
    __device__ void wait_free() const { m_.fixed.masses_free[party_][at_].wait(parity_ ^ 1); }
    __device__ void hand_over() const { m_.fixed.masses_full[party_][at_].arrive(); }
    __device__ void hand_back() const { m_.fixed.masses_free[party_][at_].arrive(); }
    __device__ void advance()
    {
        if (++at_ == s_.panels_ahead) at_ = 0, parity_ ^= 1;
    }

private:
    selection_places<Width> const& m_;
    selection_sizes const& s_;
    int party_, at_ = 0;
    std::uint32_t parity_ = 0;
};

/// Number of a scoring thread's row i, of two.
inline __device__ int score_row(int i)
{
    return threadIdx.x % 128 / 32 * 16 + threadIdx.x % 32 / 4 + 8 * i;
}

/// A scoring thread's masses of a panel, summed over up to eight rows of a list, each of them of the columns that the
/// thread keeps, and put into the queue: always in one order.
template <int Width>
class row_sums
{
    static constexpr int numbers = panel_blocks / 2; ///< of a thread: two rows' share

public:
    /// exchanged: places of each row that are exchanged, by 0 or 16.
    __device__ static void put(float (&mass)[numbers], int together, mass_queue<Width>& to, int const (&exchanged)[2])
    {
        if (together == 1)
            store<1>(mass, to, exchanged);
        else if (together == 4)
        {
            add_rows<8, numbers>(mass), add_rows<4, numbers / 2>(mass);
            store<4>(mass, to, exchanged);
        }
        else if (together == 2)
        {
            add_rows<4, numbers>(mass);
            store<2>(mass, to, exchanged);
        }
        else
        {
            add_rows<16, numbers>(mass), add_rows<8, numbers / 2>(mass), add_rows<4, numbers / 4>(mass);
            store<8>(mass, to, exchanged);
        }
        to.hand_over();
        to.advance();
    }

private:
    /// Two threads with the same columns of two rows: each keeps the sums of one half of them, the first of its
    /// numbers.
    template <int Far, int Count>
    __device__ static void add_rows(float (&mass)[numbers])
    {
        bool const upper = (threadIdx.x & Far) != 0;
#pragma unroll
        for (int i = 0; i < Count / 2; ++i)
        {
            float const other = __shfl_xor_sync(0xffffffffu, upper ? mass[i] : mass[i + Count / 2], Far);
            mass[i] = add_counted(upper ? mass[i + Count / 2] : mass[i], other);
        }
    }
    template <int Together>
    __device__ static void store(float const (&mass)[numbers], mass_queue<Width> const& to, int const (&exchanged)[2])
    {
        constexpr int count = numbers / Together; // that a thread keeps
        // Of its columns, in runs of 8: those that its part in sums has left it.
        int part = 0;
#pragma unroll
        for (int far = 4 * Together / 2, runs = numbers / 8; far >= 4; far /= 2, runs /= 2)
            part += (threadIdx.x & far) != 0 ? runs : 0;
        int const first = mass_place(part * 8 + threadIdx.x % 4 * 2);
        to.wait_free();
#pragma unroll
        for (int i = 0; i < 2; ++i)
        {
            float* const at = to.row(score_row(i) / Together) + (first ^ exchanged[i]);
#pragma unroll
            for (int j = 0; j < count / 4; ++j)
                *reinterpret_cast<float2*>(at + mass_place(8 * j)) =
                    float2{mass[4 * j + 2 * i], mass[4 * j + 2 * i + 1]};
        }
    }
};

} // namespace spla::cuda
