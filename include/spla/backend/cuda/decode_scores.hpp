// SPDX-FileCopyrightText: The spla authors
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once
#include "decode_selection_shape.hpp"
#include "matrix_product.hpp"

/// One warp, 16 blocks, and their estimates of masses for an item's rows (spec section 2). Summaries go from memory
/// into the registers of a product: a product sums over the width in any order, so that a lane reads 16 bytes that lie
/// together, of two blocks, and queries are laid out alike.
namespace spla::cuda
{

/// Eight neighbouring numbers of a summary's vector, as they are stored.
template <class Number>
struct stored_numbers;

template <>
struct stored_numbers<bfloat16>
{
    uint4 bits;
    /// Nothing of the line is read again soon; its other half is read next.
    __device__ void load(bfloat16 const* from)
    {
        asm volatile("ld.global.nc.L1::no_allocate.L2::128B.v4.u32 {%0, %1, %2, %3}, [%4];"
                     : "=r"(bits.x), "=r"(bits.y), "=r"(bits.z), "=r"(bits.w)
                     : "l"(__cvta_generic_to_global(from)));
    }
    __device__ void clear() { bits = {0, 0, 0, 0}; }
    __device__ uint4 pairs() const { return bits; }
};
template <>
struct stored_numbers<std::int8_t>
{
    uint2 bits;
    __device__ void load(std::int8_t const* from)
    {
        asm volatile("ld.global.nc.L1::no_allocate.L2::128B.v2.u32 {%0, %1}, [%2];"
                     : "=r"(bits.x), "=r"(bits.y)
                     : "l"(__cvta_generic_to_global(from)));
    }
    __device__ void clear() { bits = {0, 0}; }
    /// Two's complement, two at a time: 128 + the lower seven bits, which bf16 holds in its last ones, minus 128, or
    /// 256 where the sign is set. Made for each product anew: they would take twice the registers.
    __device__ uint4 pairs()
    {
        asm volatile("" : "+r"(bits.x), "+r"(bits.y));
        auto const pair = [](std::uint32_t word, std::uint32_t which) {
            std::uint32_t const two = __byte_perm(word, 0, which), magnitude = (two & 0x007f007fu) | 0x43004300u;
            std::uint32_t x;
            asm("add.rn.bf16x2 %0, %1, %2;" : "=r"(x) : "r"(magnitude), "r"((two & 0x00800080u) ^ 0xc300c300u));
            return x;
        };
        return {pair(bits.x, 0x4140), pair(bits.x, 0x4342), pair(bits.y, 0x4140), pair(bits.y, 0x4342)};
    }
};

template <class Number>
class decode_scores
{
    static constexpr float infinity = __builtin_huge_valf();
    static constexpr std::uint32_t everyone = 0xffffffffu;
    static constexpr bool scaled = std::is_same_v<Number, std::int8_t>;
    using vector = stored_numbers<Number>[2][width_steps]; ///< of this lane's two blocks

public:
    /// scorers: warps that score, by turns.
    __device__ decode_scores(decode_selection_arguments const& a, decode_selection_places const& m, int scorers)
        : a_(a), s_(a.sizes), m_(m), scorers_(scorers), row_(threadIdx.x % 32 / 4), part_(threadIdx.x % 4)
    {
    }

    /// Panels by turns, whatever items they are of.
    __device__ void run(int warp)
    {
        int turn = warp; // of the panels to come
        for (int use = 0;; ++use)
        {
            int const stage = use % decode_stages;
            m_.fixed.found[stage].wait(phase_parity(use, decode_stages));
            panel_note const& note = m_.fixed.note[stage];
            if (note.ends) return;
            if (note.scored)
            {
                int n = note.first + turn, last = note.last;
                if (n < last)
                {
                    if (note.makes_summaries) wait_for_earlier_launches();
                    load(note, n);
                    m_.fixed.loaded[stage].wait(phase_parity(use, decode_stages));
                }
                for (; n < last; n += scorers_) score(note, n, stage);
                turn = n - last;
            }
            m_.fixed.scored[stage].arrive();
        }
    }

private:
    /// Asks for the summaries of an item's n-th panel.
    __device__ void load(panel_note const& note, int n)
    {
        bool const pages = a_.summary.map.has_pages();
        int const held = s_.width - 8 * part_; // from this lane's first on
#pragma unroll
        for (int r = 0; r < 2; ++r)
        {
            int const block = n * decode_panel_blocks + row_ + 8 * r;
            bool const there = block < note.blocks;
            std::int64_t number = note.vector;
            if (there)
                number = pages ? in_page(note, s_.bounds.sink_blocks + block)
                               : number + static_cast<std::int64_t>(block) * (s_.key_heads * a_.summary.vectors);
            Number const* const from = a_.summary.row<Number const>(number) + 8 * part_;
            int const left = there ? held : 0;
            load(mean_[r], from, left);
            if (s_.has_variance) load(variance_[r], from + s_.width, left);
            if (s_.kept) load(kept_[r], from + s_.kept_vector * s_.width, left);
            if constexpr (scaled)
            {
                float const* const scales = a_.summary.scales + number;
                scale_[0][r] = there ? scales[0] : 0.0f;
                scale_[1][r] = there && s_.has_variance ? scales[1] : 0.0f;
                scale_[2][r] = there && s_.kept ? scales[s_.kept_vector] : 0.0f;
            }
        }
    }
    __device__ static void load(stored_numbers<Number> (&to)[width_steps], Number const* from, int left)
    {
#pragma unroll
        for (int step = 0; step < width_steps; ++step)
        {
            if (32 * step < left)
                to[step].load(from + 32 * step);
            else
                to[step].clear();
        }
    }
    /// Number of a block's first vector; a page out of range is taken for the nearest that exists.
    __device__ std::int64_t in_page(panel_note const& note, int block) const
    {
        int const each = static_cast<int>(a_.summary.map.page_tokens()), i = block / each;
        int const page = static_cast<int>(a_.summary.map.page(note.sequence, i));
        int const last = static_cast<int>(a_.summary.map.page_count()) - 1, held = ::max(0, ::min(page, last));
        return ((held * a_.summary.blocks + (block - i * each)) * s_.key_heads + note.head) * a_.summary.vectors;
    }

