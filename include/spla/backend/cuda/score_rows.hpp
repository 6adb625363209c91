// SPDX-FileCopyrightText: The spla authors
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once
#include "mass_queue.hpp"
#include "matrix_product.hpp"
#include "row_pieces.hpp"
#include "vector_ring.hpp"

/// 64 rows of one warpgroup and their estimates of blocks' masses (spec section 2): [q*q, q, q] times [variance, mean,
/// kept key] on matrix units, 64 blocks at a time. A first pass over all blocks finds each row's normaliser, a second
/// its normalised masses: masses of all blocks never need a place.
///
/// Masses are made vector by vector while matrix units are at work on the next. They take no more products ahead than
/// one vector's: who asks for more waits, and makes nothing meanwhile.
namespace spla::cuda
{

/// Metrics that these products serve.
template <class Metric>
inline constexpr bool scores_on_matrix_units = !Metric::reads_keys && (Metric::covariance == covariance_kind::none ||
                                                                       Metric::covariance == covariance_kind::diagonal);

/// Single: blocks are not cut into sub-blocks, and summaries are of 16 bits.
template <class Metric, int Width, bool Single>
class score_rows
{
    using scores = product<bfloat16, panel_blocks>;
    static constexpr int numbers = scores::registers;
    static constexpr bool has_variance = Metric::covariance == covariance_kind::diagonal;
    static constexpr bool cumulant = has_variance && Metric::expansion == expansion_kind::cumulant;
    static constexpr bool weighs = has_variance && !cumulant; ///< variances weigh masses of means
    static constexpr float infinity = __builtin_huge_valf();
    static constexpr int all_blocks = 0x7fffffff; ///< of a row that is not there: nothing is hidden, nothing counts
    static constexpr float far_exponent = 16.0f;  ///< leaves room for weights

public:
    __device__ score_rows(selection_sizes const& s, selection_places<Width> const& m) : s_(s), ring_(m, s.places) {}

    /// Queries of a thread's two rows, null where it has none; blocks: that compete, of each. scales: number of the
    /// first scale of the item's first vector.
    __device__ void open(bfloat16 const* const (&query)[2], int const (&blocks)[2], int scales)
    {
        scales_ = scales + threadIdx.x % 4 * 2;
        int const column = threadIdx.x % 4 * 2;
#pragma unroll
        for (int k = 0; k < Width / 4; ++k)
        {
            int const d = k / 4 * 16 + k % 4 / 2 * 8 + column;
            bfloat16 const* const from = query[k % 2];
            query_[k] = from && d < s_.width ? *reinterpret_cast<std::uint32_t const*>(from + d) : 0u;
        }
        // Matrix units take these registers as they find them: they are to be there before products open.
#pragma unroll
        for (int k = 0; k < Width / 4; ++k) asm volatile("" : "+r"(query_[k])::"memory");
        if constexpr (has_variance)
        {
#pragma unroll
            for (int k = 0; k < Width / 4; ++k)
            {
                float const low = low_number(query_[k]), high = high_number(query_[k]);
                squared_[k] = pack<bfloat16>(low * low, high * high);
            }
        }
#pragma unroll
        for (int i = 0; i < 2; ++i)
        {
            blocks_[i] = query[i] ? blocks[i] : all_blocks;
            reference_[i] = -infinity, sum_[i] = 0.0f;
        }
    }

    /// First pass: a panel's masses go into the rows' sums.
    template <bool Kept>
    __device__ void add_panel(int panel)
    {
        if constexpr (Single)
        {
            score_part<Kept, true>(panel, 0, nullptr);
            add_finite(mean_);
        }
        else
        {
            float mass[numbers];
            clear(mass);
            for (int part = 0; part < s_.sub_blocks; ++part)
            {
                score_part<Kept, true>(panel, part, mass);
                add(mass);
            }
            add_finite(mass);
        }
    }

