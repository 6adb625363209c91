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
    __device__ unmerged_run run(int n) const
    {
        return {first_ + static_cast<std::int64_t>(n) * a_.shape.run_numbers};
    }
    __device__ void sum_runs()
    {
        int const lane = threadIdx.x % 32, d = lane * 4;
        largest_ = -__builtin_huge_valf();
        for (int n = lane; n < runs_; n += 32)
        {
            float const top = __ldcg(run(n).largest() + row_);
            if (__ldcg(run(n).branches()) & has_exact) largest_ = fmaxf(largest_, top);
        }
        largest_ = over_lanes<32>(largest_, [](float a, float b) { return fmaxf(a, b); });
        bool const here = d < a_.shape.value_dim;
        int const at = row_ * a_.shape.value_dim + (here ? d : 0);
#pragma unroll 1
        for (int first = 0; first < runs_; first += 32)
        {
            // What this lane's run is worth; then one run after the other.
            int branches = 0;
            float sum = 0.0f, factor = 0.0f;
            if (first + lane < runs_)
            {
                auto const mine = run(first + lane);
                float const all = __ldcg(mine.sum() + row_), top = __ldcg(mine.largest() + row_);
                branches = __ldcg(mine.branches());
                if (branches & has_exact)
                    sum = all, factor = sum == 0.0f ? 0.0f : exp2_fast((top - largest_) * a_.shape.scale);
            }
            int const count = runs_ - first < 32 ? runs_ - first : 32;
#pragma unroll 1
            for (int n = 0; n < count; n += at_once)
            {
                // All are on their way before the first is waited for; what was not written is not used.
                four exact[at_once], residual[at_once];
#pragma unroll
                for (int i = 0; i < at_once; ++i)
                {
                    auto const other = run(first + (n + i < count ? n + i : n));
                    exact[i] = four::load(other.exact() + at);
                    if (a_.shape.residual)
                        residual[i] = four::load(other.residual(a_.shape.rows, a_.shape.value_dim) + at);
                }
#pragma unroll
                for (int i = 0; i < at_once; ++i)
                {
                    float const weight = __shfl_sync(0xffffffffu, factor, n + i);
                    int const has = __shfl_sync(0xffffffffu, branches, n + i);
                    sum_ += __shfl_sync(0xffffffffu, sum, n + i) * weight;
                    if (here && weight != 0.0f) exact_.add(exact[i], weight);
                    if (here && (has & has_residual)) residual_.add(residual[i], 1.0f);
                }
            }
        }
    }

    static constexpr int at_once = 4;
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
