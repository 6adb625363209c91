// SPDX-FileCopyrightText: The spla authors
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once
#include "../../view_concepts.hpp"
#include "summary_output.hpp"

/// Mean, variances and kept keys of one complete block of 64 tokens, by a block of threads that keeps its keys in
/// registers: each is read once, whatever is summed over them (spec section 2).
namespace spla::cuda
{

template <class Element>
struct statistics_arguments
{
    detail::tensor<Element const> key;
    detail::summary_tensor summary;
    std::int64_t first_block;       ///< of a fixed batch
    detail::item_table blocks;      ///< of each sequence
    detail::sequence_table lengths; ///< of sequences that are not of a fixed batch
    int width;
    int size; ///< tokens of a sub-block: a power of two
    int kept;
};

/// A block of threads' work on one block and key head. `Lanes` threads, a group, share a key, and a group has `rows`
/// neighbouring keys. Sub-blocks smaller than that go in rounds: in each, a group has the keys of one.
template <class Element, int Lanes, bool Variances>
class block_statistics
{
public:
    static constexpr int threads = 128, tokens = 64, groups = threads / Lanes, rows = tokens / groups;
    static constexpr int columns = Lanes * piece_numbers;
    static_assert(rows == Lanes / 2, "distances are halved down to two lanes a row");

    struct memory
    {
        float4 partial[groups][2][Lanes]; ///< sums of a group; halves of pieces apart, for the banks
        float4 mean[groups][2][Lanes];    ///< of a round's sub-blocks
        float distance[tokens];
        int rank[tokens]; ///< among the kept keys of its sub-block; -1: not kept
    };

    __device__ block_statistics(statistics_arguments<Element> const& a, memory& m)
        : a_(a), m_(m), group_(threadIdx.x / Lanes), piece_(threadIdx.x % Lanes), step_(::min(a.size, rows))
    {
    }

    __device__ void summarise(std::int64_t sequence, std::int64_t block, std::int64_t head)
    {
        load(sequence, block * tokens, head);
        std::int64_t const first = a_.summary.number(sequence, block, head, 0, 0);
        std::uint32_t const lanes = ((1u << Lanes) - 1) << threadIdx.x % 32 / Lanes * Lanes;
        auto const number = [&](int sub, int v) { return first + sub * a_.summary.vectors + v; };
        std::uint32_t kept = 0; // this group's, one bit each
        if (a_.kept > 0)
        {
            find_kept();
#pragma unroll
            for (int r = 0; r < rows; ++r) kept |= m_.rank[group_ * rows + r] >= 0 ? 1u << r : 0;
            for (std::uint32_t rest = kept; rest != 0; rest &= rest - 1)
            {
                int const one = __ffs(static_cast<int>(rest)) - 1, row = group_ * rows + one;
                uint4 key{};
#pragma unroll
                for (int r = 0; r < rows; ++r) key = r == one ? key_[r] : key;
                float x[piece_numbers];
                unpack<Element>(key, x);
                store_piece<Lanes>(a_.summary, number(row / a_.size, 1 + Variances + m_.rank[row]), piece_, x, lanes);
            }
        }
        for (int round = 0; round * step_ < rows; ++round)
        {
            int const sub = (group_ * rows + round * step_) / a_.size;
            bool const stores = group_ * rows % a_.size == 0; // the sub-block's first group
            float mean[piece_numbers], variance[piece_numbers];
            average(rows_of(round) & ~kept, a_.size - a_.kept, mean, [&](float sum, float x, int) { return sum + x; });
            if (stores) store_piece<Lanes>(a_.summary, number(sub, 0), piece_, mean, lanes);
            if constexpr (Variances)
            {
                average(rows_of(round) & ~kept, a_.size - a_.kept, variance, [&](float sum, float x, int i) {
                    float const centred = x - mean[i];
                    return __fmaf_rn(centred, centred, sum);
                });
                if (stores) store_piece<Lanes>(a_.summary, number(sub, 1), piece_, variance, lanes);
            }
        }
    }

private:
    __device__ void load(std::int64_t sequence, std::int64_t token, std::int64_t head)
    {
        auto const row = a_.key.rows(sequence, token, head);
        bool const here = piece_ * piece_numbers < a_.width;
#pragma unroll
        for (int r = 0; r < rows; ++r)
            key_[r] =
                here ? reinterpret_cast<uint4 const*>(row(group_ * rows + r))[piece_] : uint4{}; // perhaps just written
    }
    /// Numbers of a key are made anew for each sum: all of them would be twice the registers of the keys, and half as
    /// many blocks of threads would read at a time.
    __device__ void forget_numbers()
    {
#pragma unroll
        for (int r = 0; r < rows; ++r)
            asm volatile("" : "+r"(key_[r].x), "+r"(key_[r].y), "+r"(key_[r].z), "+r"(key_[r].w));
    }

    /// This group's rows in a round, one bit each.
    __device__ std::uint32_t rows_of(int round) const
    {
        return ((1u << step_) - 1) << round * step_;
    }

