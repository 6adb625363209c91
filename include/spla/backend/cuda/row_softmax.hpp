// SPDX-FileCopyrightText: The spla authors
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once
#include "exact_shape.hpp"
#include "row_output.hpp"

/// Softmax of rows whose logits come in steps (spec section 3): weights exp2(scale x - reference) and their sums, the
/// reference being a row's largest scaled logit so far: its weight is 1, which rounding to 16 bits leaves as it is. A
/// thread has two rows of a warp's 16, as accumulators of matrix units lie, and `Registers` logits of a step.
namespace spla::cuda
{

template <int Registers, int Blocks>
struct row_softmax
{
    static constexpr float infinity = __builtin_huge_valf();
    static constexpr int block_logits = Registers / Blocks; ///< of a thread
    static constexpr float dominating_share = 0.5f;         ///< a step's weights, of all before, where one may dominate

    /// What a thread's rows have to do with a step.
    struct visits
    {
        bool here[2][Blocks]; ///< row, block
        bool per_key, last;
        __device__ visits(step_note<Blocks> const& note, int const (&token)[2]) : per_key(note.per_key), last(note.last)
        {
#pragma unroll
            for (int i = 0; i < 2; ++i)
#pragma unroll
                for (int h = 0; h < Blocks; ++h) here[i][h] = note.tokens[h][token[i] / 32] >> token[i] % 32 & 1;
        }
    };

    float scale;        ///< of logits, times log2(e)
    int token[2];       ///< of the tile, of this thread's rows
    float reference[2]; ///< scaled logit whose weight is 1; -infinity until a row has seen a key
    float sum[2];       ///< of this thread's weights

    __device__ explicit row_softmax(float scale) : scale(scale) {}
    /// This thread's first of every eight columns.
    __device__ static int column()
    {
        return threadIdx.x % 4 * 2;
    }
    /// Of row i, all of whose weights sum to `total`.
    __device__ float lse(int i, float total) const
    {
        return total == 0.0f ? -infinity : reference[i] * 0.69314718f + logf(total);
    }

    /// Before a tile's first step.
    __device__ void begin()
    {
#pragma unroll
        for (int i = 0; i < 2; ++i) reference[i] = -infinity, sum[i] = 0.0f;
    }
    /// A step's logits become weights, zero where a row does not see the key. True where what was summed before
    /// shrinks, row i by shrink[i].
    __device__ bool weigh(float (&x)[Registers], visits const& v, float (&shrink)[2])
    {
        bool const moves = move_references(x, v, shrink);
#pragma unroll
        for (int i = 0; i < 2; ++i)
        {
            float const offset = reference[i] == -infinity ? 0.0f : reference[i];
            float offsets[Blocks];
#pragma unroll
            for (int h = 0; h < Blocks; ++h) offsets[h] = v.here[i][h] ? offset : infinity;
            float part[2] = {0.0f, 0.0f};
#pragma unroll
            for (int j = 0; j < Registers; j += 4)
#pragma unroll
                for (int e = 0; e < 2; ++e)
                {
                    float& w = x[j + 2 * i + e];
                    w = exp2_fast(w * scale - offsets[j / block_logits]);
                    part[e] += w;
                }
            sum[i] = sum[i] * shrink[i] + (part[0] + part[1]);
        }
        return moves;
    }
    /// Keys after a row's token get a logit of -infinity.
    __device__ void hide_later_keys(float (&x)[Registers], visits const& v, step_note<Blocks> const& note) const
    {
#pragma unroll
        for (int i = 0; i < 2; ++i)
#pragma unroll
            for (int h = 0; h < Blocks; ++h)
            {
                int const keys = v.here[i][h] ? note.first + token[i] - note.first_key[h] + 1 : 0;
#pragma unroll
                for (int j = 0; j < 8; ++j)
#pragma unroll
                    for (int e = 0; e < 2; ++e)
                    {
                        float& logit = x[h * block_logits + 4 * j + 2 * i + e];
                        logit = 8 * j + column() + e < keys ? logit : -infinity;
                    }
            }
    }

private:
    /// Of this thread's logits in row i, in blocks that the row visits: the largest (Sign 1), or the least (Sign -1),
    /// as integers, of which Hopper compares three at once. Numbers that are not negative are in order as integers,
    /// negative ones the other way round.
    template <int Sign>
    __device__ static float outermost(float const (&x)[Registers], visits const& v, int i)
    {
        auto const outer = [](int a, int b, int c) { return Sign > 0 ? __vimax3_s32(a, b, c) : __vimin3_s32(a, b, c); };
        int const none = __float_as_int(-infinity);
        int found = none;
#pragma unroll
        for (int h = 0; h < Blocks; ++h)
        {
            int most[2]; // chains far enough apart that none waits for itself
#pragma unroll
            for (int e = 0; e < 2; ++e)
            {
                auto const logit = [&](int j) { return __float_as_int(x[h * block_logits + 4 * j + 2 * i + e]); };
                most[e] = outer(logit(0), logit(1), logit(2));
#pragma unroll
                for (int j = 3; j < 7; j += 2) most[e] = outer(most[e], logit(j), logit(j + 1));
            }
            int const last = 4 * 7 + 2 * i;
            most[0] = outer(most[0], __float_as_int(x[h * block_logits + last]),
                            __float_as_int(x[h * block_logits + last + 1]));
            int const of_block = v.here[i][h] ? outer(most[0], most[1], most[1]) : none;
            found = h == 0 ? of_block : outer(found, of_block, of_block);
        }
        return __int_as_float(found);
    }
    /// References become the largest scaled logits so far. shrink: what earlier weights lose. Does any row's, of the
    /// warp's?
    __device__ bool move_references(float const (&x)[Registers], visits const& v, float (&shrink)[2])
    {
        static_assert(block_logits == 32, "eight columns of four logits a block");
        float best[2];
        bool unsure = false, moves = false;
#pragma unroll
        for (int i = 0; i < 2; ++i)
        {
            best[i] = outermost<1>(x, v, i);
            unsure = unsure || (best[i] < 0.0f && reference[i] < 0.0f);
        }
        if (__any_sync(0xffffffffu, unsure)) // all logits are negative, and matter
        {
#pragma unroll
            for (int i = 0; i < 2; ++i)
                if (best[i] < 0.0f) best[i] = outermost<-1>(x, v, i);
        }
#pragma unroll
        for (int i = 0; i < 2; ++i)
        {
            shrink[i] = 1.0f;
            best[i] *= scale;
            moves = moves || best[i] > reference[i];
        }
        moves = __any_sync(0xffffffffu, moves);
        if (!moves) return false;
#pragma unroll
        for (int i = 0; i < 2; ++i) best[i] = fmaxf(best[i], __shfl_xor_sync(0xffffffffu, best[i], 1));
#pragma unroll
        for (int i = 0; i < 2; ++i) best[i] = fmaxf(best[i], __shfl_xor_sync(0xffffffffu, best[i], 2));
#pragma unroll
        for (int i = 0; i < 2; ++i)
        {
            if (!(best[i] > reference[i])) continue;
            shrink[i] = exp2_fast(reference[i] - best[i]);
            reference[i] = best[i];
        }
        return true;
    }
};

} // namespace spla::cuda