    /// Masses of the panel that was asked for. The next is asked for as soon as its registers are free.
    __device__ void score(panel_note const& note, int n, int stage)
    {
#pragma unroll 1
        for (int group = 0; product_queries * group < note.rows; ++group)
        {
            float mean[4] = {}, variance[4] = {}, kept[4] = {};
            uint4 const* const query = m_.queries(stage, group, 0) + threadIdx.x % 32;
#pragma unroll
            for (int step = 0; step < width_steps; ++step)
            {
                if (32 * step >= s_.width) break;
                uint4 const q = query[32 * step];
                add(mean, mean_, step, q);
                if (s_.has_variance) add(variance, variance_, step, query[32 * step + query_words]);
                if (s_.kept) add(kept, kept_, step, q);
            }
            if constexpr (scaled)
            {
#pragma unroll
                for (int e = 0; e < 4; ++e)
                    mean[e] *= scale_[0][e / 2], variance[e] *= scale_[1][e / 2], kept[e] *= scale_[2][e / 2];
            }
            bool const ends = product_queries * (group + 1) >= note.rows;
            if (ends && n + scorers_ < note.last) load(note, n + scorers_);
            store(note, n, product_queries * group, mean, variance, kept);
        }
    }
    __device__ static void add(float (&to)[4], vector& of, int step, uint4 const& query)
    {
        uint4 const x = of[0][step].pairs(), y = of[1][step].pairs();
        add_warp_product<bfloat16>(to, {x.x, y.x, x.y, y.y}, {query.x, query.y});
        add_warp_product<bfloat16>(to, {x.z, y.z, x.w, y.w}, {query.z, query.w});
    }

    /// Numbers 2 r + c are those of block row_ + 8 r and row part_ * 2 + c.
    __device__ void store(panel_note const& note, int n, int first_row, float const (&mean)[4],
                          float const (&variance)[4], float const (&kept)[4]) const
    {
        int const block = n * decode_panel_blocks + row_;
#pragma unroll
        for (int c = 0; c < 2; ++c)
        {
            int const row = first_row + 2 * part_ + c, blocks = row < note.rows ? note.row_blocks[row] : 0;
            float logit[2], other[2], top[2];
#pragma unroll
            for (int r = 0; r < 2; ++r)
            {
                int const e = 2 * r + c;
                logit[r] = mean[e] * s_.scale;
                if (s_.cumulant) logit[r] = fmaf(variance[e], s_.half_square * log2_of_e, logit[r]);
                other[r] = s_.kept ? kept[e] * s_.scale : -infinity;
                top[r] = fmaxf(finite_or_low(logit[r]), finite_or_low(other[r]));
            }
            float reference = fmaxf(block < blocks ? top[0] : -infinity, block + 8 < blocks ? top[1] : -infinity);
#pragma unroll
            for (int far = 4; far < 32; far *= 2)
                reference = fmaxf(reference, __shfl_xor_sync(everyone, reference, far));
            float sum = 0.0f, mass[2];
#pragma unroll
            for (int r = 0; r < 2; ++r)
            {
                mass[r] = s_.others * exp2_fast(logit[r] - reference);
                if (s_.has_variance && !s_.cumulant)
                {
                    float const factor = fmaf(variance[2 * r + c], s_.half_square, 1.0f);
                    mass[r] = factor > 0.0f ? mass[r] * factor : not_a_number();
                }
                if (s_.kept) mass[r] += exp2_fast(other[r] - reference);
                if (top[r] == -infinity) mass[r] = not_a_number(); // no finite part: the score is not finite
                sum += block + 8 * r < blocks && fabsf(mass[r]) < infinity ? mass[r] : 0.0f;
            }
#pragma unroll
            for (int far = 4; far < 32; far *= 2) sum += __shfl_xor_sync(everyone, sum, far);
            if (row >= note.rows) continue;
            std::int64_t const to = note.first_row + n * note.rows + row;
            if (row_ == 0) a_.sum[to] = {reference, sum};
            float* const at = a_.mass + to * decode_panel_blocks + row_;
            at[0] = mass[0], at[8] = mass[1];
        }
    }
    __device__ static float finite_or_low(float x)
    {
        return fabsf(x) < infinity ? x : -infinity;
    }
    __device__ static float not_a_number()
    {
        return __int_as_float(0x7fffffff);
    }
    static constexpr float log2_of_e = 1.4426950408889634f;

    decode_selection_arguments const& a_;
    decode_selection_sizes const& s_;
    decode_selection_places const& m_;
    int scorers_, row_, part_;
    vector mean_, variance_, kept_;
    float scale_[3][2];
};

} // namespace spla::cuda
