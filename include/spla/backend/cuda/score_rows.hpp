// SPDX-FileCopyrightText: The spla authors
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once
#include "best_blocks.hpp"
#include "matrix_product.hpp"

/// 64 rows of one warpgroup and their estimates of blocks' masses (spec section 2): [q, q*q, q] times [mean, variance,
/// kept key] on matrix units, 64 blocks at a time. A first pass over all blocks finds each row's normaliser, a second
/// its normalised masses: masses of all blocks never need a place.
namespace spla::cuda
{

/// Metrics that these products serve.
template <class Metric>
inline constexpr bool scores_on_matrix_units = !Metric::reads_keys && (Metric::covariance == covariance_kind::none ||
                                                                       Metric::covariance == covariance_kind::diagonal);

/// Takes vectors of summaries as they come.
template <int Width>
class vector_ring
{
public:
    __device__ vector_ring(selection_places<Width> const& m, int places) : m_(m), places_(places) {}

    /// Shared address of the next vector's panel, once it is there.
    __device__ std::uint32_t next()
    {
        m_.fixed.full[place_].wait(parity_);
        std::uint32_t const address = shared_address(m_.vector[place_]);
        if (++place_ == places_) place_ = 0, parity_ ^= 1;
        return address;
    }
    /// This warp has read the last `count` vectors.
    __device__ void let_go(int count)
    {
        __syncwarp();
        if (threadIdx.x % 32 != 0) return;
        for (int i = count; i > 0; --i) m_.fixed.free[place_ >= i ? place_ - i : place_ - i + places_].arrive();
    }

private:
    selection_places<Width> const& m_;
    int places_, place_ = 0;
    std::uint32_t parity_ = 0;
};

template <class Metric, int Width>
class score_rows
{
    using scores = product<bfloat16, panel_blocks>;
    static constexpr int numbers = scores::registers;
    static constexpr bool has_variance = Metric::covariance == covariance_kind::diagonal;
    static constexpr float infinity = __builtin_huge_valf();

public:
    __device__ score_rows(selection_sizes const& s, selection_places<Width> const& m) : s_(s), ring_(m, s.places) {}

    /// Number of a thread's row i.
    __device__ static int row(int i) { return threadIdx.x % 128 / 32 * 16 + threadIdx.x % 32 / 4 + 8 * i; }