    /// Between the passes: references become the logarithms of the sums.
    __device__ void normalise()
    {
#pragma unroll
        for (int i = 0; i < 2; ++i)
        {
            float top = reference_[i];
            top = fmaxf(top, __shfl_xor_sync(0xffffffffu, top, 1));
            top = fmaxf(top, __shfl_xor_sync(0xffffffffu, top, 2));
            float sum = reference_[i] == -infinity ? 0.0f : sum_[i] * exp2_fast(reference_[i] - top);
            sum += __shfl_xor_sync(0xffffffffu, sum, 1);
            sum += __shfl_xor_sync(0xffffffffu, sum, 2);
            // Without a finite score there is nothing to divide by: masses come out as infinite, not finite either.
            reference_[i] = sum > 0.0f ? top + log2f(sum) : -infinity;
        }
    }

    /// Second pass: a panel's normalised masses are handed over. exchanged: places of each row that are exchanged, by 0
    /// or 16.
    template <bool Kept>
    __device__ void store_panel(int panel, mass_queue<Width>& to, int const (&exchanged)[2])
    {
        if constexpr (Single)
        {
            score_part<Kept, false>(panel, 0, nullptr);
            hand_over(mean_, to, exchanged);
        }
        else
        {
            float mass[numbers];
            clear(mass);
            for (int part = 0; part < s_.sub_blocks; ++part)
            {
                score_part<Kept, false>(panel, part, nullptr);
                add(mass);
            }
            hand_over(mass, to, exchanged);
        }
    }

private:
    /// A mass as it goes into sums: NaN where the block's score is not finite, so that sums are not finite either.
    __device__ static float counted(float mass, float unit)
    {
        // Only without variances is it minus zero, where no logit is above minus infinity.
        if constexpr (!has_variance) mass = __float_as_int(mass) < 0 ? __int_as_float(0x7fffffff) : mass;
        return mass * unit;
    }
    __device__ void hand_over(float (&mass)[numbers], mass_queue<Width>& to, int const (&exchanged)[2])
    {
        float const unit[2] = {blocks_[0] == all_blocks ? 0.0f : stored_mass,
                               blocks_[1] == all_blocks ? 0.0f : stored_mass};
#pragma unroll
        for (int i = 0; i < numbers; ++i) mass[i] = counted(mass[i], unit[i % 4 / 2]);
        row_sums<Width>::put(mass, s_.rows_together, to, exchanged);
    }

