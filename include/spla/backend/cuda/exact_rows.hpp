// SPDX-FileCopyrightText: The spla authors
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once
#include "exact_shape.hpp"
#include "row_output.hpp"
#include "row_softmax.hpp"

/// 64 rows of a tile in one warpgroup's registers: logits, their softmax, and the weighted sum of values (spec section
/// 3). While the matrix units make the logits of one step, the values of the step before are
/// summed, and while one warpgroup takes exponentials the other multiplies: they take turns.
namespace spla::cuda
{

template <class Element, int KeyWidth, int ValueWidth>
class exact_rows
{
    using memory = exact_memory<KeyWidth, ValueWidth>;
    using logit_product = product<Element, memory::step_keys>;
    using value_product = product<Element, ValueWidth>;
    using softmax_of_rows = row_softmax<logit_product::registers, memory::step_blocks>;
    using visits = typename softmax_of_rows::visits;

public:
    __device__ exact_rows(exact_shape const& shape, memory& m, int group)
        : shape_(shape), m_(m), group_(group), softmax_(shape.scale)
    {
        int const row = group * 64 + threadIdx.x % 128 / 32 * 16 + threadIdx.x % 32 / 4;
#pragma unroll
        for (int i = 0; i < 2; ++i) softmax_.token[i] = (row + 8 * i) / shape.group;
    }

    /// Logits and softmax of step n, the first of all. Is it its tile's last?
    __device__ bool first_step(int n)
    {
        float logits[logit_product::registers];
        int const place = n % memory::key_stages;
        m_.key_full[place].wait(phase_parity(n, memory::key_stages));
        open_products();
        start_logits(logits, place);
        wait_products<0>();
        pin(logits);
        return begin_tile(logits, n);
    }

    /// Logits of step n beside the values of step n - 1, of the same tile. Is it the tile's last?
    __device__ bool next_step(int n)
    {
        float logits[logit_product::registers];
        start_step(logits, n);
        auto const& note = m_.note[n % memory::notes];
        visits const v(note, softmax_.token);
        wait_products<1>();
        pin(logits);
        m_.key_free[n % memory::key_stages].arrive();
        if (v.last) let_go(m_.query_free);
        if (v.per_key) softmax_.hide_later_keys(logits, v, note);
        float shrink[2];
        bool const moves = softmax_.weigh(logits, v, shrink);
        pin(logits);
        // Never so; but it keeps the compiler from waiting for the values' sum before it takes the exponentials.
        if (softmax_.sum[0] + softmax_.sum[1] < 0.0f) wait_products<0>();
        wait_products<0>();
        pin(output_);
        let_go(m_.value_free[(n - 1) % memory::value_stages]);
        if (moves)
        {
#pragma unroll
            for (int i = 0; i < value_product::registers; ++i) output_[i] *= shrink[i % 4 / 2];
        }
        keep_weights(logits);
        return v.last;
    }

    /// The same where step n is the first of another tile: the finished one goes to `out` between.
    __device__ bool next_tile(tile_place const& finished, int n, portable::attention_outputs<Element> const& out)
    {
        float logits[logit_product::registers];
        clear_unseen_values(n - 1);
        start_step(logits, n);
        wait_products<0>();
        pin(logits);
        pin(output_);
        let_go(m_.value_free[(n - 1) % memory::value_stages]);
        store(finished, out);
        return begin_tile(logits, n);
    }

    /// The values of step n, the last of all, and its tile to `out`.
    __device__ void last_step(tile_place const& finished, int n, portable::attention_outputs<Element> const& out)
    {
        clear_unseen_values(n);
        open_products();
        start_values(n % memory::value_stages);
        wait_products<0>();
        pin(output_);
        let_go(m_.value_free[n % memory::value_stages]);
        store(finished, out);
    }

private:
    /// Softmax of a tile's first step. Is it the tile's last?
    __device__ bool begin_tile(float (&logits)[logit_product::registers], int n)
    {
#pragma unroll
        for (int i = 0; i < value_product::registers; ++i) output_[i] = 0.0f;
        auto const& note = m_.note[n % memory::notes];
        visits const v(note, softmax_.token);
        m_.key_free[n % memory::key_stages].arrive();
        if (v.last) let_go(m_.query_free);
        if (v.per_key) softmax_.hide_later_keys(logits, v, note);
        float nothing_before[2];
        softmax_.begin();
        softmax_.weigh(logits, v, nothing_before);
        keep_weights(logits);
        return v.last;
    }
    /// In this warpgroup's turn: logits of step n, values of step n - 1.
    __device__ void start_step(float (&logits)[logit_product::registers], int n)
    {
        int const place = n % memory::key_stages, before = (n - 1) % memory::value_stages;
        m_.key_full[place].wait(phase_parity(n, memory::key_stages));
        sync_threads(1 + group_, meeting_threads);
        open_products();
        start_logits(logits, place);
        m_.value_full[before].wait(phase_parity(n - 1, memory::value_stages));
        open_products();
        start_values(before);
        arrive_threads(2 - group_, meeting_threads);
    }