    /// Queries of a thread's two rows, null where it has none; blocks: that compete, of each.
    __device__ void open(bfloat16 const* const (&query)[2], int const (&blocks)[2])
    {
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
                float const low = __uint_as_float(query_[k] << 16), high = __uint_as_float(query_[k] & 0xffff0000u);
                squared_[k] = pack<bfloat16>(low * low, high * high);
            }
        }
#pragma unroll
        for (int i = 0; i < 2; ++i) blocks_[i] = blocks[i], reference_[i] = -infinity, sum_[i] = 0.0f;
    }

    /// Starts the products of the stream's next sub-block: means, variances and kept keys.
    template <bool Kept>
    __device__ void start()
    {
        product_with(mean_, query_);
        if constexpr (has_variance) product_with(variance_, squared_);
        if constexpr (Kept) product_with(kept_, query_);
        close_products();
    }

    /// First pass: a panel's masses go into the rows' sums. Its first products are started, and the next panel's are
    /// when this returns.
    template <bool Kept>
    __device__ void add_panel(int panel)
    {
        float mass[numbers];
        clear(mass);
        for (int part = 0; part < s_.sub_blocks; ++part)
        {
            finish<Kept>();
            hide_other_blocks(panel);
            float shrink[2], offset[2];
            move_references<Kept>(shrink);
#pragma unroll
            for (int i = 0; i < 2; ++i) offset[i] = reference_[i] == -infinity ? 0.0f : reference_[i];
            if (part > 0)
            {
#pragma unroll
                for (int i = 0; i < numbers; ++i) mass[i] *= shrink[i % 4 / 2];
            }
            add_masses<Kept>(mass, offset);
            start<Kept>();
        }
        float sum[2][2] = {};
#pragma unroll
        for (int i = 0; i < numbers; ++i) sum[i % 4 / 2][i % 2] += fabsf(mass[i]) < infinity ? mass[i] : 0.0f;
#pragma unroll
        for (int i = 0; i < 2; ++i) sum_[i] += sum[i][0] + sum[i][1];
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

    /// Second pass: a panel's normalised masses to shared memory, once ready() says that it may be written. The next
    /// panel's first products are started when this returns, where there is More.
    template <bool Kept, bool More, int Stride, class Ready>
    __device__ void store_panel(float (&to)[score_rows_each][Stride], Ready ready)
    {
        float mass[numbers];
        clear(mass);
        for (int part = 0; part < s_.sub_blocks - !More; ++part)
        {
            finish<Kept>();
            add_masses<Kept>(mass, reference_);
            start<Kept>();
        }
        if constexpr (!More)
        {
            finish<Kept>();
            add_masses<Kept>(mass, reference_);
        }
        ready();
        int const column = threadIdx.x % 4 * 2;
#pragma unroll
        for (int j = 0; j < numbers / 4; ++j)
#pragma unroll
            for (int i = 0; i < 2; ++i)
            {
                float const* const m = mass + 4 * j + 2 * i;
                *reinterpret_cast<float2*>(&to[row(i)][8 * j + column]) = float2{counted(m[0]), counted(m[1])};
            }
    }

private:
    /// A mass as it goes into sums. Only a finite score's is neither negative zero, nor infinite, nor NaN.
    __device__ static float counted(float mass)
    {
        if (__float_as_uint(mass) >= 0x7f800000u) return no_mass;
        return mass < 0x1p-100f ? 0.0f : mass;
    }

    template <bool Kept>
    __device__ void finish()
    {
        wait_products<0>();
        pin(mean_);
        if constexpr (has_variance) pin(variance_);
        if constexpr (Kept) pin(kept_);
        ring_.let_go(1 + has_variance + Kept);
    }
    __device__ void product_with(float (&to)[numbers], std::uint32_t const (&rows)[Width / 4])
    {
        std::uint64_t const vector = panel_descriptor(ring_.next(), 1024, 0);
        open_products();
#pragma unroll
        for (int k = 0; k < Width / 16; ++k)
            scores::registers_by_rows(to, rows + 4 * k, vector + (k / 4 * (panel_blocks * 128) + k % 4 * 32) / 16,
                                      k > 0);
    }

    __device__ void hide_other_blocks(int panel)
    {
        int const first = panel * panel_blocks;
        if (blocks_[0] >= first + panel_blocks && blocks_[1] >= first + panel_blocks) return;
        int const column = first + threadIdx.x % 4 * 2;
#pragma unroll
        for (int i = 0; i < numbers; ++i)
            if (column + i / 4 * 8 + i % 2 >= blocks_[i % 4 / 2])
            {
                mean_[i] = kept_[i] = -infinity;
                if constexpr (has_variance) variance_[i] = 0.0f;
            }
    }

    /// A mean's logit before it is scaled.
    __device__ float raw_logit(int i) const
    {
        if constexpr (has_variance && Metric::expansion == expansion_kind::cumulant)
            return fmaf(variance_[i], s_.half_square / s_.scale * 1.4426950408889634f, mean_[i]);
        return mean_[i];
    }

    /// Each thread's own: the largest finite logit that it has met.
    template <bool Kept>
    __device__ void move_references(float (&shrink)[2])
    {
        float top[2] = {-infinity, -infinity};
#pragma unroll
        for (int i = 0; i < numbers; ++i)
        {
            float& best = top[i % 4 / 2];
            best = fmaxf(best, raw_logit(i));
            if constexpr (Kept) best = fmaxf(best, kept_[i]);
        }
        if (top[0] == infinity || top[1] == infinity) find_finite<Kept>(top);
#pragma unroll
        for (int i = 0; i < 2; ++i)
        {
            float const best = fmaxf(reference_[i], top[i] * s_.scale);
            shrink[i] = reference_[i] == -infinity ? 1.0f : exp2_fast(reference_[i] - best);
            sum_[i] *= shrink[i];
            reference_[i] = best;
        }
    }
    template <bool Kept>
    __device__ void find_finite(float (&top)[2]) const
    {
        top[0] = top[1] = -infinity;
        auto const finite = [](float x) { return x < infinity ? x : -infinity; };
#pragma unroll
        for (int i = 0; i < numbers; ++i)
        {
            float& best = top[i % 4 / 2];
            best = fmaxf(best, finite(raw_logit(i)));
            if constexpr (Kept) best = fmaxf(best, finite(kept_[i]));
        }
    }

    /// Mass of a part relative to 2^offset. -0 where no logit is above minus infinity: a sum stays -0 only where all
    /// are.
    template <bool Kept>
    __device__ float mass_of(int i, float offset) const
    {
        float const logit = raw_logit(i);
        float weight = s_.others;
        if constexpr (has_variance && Metric::expansion == expansion_kind::taylor)
            weight = fmaf(variance_[i], s_.half_square * s_.others, s_.others);
        float mass = exp2_fast(fmaf(logit, s_.scale, -offset)) * weight, top = logit;
        if constexpr (Kept)
        {
            mass += exp2_fast(fmaf(kept_[i], s_.scale, -offset));
            top = fmaxf(top, kept_[i]);
        }
        // With variances an infinite query has made a NaN of it; an overflow's minus infinity is no mass at all.
        if constexpr (!has_variance) mass = top == -infinity ? -0.0f : mass;
        return mass;
    }
    template <bool Kept>
    __device__ void add_masses(float (&mass)[numbers], float const (&offset)[2]) const
    {
#pragma unroll
        for (int i = 0; i < numbers; ++i) mass[i] += mass_of<Kept>(i, offset[i % 4 / 2]);
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
};

} // namespace spla::cuda
