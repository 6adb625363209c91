// SPDX-FileCopyrightText: The spla authors
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once
#include "matrix_product.hpp"
#include "row_pieces.hpp"
#include "vector_ring.hpp"

/// 64 rows of one warpgroup and their estimates of blocks' masses (spec section 2): [q, q*q, q] times [mean, variance,
/// kept key] on matrix units, 64 blocks at a time. A first pass over all blocks finds each row's normaliser, a second
/// its normalised masses: masses of all blocks never need a place.
///
/// The two warpgroups take turns: while one multiplies, the other makes masses of its products.
namespace spla::cuda
{

/// Metrics that these products serve.
template <class Metric>
inline constexpr bool scores_on_matrix_units = !Metric::reads_keys && (Metric::covariance == covariance_kind::none ||
                                                                       Metric::covariance == covariance_kind::diagonal);

/// Masses are stored times 2^-26: those below 2^-100 become zero in the multiplication, and sums of the others do not.
inline constexpr float stored_mass = 0x1p-26f;

/// Single: blocks are not cut into sub-blocks.
template <class Metric, int Width, bool Single>
class score_rows
{
    using scores = product<bfloat16, panel_blocks>;
    static constexpr int numbers = scores::registers;
    static constexpr bool has_variance = Metric::covariance == covariance_kind::diagonal;
    static constexpr float infinity = __builtin_huge_valf();

public:
    __device__ score_rows(selection_sizes const& s, selection_places<Width> const& m, int party)
        : s_(s), ring_(m, s.places), party_(party)
    {
    }

    /// Before and after all products: the turns of the two warpgroups.
    __device__ void open_turns() const
    {
        if (party_ == 1) arrive_threads(multiplying_turn, turn_threads);
    }
    __device__ void close_turns() const
    {
        if (party_ == 0) sync_threads(multiplying_turn, turn_threads); // the turn that nobody takes
    }

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
                float const low = low_number(query_[k]), high = high_number(query_[k]);
                squared_[k] = pack<bfloat16>(low * low, high * high);
            }
        }