    /// Finished rows of a tile. A thread has two of them, and knows their tokens: nothing is divided here.
    __device__ void store(tile_place const& t, portable::attention_outputs<Element> const& out)
    {
        int const lane = threadIdx.x % 32;
        int const row = group_ * 64 + threadIdx.x % 128 / 32 * 16 + lane / 4;
#pragma unroll
        for (int i = 0; i < 2; ++i)
        {
            float const sum = quad_sum(softmax_.sum[i]);
            float factor = sum == 0.0f ? 0.0f : 1.0f / sum;
            int const token = softmax_.token[i], position = t.first + token;
            bool const mine = position >= t.begin && position < t.end && token < shape_.tokens;
            int const query = position - t.first_position;
            int const head = t.head * shape_.group + row + 8 * i - token * shape_.group;
            if (out.lse && mine && lane % 4 == 0) out.lse_of(t.sequence, query, head) = softmax_.lse(i, sum);
            if (!out.sparse) continue;
            if (shape_.combines) combine(out.rule, i, mine ? head : 0, factor);
            auto const to = out.sparse.row(t.sequence, mine ? query : t.begin - t.first_position, head);
            if (out.sparse.wide)
                store_numbers(to, output_, i, factor, shape_.value_dim, mine);
            else
                store_pieces(to, output_, i, factor, shape_.value_dim, mine);
        }
    }

    /// Row i becomes the output of both branches where the residual is zero: `factor` is what it is multiplied by.
    __device__ void combine(detail::combination_rule<float> const& rule, int i, int head, float& factor)
    {
        float squares = 0.0f;
#pragma unroll
        for (int j = 0; j < value_product::registers / 4; ++j)
        {
            float const first = output_[4 * j + 2 * i] * factor, second = output_[4 * j + 2 * i + 1] * factor;
            squares += first * first + second * second;
        }
        factor *= rule.inverse_rms_of(quad_sum(squares), shape_.value_dim);
        if (!rule.sparse_weight.data) return;
        float const* const weights =
            rule.sparse_weight.data + head * rule.sparse_weight.stride + softmax_of_rows::column();
#pragma unroll
        for (int j = 0; j < value_product::registers / 4; ++j)
#pragma unroll
            for (int e = 0; e < 2; ++e)
                if (8 * j < shape_.value_dim) output_[4 * j + 2 * i + e] *= weights[8 * j + e];
    }

    __device__ void start_logits(float (&logits)[logit_product::registers], int place)
    {
        std::uint64_t const query = warp_descriptor(shared_address(m_.query) + group_ * 64 * 128, 0);
        std::uint64_t const key = warp_descriptor(shared_address(m_.key[place]), 0);
#pragma unroll
        for (int k = 0; k < KeyWidth / 16; ++k)
        {
            std::uint32_t const along = k % 4 * 32;
            logit_product::rows_by_rows(logits, moved(query, k / 4 * (tile_rows * 128) + along),
                                        moved(key, k / 4 * (memory::step_keys * 128) + along), k > 0);
        }
        close_products();
    }
    __device__ void start_values(int place)
    {
        std::uint64_t const value = warp_descriptor(shared_address(m_.value[place]), memory::step_keys * 128);
#pragma unroll
        for (int k = 0; k < memory::step_keys / 16; ++k)
            value_product::registers_by_columns(output_, weights_ + 4 * k, moved(value, k * 2048));
        close_products();
    }

    __device__ void keep_weights(float const (&x)[logit_product::registers])
    {
#pragma unroll
        for (int i = 0; i < logit_product::registers / 2; ++i) weights_[i] = pack<Element>(x[2 * i], x[2 * i + 1]);
    }
    /// Waits for the values of step n, the tile's last. Keys after the tile's last token have weight zero, but zero
    /// times what lies there need not be zero. Each warpgroup clears for itself: the same zeros.
    __device__ void clear_unseen_values(int n)
    {
        int const place = n % memory::value_stages;
        m_.value_full[place].wait(phase_parity(n, memory::value_stages));
        auto const& note = m_.note[n % memory::notes];
        if (!note.per_key) return;
        for (int h = 0; h < memory::step_blocks; ++h)
        {
            int const seen = note.end - note.first_key[h];
            if (seen >= block_tokens) continue;
            int const begin = seen < 0 ? 0 : seen;
            int const pieces = (block_tokens - begin) * (panel_width / 8);
            for (int p = 0; p < memory::value_panels; ++p)
            {
                auto* const to = reinterpret_cast<uint4*>(m_.value[place][p][h * block_tokens + begin]);
                for (int i = threadIdx.x % 128; i < pieces; i += 128) to[i] = uint4{0, 0, 0, 0};
            }
        }
        fence_shared_writes();
        sync_threads(3 + group_, 128);
    }

    exact_shape const& shape_;
    memory& m_;
    int group_;
    softmax_of_rows softmax_;
    float output_[value_product::registers];
    std::uint32_t weights_[logit_product::registers / 2];
};

} // namespace spla::cuda