    /// result = (sum of the numbers of the rows `chosen`, each added by `add`) / n, in each group those of its
    /// sub-block. A group's rows are added in ascending order, then groups in ascending order.
    template <class Add>
    __device__ void average(std::uint32_t chosen, int n, float (&result)[piece_numbers], Add const& add)
    {
        float sum[piece_numbers] = {};
        forget_numbers();
#pragma unroll
        for (int r = 0; r < rows; ++r)
        {
            float x[piece_numbers];
            unpack<Element>(key_[r], x);
            if (chosen >> r & 1)
            {
#pragma unroll
                for (int i = 0; i < piece_numbers; ++i) sum[i] = add(sum[i], x[i], i);
            }
        }
        m_.partial[group_][0][piece_] = float4{sum[0], sum[1], sum[2], sum[3]};
        m_.partial[group_][1][piece_] = float4{sum[4], sum[5], sum[6], sum[7]};
        __syncthreads();
        int const each = a_.size / step_; // groups of a sub-block: a power of two
        if (threadIdx.x < columns)
        {
            float const* const from = reinterpret_cast<float const*>(m_.partial) + threadIdx.x;
            float* to = reinterpret_cast<float*>(m_.mean) + threadIdx.x;
            float all = 0.0f;
#pragma unroll
            for (int g = 0; g < groups; ++g)
            {
                all += from[g * columns];
                if ((g + 1) & (each - 1)) continue;
                *to = all / static_cast<float>(n);
                to += columns;
                all = 0.0f;
            }
        }
        __syncthreads();
        float4 const low = m_.mean[group_ / each][0][piece_], high = m_.mean[group_ / each][1][piece_];
        result[0] = low.x, result[1] = low.y, result[2] = low.z, result[3] = low.w;
        result[4] = high.x, result[5] = high.y, result[6] = high.z, result[7] = high.w;
    }

    /// Ranks of all keys. Equal keys have equal distances: every row's are added up in the same way.
    __device__ void find_kept()
    {
        for (int round = 0; round * step_ < rows; ++round)
        {
            float mean[piece_numbers], distance[rows];
            average(rows_of(round), a_.size, mean, [](float sum, float x, int) { return sum + x; });
            forget_numbers();
#pragma unroll
            for (int r = 0; r < rows; ++r)
            {
                float x[piece_numbers];
                unpack<Element>(key_[r], x);
                distance[r] = 0.0f;
#pragma unroll
                for (int i = 0; i < piece_numbers; ++i)
                {
                    float const centred = x[i] - mean[i];
                    distance[r] = __fmaf_rn(centred, centred, distance[r]);
                }
            }
            // Lanes give each other half of their rows, until two lanes have one.
#pragma unroll
            for (int half = rows / 2, far = Lanes / 2; half >= 1; half /= 2, far /= 2)
            {
                bool const upper = threadIdx.x & far;
#pragma unroll
                for (int i = 0; i < half; ++i)
                {
                    float const mine = upper ? distance[i + half] : distance[i];
                    float const other = upper ? distance[i] : distance[i + half];
                    distance[i] = mine + __shfl_xor_sync(0xffffffffu, other, far);
                }
            }
            distance[0] += __shfl_xor_sync(0xffffffffu, distance[0], 1);
            int const row = piece_ / 2;
            if (piece_ % 2 == 0 && rows_of(round) >> row & 1) m_.distance[group_ * rows + row] = distance[0];
        }
        __syncthreads();
        for (int sub = threadIdx.x / 32; sub * a_.size < tokens; sub += threads / 32) rank_keys(sub * a_.size);
        __syncthreads();
    }
    /// By one warp, two keys a lane: the farthest not yet kept; ties to the lower token.
    __device__ void rank_keys(int first)
    {
        int const lane = threadIdx.x % 32;
        std::uint32_t far[2]; // ordered as distances are, which have no sign; 0: not to be kept
        int rank[2] = {-1, -1};
#pragma unroll
        for (int h = 0; h < 2; ++h)
        {
            int const t = lane + 32 * h;
            far[h] = t < a_.size ? (__float_as_uint(m_.distance[first + t]) & 0x7fffffffu) + 1 : 0;
        }
        for (int i = 0; i < a_.kept; ++i)
        {
            std::uint32_t best = ::max(far[0], far[1]);
#pragma unroll
            for (int other = 16; other > 0; other /= 2) best = ::max(best, __shfl_xor_sync(0xffffffffu, best, other));
            std::uint32_t const low = __ballot_sync(0xffffffffu, far[0] == best);
            std::uint32_t const high = __ballot_sync(0xffffffffu, far[1] == best);
            int const token = low ? __ffs(static_cast<int>(low)) - 1 : __ffs(static_cast<int>(high)) + 31;
#pragma unroll
            for (int h = 0; h < 2; ++h)
                if (token == lane + 32 * h) far[h] = 0, rank[h] = i;
        }
#pragma unroll
        for (int h = 0; h < 2; ++h)
            if (lane + 32 * h < a_.size) m_.rank[first + lane + 32 * h] = rank[h];
    }

    statistics_arguments<Element> const& a_;
    memory& m_;
    int group_, piece_;
    int step_;        ///< rows of a group in a round
    uint4 key_[rows]; ///< this lane's piece of each
};

} // namespace spla::cuda
