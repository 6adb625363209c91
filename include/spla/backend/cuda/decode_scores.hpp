// SPDX-FileCopyrightText: The spla authors
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once
#include "decode_selection_shape.hpp"
#include "matrix_product.hpp"

/// One warp, 8 blocks, and their estimates of masses for an item's rows (spec section 2). Summaries go from memory into
/// the registers of a product: a product sums over the width in any order, so that a lane reads 16 bytes that lie
/// together, and queries are laid out alike.
namespace spla::cuda
{

/// Eight numbers of a summary's vector, as they are stored.
template <class Number>
struct stored_numbers;

template <>
struct stored_numbers<bfloat16>
{
    uint4 bits;
    /// Nothing else of the line is read again soon.
    __device__ void load(bfloat16 const* from)
    {
        asm volatile("ld.global.nc.L1::no_allocate.v4.u32 {%0, %1, %2, %3}, [%4];"
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
        asm volatile("ld.global.nc.L1::no_allocate.v2.u32 {%0, %1}, [%2];"
                     : "=r"(bits.x), "=r"(bits.y)
                     : "l"(__cvta_generic_to_global(from)));
    }
    __device__ void clear() { bits = {0, 0}; }
    /// Integers up to 127 are exact in bf16: the upper half of a float. Made for each product anew: they would take
    /// twice the registers.
    __device__ static std::uint32_t pair(std::uint32_t word, int i)
    {
        float const low = static_cast<float>(static_cast<std::int8_t>(word >> 8 * i & 255u));
        float const high = static_cast<float>(static_cast<std::int8_t>(word >> 8 * (i + 1) & 255u));
        return __byte_perm(__float_as_uint(low), __float_as_uint(high), 0x7632);
    }
    __device__ uint4 pairs()
    {
        asm volatile("" : "+r"(bits.x), "+r"(bits.y));
        return {pair(bits.x, 0), pair(bits.x, 2), pair(bits.y, 0), pair(bits.y, 2)};
    }
};

template <class Number>
class decode_scores
{
    static constexpr float infinity = __builtin_huge_valf();
    static constexpr std::uint32_t everyone = 0xffffffffu;
    static constexpr bool scaled = std::is_same_v<Number, std::int8_t>;
    using vector = stored_numbers<Number>[width_steps]; ///< of this lane's block

public:
    __device__ decode_scores(decode_selection_arguments const& a, decode_selection_places const& m)
        : a_(a), s_(a.sizes), m_(m), lane_(threadIdx.x % 32)
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
            decode_note const& note = m_.fixed.note[stage];
            if (note.ends) return;
            bool loaded = false;
            int n = note.first + turn;
            for (; n < note.last; n += decode_scorers)
            {
                if (!note.scored) continue;
                load(note, n);
                if (!loaded) m_.fixed.loaded[stage].wait(phase_parity(use, decode_stages));
                loaded = true;
                score(note, n, stage);
            }
            turn = n - note.last;
            let_go(m_.fixed.scored[stage]);
        }
    }

private:
    /// Asks for the summaries of an item's n-th panel.
    __device__ void load(decode_note const& note, int n)
    {
        int const block = n * decode_panel_blocks + lane_ / 4, part = lane_ % 4;
        bool const there = block < note.blocks;
        int const stride = s_.key_heads * a_.summary.vectors;
        std::int64_t number = note.vector;
        if (a_.summary.map.has_pages())
        {
            if (there) number = in_page(note, s_.bounds.sink_blocks + block);
        }
        else if (there)
            number += static_cast<std::int64_t>(block) * stride;
        Number const* const from = a_.summary.row<Number const>(number) + 8 * part;
        int const left = there ? s_.width - 8 * part : 0;
        load(mean_, from, left);
        if (s_.has_variance) load(variance_, from + s_.width, left);
        if (s_.kept) load(kept_, from + s_.kept_vector * s_.width, left);
        if constexpr (scaled)
        {
            int const v = part < 2 ? part : s_.kept_vector;
            scale_ = there && v <= s_.kept_vector ? a_.summary.scales[number + v] : 0.0f;
        }
    }
    /// Number of a block's first vector; a page out of range is taken for the nearest that exists.
    __device__ std::int64_t in_page(decode_note const& note, int block) const
    {
        int const each = static_cast<int>(a_.summary.map.page_tokens()), i = block / each;
        int const page = static_cast<int>(a_.summary.map.page(note.sequence, i));
        int const last = static_cast<int>(a_.summary.map.page_count()) - 1, held = ::max(0, ::min(page, last));
        return ((held * a_.summary.blocks + (block - i * each)) * s_.key_heads + note.head) * a_.summary.vectors;
    }

