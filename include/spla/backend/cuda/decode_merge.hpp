// SPDX-FileCopyrightText: The spla authors
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once
#include "decode_shape.hpp"

/// A decoded token's runs merged, ascending, and both branches combined into its outputs (spec sections 3 and 5).
namespace spla::cuda
{

/// Over a warp; the same bits in each lane.
inline __device__ float warp_sum(float x)
{
    return over_lanes<32>(x, [](float a, float b) { return a + b; });
}

/// Four numbers of a row at once; 1 / rms is of the whole row, a lane having four numbers of it.
struct four
{
    float x[4];

    static __device__ four load(float const* from)
    {
        float4 const f = __ldcg(reinterpret_cast<float4 const*>(from)); // written by other multiprocessors
        return {{f.x, f.y, f.z, f.w}};
    }
    __device__ void add(four const& other, float factor)
    {
#pragma unroll
        for (int i = 0; i < 4; ++i) x[i] += other.x[i] * factor;
    }
    __device__ float inverse_rms(detail::combination_rule<float> const& rule, int width) const
    {
        if (rule.kind != combination_kind::rms_sum) return 1.0f;
        float const squares = warp_sum((x[0] * x[0] + x[1] * x[1]) + (x[2] * x[2] + x[3] * x[3]));
        float const square = squares / static_cast<float>(width) + rule.epsilon;
        return square == 0.0f ? 0.0f : 1.0f / sqrtf(square);
    }
    __device__ void store(detail::output_row<bfloat16> const& to, int d) const
    {
        if (to.wide && reinterpret_cast<std::uintptr_t>(to.data) % 16 == 0)
            *reinterpret_cast<float4*>(static_cast<float*>(to.data) + d) = float4{x[0], x[1], x[2], x[3]};
        else if (!to.wide && reinterpret_cast<std::uintptr_t>(to.data) % 8 == 0)
            *reinterpret_cast<uint2*>(static_cast<bfloat16*>(to.data) + d) =
                uint2{pack<bfloat16>(x[0], x[1]), pack<bfloat16>(x[2], x[3])};
        else
        {
#pragma unroll
            for (int i = 0; i < 4; ++i) to.set(d + i, x[i]);
        }
    }
};

/// One row of an item, by one warp.
class row_merge
{
public:
    __device__ row_merge(decode_arguments const& a, int first_run, int runs, int row)
        : a_(a), first_(a.unmerged + static_cast<std::int64_t>(first_run) * a.shape.run_numbers), runs_(runs), row_(row)
    {
    }
    __device__ void merge_into(int sequence, int token, int head)
    {
        sum_runs();
        auto const& out = a_.out;
        int const width = a_.shape.value_dim, d = threadIdx.x % 32 * 4;
        float const inverse = sum_ == 0.0f ? 0.0f : 1.0f / sum_;
#pragma unroll
        for (int i = 0; i < 4; ++i) exact_.x[i] *= inverse;
        float const exact_scale = exact_.inverse_rms(out.rule, width);
        float const scale = a_.shape.residual ? residual_.inverse_rms(out.rule, width) : 0.0f;
        if (out.lse && d == 0)
            out.lse_of(sequence, token, head) =
                sum_ == 0.0f ? -__builtin_huge_valf() : largest_ * (a_.shape.scale * 0.69314718f) + logf(sum_);
        if (d >= width) return;
        if (out.sparse) exact_.store(out.sparse.row(sequence, token, head), d);
        if (out.residual && a_.shape.residual) residual_.store(out.residual.row(sequence, token, head), d);
        if (!out.output) return;
        four both;
#pragma unroll
        for (int i = 0; i < 4; ++i) both.x[i] = out.rule(head, d + i, exact_.x[i], exact_scale, residual_.x[i], scale);
        both.store(out.output.row(sequence, token, head), d);
    }

private:
    static constexpr int at_once = 4;

    __device__ unmerged_run run(int n) const
    {
        return {first_ + static_cast<std::int64_t>(n) * a_.shape.run_numbers};
    }
    /// What this lane's run of 32 is worth.
    struct worth
    {
        float top = -__builtin_huge_valf(), sum = 0.0f;
    };
    __device__ worth of_run(int n) const
    {
        if (n >= runs_) return {};
        auto const mine = run(n);
        return {__ldcg(mine.largest() + row_), __ldcg(mine.sum() + row_)};
    }
    /// Rows of neighbouring runs, on their way together.
    struct rows_of_runs
    {
        four exact[at_once], residual[at_once];
    };
    __device__ void load(int first, int at, rows_of_runs& to) const
    {
#pragma unroll
        for (int i = 0; i < at_once; ++i)
        {
            auto const other = run(first + i < runs_ ? first + i : first);
            to.exact[i] = four::load(other.exact() + at);
            if (a_.shape.residual) to.residual[i] = four::load(other.residual(a_.shape.rows, a_.shape.value_dim) + at);
        }
    }
    __device__ void sum_runs()
    {
        int const lane = threadIdx.x % 32, d = lane * 4;
        bool const here = d < a_.shape.value_dim;
        int const at = row_ * a_.shape.value_dim + (here ? d : 0);
        worth mine; // of 32 runs
        float factor = 0.0f;
#pragma unroll 1
        for (int n = 0; n < runs_; n += at_once)
        {
            bool const next = n % 32 == 0;
            if (next) mine = of_run(n + lane);
            rows_of_runs rows;
            load(n, at, rows); // on their way while factors are found
            if (n == 0) find_largest(mine);
            if (next)
            {
                factor = mine.sum != 0.0f ? exp2_fast((mine.top - largest_) * a_.shape.scale) : 0.0f;
                if (mine.sum != mine.sum) factor = mine.sum; // NaN, even of a run that has no largest
            }
#pragma unroll
            for (int i = 0; i < at_once; ++i)
            {
                float const weight = __shfl_sync(0xffffffffu, factor, n + i);
                float const sum = __shfl_sync(0xffffffffu, mine.sum, n + i);
                if (weight != 0.0f) sum_ += sum * weight;
                if (here && weight != 0.0f) exact_.add(rows.exact[i], weight);
                if (here && a_.shape.residual && n + i < runs_) residual_.add(rows.residual[i], 1.0f);
            }
        }
    }
    /// first: what the first 32 runs are worth, one a lane.
    __device__ void find_largest(worth const& first)
    {
        largest_ = first.top;
        for (int n = static_cast<int>(threadIdx.x % 32) + 32; n < runs_; n += 32)
            largest_ = fmaxf(largest_, of_run(n).top);
        largest_ = over_lanes<32>(largest_, [](float a, float b) { return fmaxf(a, b); });
    }

    decode_arguments const& a_;
    float* first_;
    int runs_, row_;
    float largest_, sum_ = 0.0f;
    four exact_{}, residual_{};
};

/// The rows of an item, by a block of threads.
inline __device__ void merge_runs(decode_arguments const& a, decode_item const& item)
{
    auto const& shape = a.shape;
    for (int row = static_cast<int>(threadIdx.x) / 32; row < shape.rows; row += decode_warps)
    {
        int const head = item.part * shape.rows + row;
        if (head >= shape.group) return;
        row_merge(a, item.first_run, item.runs, row)
            .merge_into(item.sequence, item.token, item.head * shape.group + head);
    }
}

} // namespace spla::cuda