    /// Masses of the stream's next sub-block into mean_; those of earlier ones of the same blocks are in `mass`, or
    /// there are none. First: the first pass.
    template <bool Kept, bool First>
    __device__ void score_part(int panel, int part, float* mass)
    {
        constexpr int vectors = 1 + has_variance + Kept;
        float offset[2];
#pragma unroll
        for (int i = 0; i < 2; ++i) offset[i] = First && reference_[i] == -infinity ? 0.0f : reference_[i];
        int const mean = ring_.wait(0), kept = Kept ? ring_.wait(vectors - 1) : 0;
        int variance = cumulant ? ring_.wait(1) : 0;
        open_products();
        product_with(mean_, query_, mean);
        if constexpr (cumulant) product_with(variance_, squared_, variance);
        if constexpr (Kept) product_with(kept_, query_, kept);
        wait_products<Kept>();
        ring_.let_go(mean);
        pin(mean_);
        scale(mean_, panel, part * vectors);
        if constexpr (cumulant)
        {
            ring_.let_go(variance);
            pin(variance_);
            scale(variance_, panel, part * vectors + 1);
            float const factor = s_.half_square / s_.scale * 1.4426950408889634f; // logits are not scaled yet
#pragma unroll
            for (int i = 0; i < numbers; ++i) mean_[i] = fmaf(variance_[i], factor, mean_[i]);
        }
        make_exponents(mean_, offset);
        if constexpr (First)
        {
            if (is_far(panel, mean_)) move_references<false>(panel, mean_, mass, offset);
        }
        raise(mean_);
        // Matrix units take few products ahead: asked for earlier, this one would hold up the above.
        if constexpr (weighs)
        {
            variance = ring_.wait(1);
            open_products();
            product_with(variance_, squared_, variance);
        }
        if constexpr (Kept)
        {
            wait_products<weighs>();
            ring_.let_go(kept);
            pin(kept_);
            scale(kept_, panel, part * vectors + vectors - 1);
            make_exponents(kept_, offset);
            if constexpr (First)
            {
                if (is_far(panel, kept_)) move_references<true>(panel, kept_, mass, offset);
            }
            raise(kept_);
        }
        if constexpr (weighs)
        {
            ring_.keep_above(variance);
            wait_products<0>();
            ring_.let_go(variance);
            pin(variance_);
            scale(variance_, panel, part * vectors + 1);
        }
        ring_.advance(vectors);
#pragma unroll
        for (int i = 0; i < numbers; ++i)
        {
            float weight = s_.others;
            if constexpr (weighs) weight = fmaf(variance_[i], s_.half_square * s_.others, s_.others);
            mean_[i] = Kept ? fmaf(mean_[i], weight, kept_[i]) : mean_[i] * weight;
        }
    }
    /// Products with vectors of 8 bits become those with what they stand for: by the kernel for sub-blocks alone, so
    /// that the usual one keeps its registers.
    __device__ void scale(float (&product)[numbers], int panel, int vector) const
    {
        if (Single || !s_.scales) return;
        float const* const from = s_.scales + vector * s_.scale_stride + scales_ + panel * panel_blocks;
        // Behind the blocks that compete there may be none, and no scales.
        int const rows[2] = {blocks_[0] == all_blocks ? 0 : blocks_[0], blocks_[1] == all_blocks ? 0 : blocks_[1]};
        int const here = ::max(rows[0], rows[1]) - panel * panel_blocks - static_cast<int>(threadIdx.x % 4 * 2);
#pragma unroll
        for (int j = 0; j < numbers / 4; ++j)
#pragma unroll
            for (int e = 0; e < 2; ++e)
            {
                float const one = 8 * j + e < here ? from[8 * j + e] : 0.0f;
                product[4 * j + e] *= one, product[4 * j + 2 + e] *= one;
            }
    }
    __device__ void product_with(float (&to)[numbers], std::uint32_t const (&rows)[Width / 4], int place)
    {
        // All threads of a warp have the address alike: said so, what follows from it is computed once a warp.
        std::uint32_t const address = __shfl_sync(0xffffffffu, ring_.address(place), 0);
        std::uint64_t const vector = panel_descriptor(address, 1024, 0), upper = vector >> 32 << 32;
#pragma unroll
        for (int k = 0; k < Width / 16; ++k)
        {
            std::uint32_t const on = (k / 4 * (panel_blocks * 128) + k % 4 * 32) / 16; // addresses are below 2^18
            scores::registers_by_rows(to, rows + 4 * k, upper | (static_cast<std::uint32_t>(vector) + on), k > 0);
        }
        close_products();
    }