#pragma unroll
        for (int i = 0; i < 2; ++i) blocks_[i] = blocks[i], reference_[i] = -infinity, sum_[i] = 0.0f;
    }

    /// First pass: a panel's masses go into the rows' sums.
    template <bool Kept>
    __device__ void add_panel(int panel)
    {
        float shrink[2], offset[2];
        if constexpr (Single)
        {
            open_part<Kept>(panel, shrink, offset);
#pragma unroll
            for (int i = 0; i < numbers; ++i) mean_[i] = mass_of<Kept>(i, offset[i % 4 / 2]);
            add_finite(mean_);
        }
        else
        {
            float mass[numbers];
            clear(mass);
            for (int part = 0; part < s_.sub_blocks; ++part)
            {
                open_part<Kept>(panel, shrink, offset);
#pragma unroll
                for (int i = 0; i < numbers; ++i)
                    mass[i] = __fmul_rn(mass[i], shrink[i % 4 / 2]) + mass_of<Kept>(i, offset[i % 4 / 2]);
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

    /// Second pass: a panel's normalised masses to shared memory, once ready() says that it may be written.
    /// exchanged: columns of each row that trade places, 0 or 16.
    template <bool Kept, int Stride, class Ready>
    __device__ void store_panel(float (&to)[score_rows_each][Stride], int const (&exchanged)[2], Ready ready)
    {
        if constexpr (Single)
        {
            multiply<Kept>();
#pragma unroll
            for (int i = 0; i < numbers; ++i) mean_[i] = mass_of<Kept>(i, reference_[i % 4 / 2]);
            ready();
            store_masses(mean_, to, exchanged);
        }
        else
        {
            float mass[numbers];
            clear(mass);
            for (int part = 0; part < s_.sub_blocks; ++part)
            {
                multiply<Kept>();
#pragma unroll
                for (int i = 0; i < numbers; ++i) mass[i] += mass_of<Kept>(i, reference_[i % 4 / 2]);
            }
            ready();
            store_masses(mass, to, exchanged);
        }
    }

private:
    /// A mass as it goes into sums: NaN where the block's score is not finite, so that sums are not finite either.
    __device__ static float counted(float mass)
    {
        // Only without variances is it minus zero, where no logit is above minus infinity.
        if constexpr (!has_variance) mass = __float_as_int(mass) < 0 ? __int_as_float(0x7fffffff) : mass;
        float stored;
        asm("mul.ftz.f32 %0, %1, %2;" : "=f"(stored) : "f"(mass), "f"(stored_mass));
        return stored;
    }
    template <int Stride>
    __device__ static void store_masses(float const (&mass)[numbers], float (&to)[score_rows_each][Stride],
                                        int const (&exchanged)[2])
    {
        int const column = threadIdx.x % 4 * 2;
#pragma unroll
        for (int i = 0; i < 2; ++i)
        {
            float* const even = &to[row(i)][column + exchanged[i]]; // of columns that come in sixteens
            float* const odd = &to[row(i)][column + 16 - exchanged[i]];
#pragma unroll
            for (int j = 0; j < numbers / 4; ++j)
            {
                float const* const m = mass + 4 * j + 2 * i;
                float* const at = (j / 2 % 2 == 0 ? even : odd) + j / 4 * 32 + j % 2 * 8;
                *reinterpret_cast<float2*>(at) = float2{counted(m[0]), counted(m[1])};
            }
        }
    }

    /// The products of the stream's next sub-block: with means, variances and kept keys.
    template <bool Kept>
    __device__ void multiply()
    {
        constexpr int vectors = 1 + has_variance + Kept;
        int place[vectors];
#pragma unroll
        for (int v = 0; v < vectors; ++v) place[v] = ring_.next();
        sync_threads(multiplying_turn + party_, turn_threads);
        open_products();
        product_with(mean_, query_, place[0]);
        if constexpr (has_variance) product_with(variance_, squared_, place[1]);
        if constexpr (Kept) product_with(kept_, query_, place[vectors - 1]);
        arrive_threads(multiplying_turn + 1 - party_, turn_threads);
        if constexpr (vectors > 2)
        {
            wait_products<2>();
            ring_.let_go(place[0]);
        }
        if constexpr (vectors > 1)
        {
            wait_products<1>();
            ring_.let_go(place[vectors - 2]);
        }
        wait_products<0>();
        ring_.let_go(place[vectors - 1]);
        pin(mean_);
        if constexpr (has_variance) pin(variance_);
        if constexpr (Kept) pin(kept_);
        if constexpr (has_variance && Metric::expansion == expansion_kind::cumulant)
        {
            float const factor = s_.half_square / s_.scale * 1.4426950408889634f; // logits are not scaled yet
#pragma unroll
            for (int i = 0; i < numbers; ++i) mean_[i] = fmaf(variance_[i], factor, mean_[i]);
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

    /// First pass: products of a sub-block, its rows' references, and by how much earlier masses shrink.
    template <bool Kept>
    __device__ void open_part(int panel, float (&shrink)[2], float (&offset)[2])
    {
        multiply<Kept>();
        hide_other_blocks(panel);
        move_references<Kept>(shrink);
#pragma unroll
        for (int i = 0; i < 2; ++i) offset[i] = reference_[i] == -infinity ? 0.0f : reference_[i];
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

    /// Each thread's own: the largest finite logit that it has met.
    template <bool Kept>
    __device__ void move_references(float (&shrink)[2])
    {
        float best[2][2][2]; // chains far enough apart that none waits for itself
#pragma unroll
        for (int i = 0; i < 8; ++i) best[i / 4][i % 4 / 2][i % 2] = -infinity;
#pragma unroll
        for (int i = 0; i < numbers; ++i)
        {
            float& mean = best[0][i % 4 / 2][i % 2];
            mean = fmaxf(mean, mean_[i]);
            if constexpr (Kept)
            {
                float& kept = best[1][i % 4 / 2][i % 2];
                kept = fmaxf(kept, kept_[i]);
            }
        }
        float top[2];
#pragma unroll
        for (int i = 0; i < 2; ++i)
            top[i] = fmaxf(fmaxf(best[0][i][0], best[0][i][1]), fmaxf(best[1][i][0], best[1][i][1]));
        if (top[0] == infinity || top[1] == infinity) find_finite<Kept>(top);
#pragma unroll
        for (int i = 0; i < 2; ++i)
        {
            float const moved = fmaxf(reference_[i], top[i] * s_.scale);
            shrink[i] = reference_[i] == -infinity ? 1.0f : exp2_fast(reference_[i] - moved);
            sum_[i] *= shrink[i];
            reference_[i] = moved;
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
            best = fmaxf(best, finite(mean_[i]));
            if constexpr (Kept) best = fmaxf(best, finite(kept_[i]));
        }
    }

    /// Mass of a part relative to 2^offset. -0 where no logit is above minus infinity: a sum stays -0 only where all
    /// are.
    template <bool Kept>
    __device__ float mass_of(int i, float offset) const
    {
        float const logit = mean_[i];
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
    int party_;
};

} // namespace spla::cuda