    /// Masses of the panel that was asked for.
    __device__ void score(decode_note const& note, int n, int stage)
    {
        int const rows = note.rows;
#pragma unroll 1
        for (int group = 0; product_queries * group < rows; ++group)
        {
            float mean[4] = {}, variance[4] = {}, kept[4] = {};
            uint4 const* const query = m_.queries(stage, group, 0) + lane_;
            uint4 const* const squared = query + query_words;
#pragma unroll
            for (int step = 0; step < width_steps; ++step)
            {
                if (32 * step >= s_.width) break;
                uint4 const q[2] = {query[64 * step], query[64 * step + 32]};
                add(mean, q, mean_[step]);
                if (s_.kept) add(kept, q, kept_[step]);
                if (s_.has_variance)
                {
                    uint4 const qq[2] = {squared[64 * step], squared[64 * step + 32]};
                    add(variance, qq, variance_[step]);
                }
            }
            if constexpr (scaled) scale(mean, 0), scale(variance, 1), scale(kept, 2);
            store_rows(note, n, product_queries * group, mean, variance, kept);
        }
    }

    __device__ static void load(vector& to, Number const* from, int left)
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
    __device__ static void add(float (&to)[4], uint4 const (&query)[2], stored_numbers<Number>& of)
    {
        uint4 const x = of.pairs();
        add_warp_product<bfloat16>(to, {query[0].x, query[0].y, query[0].z, query[0].w}, {x.x, x.y});
        add_warp_product<bfloat16>(to, {query[1].x, query[1].y, query[1].z, query[1].w}, {x.z, x.w});
    }
    /// By the scales of the panel's vectors, each of which the lane of its number among its block's has.
    __device__ void scale(float (&product)[4], int v) const
    {
#pragma unroll
        for (int c = 0; c < 2; ++c)
        {
            float const by = __shfl_sync(everyone, scale_, (lane_ % 4 * 2 + c) * 4 + v);
            product[c] *= by, product[2 + c] *= by;
        }
    }

    /// Numbers 2 r + c are those of row lane_ / 4 + 8 r and block lane_ % 4 * 2 + c.
    __device__ void store_rows(decode_note const& note, int n, int first_row, float const (&mean)[4],
                               float const (&variance)[4], float const (&kept)[4]) const
    {
        int const column = lane_ % 4 * 2, block = n * decode_panel_blocks + column;
#pragma unroll
        for (int r = 0; r < 2; ++r)
        {
            int const row = first_row + lane_ / 4 + 8 * r;
            int const blocks = row < note.rows ? note.row_blocks[row] : 0;
            float logit[2], other[2], top[2], mass[2];
#pragma unroll
            for (int c = 0; c < 2; ++c)
            {
                logit[c] = mean[2 * r + c] * s_.scale;
                if (s_.cumulant) logit[c] = fmaf(variance[2 * r + c], s_.half_square * log2_of_e, logit[c]);
                other[c] = s_.kept ? kept[2 * r + c] * s_.scale : -infinity;
                top[c] = fmaxf(finite_or_low(logit[c]), finite_or_low(other[c]));
            }
            float reference = fmaxf(block < blocks ? top[0] : -infinity, block + 1 < blocks ? top[1] : -infinity);
            reference = fmaxf(reference, __shfl_xor_sync(everyone, reference, 1));
            reference = fmaxf(reference, __shfl_xor_sync(everyone, reference, 2));
            float sum = 0.0f;
#pragma unroll
            for (int c = 0; c < 2; ++c)
            {
                mass[c] = s_.others * exp2_fast(logit[c] - reference);
                if (s_.has_variance && !s_.cumulant)
                {
                    float const factor = fmaf(variance[2 * r + c], s_.half_square, 1.0f);
                    mass[c] = factor > 0.0f ? mass[c] * factor : not_a_number();
                }
                if (s_.kept) mass[c] += exp2_fast(other[c] - reference);
                if (top[c] == -infinity) mass[c] = not_a_number(); // no finite part: the score is not finite
                sum += block + c < blocks && fabsf(mass[c]) < infinity ? mass[c] : 0.0f;
            }
            sum += __shfl_xor_sync(everyone, sum, 1);
            sum += __shfl_xor_sync(everyone, sum, 2);
            if (row >= note.rows) continue;
            std::int64_t const to = note.first_row + n * note.rows + row;
            if (column == 0) a_.sum[to] = {reference, sum};
            *reinterpret_cast<float2*>(a_.mass + to * decode_panel_blocks + column) = {mass[0], mass[1]};
        }
    }
    __device__ static float finite_or_low(float x) { return fabsf(x) < infinity ? x : -infinity; }
    __device__ static float not_a_number() { return __int_as_float(0x7fffffff); }
    static constexpr float log2_of_e = 1.4426950408889634f;

    decode_selection_arguments const& a_;
    decode_selection_sizes const& s_;
    decode_selection_places const& m_;
    int lane_;
    float scale_;
    vector mean_, variance_, kept_;
};

} // namespace spla::cuda