    __device__ void make_exponents(float (&logit)[numbers], float const (&offset)[2]) const
    {
#pragma unroll
        for (int i = 0; i < numbers; ++i) logit[i] = fmaf(logit[i], s_.scale, -offset[i % 4 / 2]);
    }
    /// -0 where the logit is not above minus infinity: a sum stays -0 only where all are. With variances an infinite
    /// query has made a NaN of it; an overflow's minus infinity is no mass at all.
    __device__ static void raise(float (&exponent)[numbers])
    {
#pragma unroll
        for (int i = 0; i < numbers; ++i)
        {
            float const mass = exp2_fast(exponent[i]);
            if constexpr (has_variance)
                exponent[i] = mass;
            else
                exponent[i] = exponent[i] == -infinity ? -0.0f : mass;
        }
    }
    __device__ void add(float (&mass)[numbers]) const
    {
#pragma unroll
        for (int i = 0; i < numbers; ++i) mass[i] += mean_[i];
    }
    __device__ void add_finite(float const (&mass)[numbers])
    {
        float sum[2][2] = {};
#pragma unroll
        for (int i = 0; i < numbers; ++i) sum[i % 4 / 2][i % 2] += mass[i];
        float const row_sum[2] = {sum[0][0] + sum[0][1], sum[1][0] + sum[1][1]};
        if (fabsf(row_sum[0]) < infinity && fabsf(row_sum[1]) < infinity)
        {
            sum_[0] += row_sum[0], sum_[1] += row_sum[1];
            return;
        }
        float finite[2][2] = {};
#pragma unroll
        for (int i = 0; i < numbers; ++i) finite[i % 4 / 2][i % 2] += fabsf(mass[i]) < infinity ? mass[i] : 0.0f;
#pragma unroll
        for (int i = 0; i < 2; ++i) sum_[i] += finite[i][0] + finite[i][1];
    }

    /// Whether exponents are to be looked at one by one: some are of blocks that do not compete, or so large that
    /// masses might overflow, or there is no reference yet. Numbers as integers: where the largest is negative it is
    /// not found, nor asked for.
    __device__ bool is_far(int panel, float const (&exponent)[numbers]) const
    {
        int const end = (panel + 1) * panel_blocks;
        int largest[2] = {0, 0};
#pragma unroll
        for (int i = 0; i < numbers; i += 2)
            largest[i / 2 % 2] =
                __vimax3_s32(largest[i / 2 % 2], __float_as_int(exponent[i]), __float_as_int(exponent[i + 1]));
        return ::max(largest[0], largest[1]) >= __float_as_int(far_exponent) || blocks_[0] < end || blocks_[1] < end ||
               reference_[0] == -infinity || reference_[1] == -infinity;
    }
    /// A thread's references become the largest finite logits that it has met; exponents follow, and masses that were
    /// made with the earlier ones: in mean_ where Made, in `mass` (or there are none), in sum_.
    template <bool Made>
    __device__ void move_references(int panel, float (&exponent)[numbers], float* mass, float (&offset)[2])
    {
        int const column = panel * panel_blocks + threadIdx.x % 4 * 2;
        float top[2] = {-infinity, -infinity};
#pragma unroll
        for (int i = 0; i < numbers; ++i)
        {
            if (column + i / 4 * 8 + i % 2 >= blocks_[i % 4 / 2]) exponent[i] = -infinity;
            top[i % 4 / 2] = fmaxf(top[i % 4 / 2], exponent[i] < infinity ? exponent[i] : -infinity);
        }
        float shrink[2];
#pragma unroll
        for (int i = 0; i < 2; ++i)
        {
            bool const none = reference_[i] == -infinity;
            float by = none ? top[i] : fmaxf(top[i], 0.0f);
            if (by == -infinity)
                by = 0.0f; // still none
            else
                reference_[i] = offset[i] + by;
            shrink[i] = exp2_fast(-by);
            offset[i] += by, sum_[i] *= shrink[i], top[i] = by;
        }
#pragma unroll
        for (int i = 0; i < numbers; ++i)
        {
            exponent[i] -= top[i % 4 / 2];
            if constexpr (Made) mean_[i] *= shrink[i % 4 / 2];
            if constexpr (!Single) mass[i] *= shrink[i % 4 / 2];
        }
    }
    __device__ static void clear(float (&mass)[numbers])
    {
#pragma unroll
        for (int i = 0; i < numbers; ++i) mass[i] = -0.0f;
    }

    selection_sizes const& s_;
    vector_ring<Width> ring_;
    std::uint32_t query_[Width / 4], squared_[has_variance ? Width / 4 : 1];
    float mean_[numbers], variance_[has_variance ? numbers : 1], kept_[numbers];
    float reference_[2], sum_[2];
    int blocks_[2];
    int scales_;
};

} // namespace spla::cuda
