// SPDX-FileCopyrightText: The spla authors
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once
#include "exact_shape.hpp"
#include "row_output.hpp"

/// 64 rows of a tile in one warpgroup's registers: logits, softmax with a running reference, and the weighted sum of
/// values (spec section 3). While the matrix units make the logits of one step, the values of the step before are
/// summed, and while one warpgroup takes exponentials the other multiplies: they take turns.
namespace spla::cuda
{

template <class Element, int KeyWidth, int ValueWidth>
class exact_rows
{
    using memory = exact_memory<KeyWidth, ValueWidth>;
    using logit_product = product<Element, memory::step_keys>;
    using value_product = product<Element, ValueWidth>;
    static constexpr int blocks = memory::step_blocks;
    static constexpr int block_logits = logit_product::registers / blocks; ///< of a thread
    static constexpr float infinity = __builtin_huge_valf();

public:
    __device__ exact_rows(exact_shape const& shape, memory& m, int group) : shape_(shape), m_(m), group_(group)
    {
        int const lane = threadIdx.x % 32;
        int const row = group * 64 + threadIdx.x % 128 / 32 * 16 + lane / 4;
#pragma unroll
        for (int i = 0; i < 2; ++i) token_[i] = (row + 8 * i) / shape.group;
        column_ = lane % 4 * 2;
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
        visits const v(m_.note[n % memory::notes], token_);
        wait_products<1>();
        pin(logits);
        if (v.per_key) hide_later_keys(logits, v, n);
        float sum[2];
        bool const fits = weigh(logits, v, sum);
        float shrink[2] = {1.0f, 1.0f};
        bool const moves = __any_sync(0xffffffffu, !fits);
        if (moves)
        {
            // Logits outgrew their reference: once more, with another. Seldom: a reference comes from a first block,
            // and has room for 2^14.
            repeat_logits(logits, n % memory::key_stages);
            if (v.per_key) hide_later_keys(logits, v, n);
            move_references(logits, v, !fits, shrink);
            weigh(logits, v, sum);
        }
        let_go(m_.key_free[n % memory::key_stages]);
        if (v.last) let_go(m_.query_free);
#pragma unroll
        for (int i = 0; i < 2; ++i) sum_[i] = sum_[i] * shrink[i] + sum[i];
        pin(logits);
        // Never so; but it keeps the compiler from waiting for the values' sum before it takes the exponentials.
        if (sum_[0] + sum_[1] < 0.0f) wait_products<0>();
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
    /// What a thread's rows have to do with a step.
    struct visits
    {
        bool here[2][blocks]; ///< row, block
        bool per_key, last;
        __device__ visits(step_note<blocks> const& note, int const (&token)[2]) : per_key(note.per_key), last(note.last)
        {
#pragma unroll
            for (int i = 0; i < 2; ++i)
#pragma unroll
                for (int h = 0; h < blocks; ++h) here[i][h] = note.tokens[h][token[i] / 32] >> token[i] % 32 & 1;
        }
    };

    /// Softmax of a tile's first step.
    __device__ bool begin_tile(float (&logits)[logit_product::registers], int n)
    {
#pragma unroll
        for (int i = 0; i < 2; ++i) reference_[i] = -infinity;
#pragma unroll
        for (int i = 0; i < value_product::registers; ++i) output_[i] = 0.0f;
        visits const v(m_.note[n % memory::notes], token_);
        let_go(m_.key_free[n % memory::key_stages]);
        if (v.last) let_go(m_.query_free);
        if (v.per_key) hide_later_keys(logits, v, n);
        float ignored[2];
        move_references(logits, v, true, ignored);
        weigh(logits, v, sum_);
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
            float const sum = quad_sum(sum_[i]);
            float factor = sum == 0.0f ? 0.0f : 1.0f / sum;
            int const position = t.first + token_[i];
            bool const mine = position >= t.begin && position < t.end && token_[i] < shape_.tokens;
            int const query = position - t.first_position;
            int const head = t.head * shape_.group + row + 8 * i - token_[i] * shape_.group;
            if (out.lse && mine && lane % 4 == 0)
                out.lse_of(t.sequence, query, head) =
                    sum == 0.0f ? -infinity : reference_[i] * (shape_.scale * 0.69314718f) + logf(sum);
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
        float const* const weights = rule.sparse_weight.data + head * rule.sparse_weight.stride + column_;
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
    /// The logits of this warp's rows again.
    __device__ void repeat_logits(float (&x)[logit_product::registers], int place) const
    {
        int const lane = threadIdx.x % 32;
        int const row = group_ * 64 + threadIdx.x % 128 / 32 * 16 + lane / 4;
        auto const word = [](auto const* panels, int r, int d) {
            return *reinterpret_cast<std::uint32_t const*>(&panels[d / 64][r][(d % 64 / 8 ^ r % 8) * 8 + d % 8]);
        };
#pragma unroll
        for (int i = 0; i < logit_product::registers; ++i) x[i] = 0.0f;
#pragma unroll 1
        for (int k = column_; k < KeyWidth; k += 16)
        {
            auto const* const q = m_.query;
            std::uint32_t const a[4] = {word(q, row, k), word(q, row + 8, k), word(q, row, k + 8),
                                        word(q, row + 8, k + 8)};
#pragma unroll
            for (int j = 0; j < memory::step_keys / 8; ++j)
            {
                auto const* const keys = m_.key[place];
                std::uint32_t const b[2] = {word(keys, 8 * j + lane / 4, k), word(keys, 8 * j + lane / 4, k + 8)};
                add_warp_product<Element>(x + 4 * j, a, b);
            }
        }
    }
    __device__ void start_values(int place)
    {
        std::uint64_t const value = warp_descriptor(shared_address(m_.value[place]), memory::step_keys * 128);
#pragma unroll
        for (int k = 0; k < memory::step_keys / 16; ++k)
            value_product::registers_by_columns(output_, weights_ + 4 * k, moved(value, k * 2048));
        close_products();
    }

    /// Logits become weights exp2(scale (x - reference)), zero where a row does not see the key. sum: of this thread's.
    /// False where a row has no reference yet, or weights grow past 2^14: nothing has been lost up to there, whatever
    /// the largest logit is, and looking for it would take a third of a softmax's time.
    __device__ bool weigh(float (&x)[logit_product::registers], visits const& v, float (&sum)[2]) const
    {
        bool fits = true;
#pragma unroll
        for (int i = 0; i < 2; ++i)
        {
            float const offset = reference_[i] == -infinity ? 0.0f : reference_[i] * shape_.scale;
            float offsets[blocks];
#pragma unroll
            for (int h = 0; h < blocks; ++h) offsets[h] = v.here[i][h] ? offset : infinity;
            float part[2] = {0.0f, 0.0f};
#pragma unroll
            for (int j = 0; j < logit_product::registers; j += 4)
#pragma unroll
                for (int e = 0; e < 2; ++e)
                {
                    float& w = x[j + 2 * i + e];
                    w = exp2_fast(w * shape_.scale - offsets[j / block_logits]);
                    part[e] += w;
                }
            sum[i] = part[0] + part[1];
            bool const visits_any = v.here[i][0] || v.here[i][blocks - 1];
            fits = fits && (!visits_any || (reference_[i] != -infinity && sum[i] <= 0x1p14f));
        }
        return fits;
    }
    /// The largest logit so far becomes the reference of each row that `moves` for any of its four threads. shrink:
    /// what its earlier weights lose.
    __device__ void move_references(float const (&x)[logit_product::registers], visits const& v, bool moves,
                                    float (&shrink)[2])
    {
        float top[blocks][2][2]; // chains far enough apart that none waits for itself
#pragma unroll
        for (int h = 0; h < blocks; ++h)
#pragma unroll
            for (int i = 0; i < 4; ++i) top[h][i / 2][i % 2] = x[h * block_logits + i];
#pragma unroll
        for (int j = 4; j < block_logits; j += 4)
#pragma unroll
            for (int h = 0; h < blocks; ++h)
#pragma unroll
                for (int i = 0; i < 4; ++i)
                    top[h][i / 2][i % 2] = fmaxf(top[h][i / 2][i % 2], x[h * block_logits + j + i]);
        float best[2];
#pragma unroll
        for (int i = 0; i < 2; ++i)
        {
            best[i] = v.here[i][0] ? fmaxf(top[0][i][0], top[0][i][1]) : -infinity;
#pragma unroll
            for (int h = 1; h < blocks; ++h)
                best[i] = fmaxf(best[i], v.here[i][h] ? fmaxf(top[h][i][0], top[h][i][1]) : -infinity);
        }
#pragma unroll
        for (int i = 0; i < 2; ++i) best[i] = fmaxf(best[i], __shfl_xor_sync(0xffffffffu, best[i], 1));
#pragma unroll
        for (int i = 0; i < 2; ++i) best[i] = fmaxf(best[i], __shfl_xor_sync(0xffffffffu, best[i], 2));
        int row_moves = moves;
        row_moves |= __shfl_xor_sync(0xffffffffu, row_moves, 1);
        row_moves |= __shfl_xor_sync(0xffffffffu, row_moves, 2);
#pragma unroll
        for (int i = 0; i < 2; ++i)
        {
            float const reference = row_moves ? fmaxf(best[i], reference_[i]) : reference_[i];
            shrink[i] = reference == -infinity ? 1.0f : exp2_fast((reference_[i] - reference) * shape_.scale);
            reference_[i] = reference;
        }
    }
    __device__ void hide_later_keys(float (&x)[logit_product::registers], visits const& v, int n) const
    {
        step_note<blocks> const& note = m_.note[n % memory::notes];
#pragma unroll
        for (int i = 0; i < 2; ++i)
#pragma unroll
            for (int h = 0; h < blocks; ++h)
            {
                int const keys = v.here[i][h] ? note.first + token_[i] - note.first_key[h] + 1 : 0;
#pragma unroll
                for (int j = 0; j < 8; ++j)
#pragma unroll
                    for (int e = 0; e < 2; ++e)
                    {
                        float& logit = x[h * block_logits + 4 * j + 2 * i + e];
                        logit = 8 * j + column_ + e < keys ? logit : -infinity;
                    }
            }
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
        step_note<blocks> const& note = m_.note[n % memory::notes];
        if (!note.per_key) return;
        for (int h = 0; h < blocks; ++h)
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
    int group_, column_;
    int token_[2];       ///< of this thread's rows
    float reference_[2]; ///< logit whose weight is 1; -infinity until a row has seen a key
    float sum_[2];       ///< of this thread's weights
    float output_[value_product::registers];
    std::uint32_t weights_[logit_product::registers / 2];
};

} // namespace spla::cuda
