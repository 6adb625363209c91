// SPDX-FileCopyrightText: The spla authors
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once
#include "residual_output.hpp"
#include "residual_shape.hpp"

/// 64 rows of a tile in one warpgroup's registers: phi(q), its products with the features of a block's keys, and their
/// sum over values (spec section 4). Products of one block are made while the values of the block before are summed,
/// and what is packed for the next sum has registers of its own, so that the matrix units never wait for a warpgroup,
/// whatever the other one does.
namespace spla::cuda
{

template <class FeatureMap, int Width, bool Normalised>
class residual_rows
{
    using features = query_features<FeatureMap, Width>;
    using memory = residual_memory<features::halves, Width>;
    using feature_product = product<bfloat16, block_tokens>;
    using value_product = product<bfloat16, Width>;
    static constexpr int product_words = feature_product::registers / 2;
    static constexpr int panel_bytes = block_tokens * panel_width * 2;

public:
    __device__ residual_rows(residual_arguments const& a, memory& m, int group)
        : a_(a), m_(m), group_(group), place_(a.shape.tiles, group)
    {
    }

    /// One tile, from its queries to the outputs.
    __device__ void sum(residual_tile const& t)
    {
        denominator_.clear();
        bool const works = t.visits || t.reads_state;
        if (works) load_queries(t);
#pragma unroll
        for (int i = 0; i < value_product::registers; ++i) sums_[i] = 0.0f; // after the queries, which need registers
        if (works)
        {
            last_ = !t.visits;
            if (t.reads_state) chunks_end_ = chunks_read_ + features::halves * chunks_to_a_half(a_.shape);
            chunk_due_ = step_ + chunk_spacing;
            for (;;)
            {
                while (chunk_is_due()) add_chunk();
                if (last_) break;
                if (!open_step())
                    pass_over();
                else if (t.fine)
                    visit_finely();
                else
                    visit();
                if (passing_) pass_over();
            }
        }
        if (a_.base) add_base(t.place);
        bool const idle[2] = {place_.has(t.idle, 0), place_.has(t.idle, 1)};
        store_residual(a_, place_, t.place, idle, sums_, denominator_);
    }

private:
    __device__ void add_base(tile_place const& t)
    {
#pragma unroll
        for (int i = 0; i < 2; ++i)
        {
            finished_row const row(a_.base, a_.shape.tiles, t, place_, i, place_.is_in(t, i));
#pragma unroll
            for (int j = 0; j < value_product::registers / 4; ++j)
            {
                float2 const pair = row[j];
                sums_[4 * j + 2 * i] += pair.x, sums_[4 * j + 2 * i + 1] += pair.y;
            }
        }
    }
    __device__ void load_queries(residual_tile const& t)
    {
#pragma unroll
        for (int i = 0; i < 2; ++i)
        {
            bfloat16 const* const row =
                place_.is_in(t.place, i)
                    ? a_.query.row(t.place.sequence, place_.query(t.place, i), place_.head(t.place, i))
                    : nullptr;
            features::load(row, a_.shape.width, i, query_);
        }
        if constexpr (Normalised)
            if (t.reads_state) add_normaliser(t);
    }
    __device__ void add_normaliser(residual_tile const& t)
    {
        detail::sequence const s = a_.shape.tiles.sequences.at_work(t.place.sequence);
        float const* const normaliser = a_.state.normaliser(s, t.place.head, t.state_end);
        int const column = threadIdx.x % 4 * 2;
#pragma unroll
        for (int half = 0; half < features::halves; ++half)
#pragma unroll
            for (int j = 0; j < Width / 8; ++j)
            {
                if (8 * j >= a_.shape.width) continue;
                float const* const n = normaliser + half * a_.shape.width + 8 * j + column;
#pragma unroll
                for (int i = 0; i < 2; ++i)
                {
                    std::uint32_t const pair = query_[half * Width / 4 + 2 * j + i];
                    denominator_.add(i, low_number(pair) * n[0]);
                    denominator_.add(i, high_number(pair) * n[1]);
                }
            }
    }

    /// Is it time for the state's next chunk? What blocks do not leave time for comes after the last.
    __device__ bool chunk_is_due() const
    {
        return chunks_read_ < chunks_end_ && (last_ || step_ >= chunk_due_);
    }
    /// phi(Q) times 64 rows of the state, which come as two numbers of 16 bits. Nothing else is under way.
    __device__ void add_chunk()
    {
        int const to_a_half = chunks_to_a_half(a_.shape);
        int const chunk = features::halves * to_a_half - (chunks_end_ - chunks_read_);
        int const panel = chunk / to_a_half * memory::panels + chunk % to_a_half;
        m_.state_full.wait(phase_parity(chunks_read_, 1));
        std::uint64_t const state = warp_descriptor(shared_address(m_.state), panel_bytes);
#pragma unroll
        for (int p = 0; p < memory::feature_panels; ++p)
        {
            if (p != panel) continue; // registers have no numbers that are found at run time
            open_products();
#pragma unroll
            for (int part = 0; part < 2; ++part)
#pragma unroll
                for (int k = 0; k < 4; ++k)
                    value_product::registers_by_columns(sums_, query_ + 16 * p + 4 * k,
                                                        moved(state, part * memory::panels * panel_bytes + k * 2048));
            close_products();
            wait_products<0>();
            pin(sums_);
        }
        let_go(m_.state_free);
        ++chunks_read_;
        chunk_due_ += chunk_spacing;
    }

    /// Goes on to the tile's next block. False where it concerns no row of this warpgroup: it must be passed over.
    __device__ bool open_step()
    {
        ++step_;
        int const place = step_ % memory::feature_stages;
        m_.features_full[place].wait(phase_parity(step_, memory::feature_stages));
        block_note const& note = m_.note[place];
        last_ = note.last;
        passing_ = !note.visits[group_];
        coefficient_[0] = place_.has(note.tokens, 0) ? note.sign : 0.0f;
        coefficient_[1] = place_.has(note.tokens, 1) ? note.sign : 0.0f;
        return !passing_;
    }
    /// The same in a row of blocks, unless the row ends.
    __device__ bool next_step()
    {
        return !last_ && !chunk_is_due() && open_step();
    }
    __device__ void pass_over()
    {
        m_.features_free[step_ % memory::feature_stages].arrive();
        wait_for_values(step_); // or a later wait could take this use of the place for the next
        let_go_values(step_);
        passing_ = false;
    }

    /// Blocks one after another, from the open one on.
    __device__ void visit()
    {
        float products[feature_product::registers];
        int const first = step_;
        make_products(products);
        pack_products(products, packed_[0]);
        for (;;)
        {
            if (!next_step()) return finish(packed_[0], first);
            go_on(products, packed_[0], packed_[1], first);
            if (!next_step()) return finish(packed_[1], first);
            go_on(products, packed_[1], packed_[0], first);
        }
    }
    /// Products of the open block beside the values of the one before.
    __device__ void go_on(float (&products)[feature_product::registers], std::uint32_t const (&packed)[product_words],
                          std::uint32_t (&next)[product_words], int first)
    {
        wait_for_values(step_ - 1);
        open_products();
        start_products(products);
        close_products();
        start_values(packed, step_ - 1);
        close_products();
        wait_products<1>();
        pin(products);
        m_.features_free[step_ % memory::feature_stages].arrive();
        if (step_ - 2 >= first) let_go_values(step_ - 2); // summed before these products were made
        weigh(products);
        pack_products(products, next);
    }
    /// Values of the last block, before one that was opened only to be passed over.
    __device__ void finish(std::uint32_t const (&packed)[product_words], int first)
    {
        int const last = passing_ ? step_ - 1 : step_;
        wait_for_values(last);
        open_products();
        start_values(packed, last);
        close_products();
        wait_products<0>();
        pin(sums_);
        if (last - 1 >= first) let_go_values(last - 1);
        let_go_values(last);
    }
    /// The same where products keep what 16 bits lose of them: a second sum for the rest. Seldom, and one after the
    /// other.
    __device__ void visit_finely()
    {
        float products[feature_product::registers];
        do
        {
            make_products(products);
            pack_both(products);
            wait_for_values(step_);
            open_products();
            start_values(packed_[0], step_);
            start_values(packed_[1], step_);
            close_products();
            wait_products<0>();
            pin(sums_);
            let_go_values(step_);
        } while (next_step());
    }

    /// Products of the open block, with nothing under way.
    __device__ void make_products(float (&products)[feature_product::registers])
    {
        open_products();
        start_products(products);
        close_products();
        wait_products<0>();
        pin(products);
        m_.features_free[step_ % memory::feature_stages].arrive();
        weigh(products);
    }
    __device__ void start_products(float (&products)[feature_product::registers])
    {
        std::uint64_t const keys = warp_descriptor(shared_address(m_.features[step_ % memory::feature_stages]), 0);
#pragma unroll
        for (int k = 0; k < memory::feature_panels * 4; ++k)
            feature_product::registers_by_rows(products, query_ + 4 * k, moved(keys, k / 4 * panel_bytes + k % 4 * 32),
                                               k > 0);
    }
    __device__ void start_values(std::uint32_t const (&packed)[product_words], int step)
    {
        std::uint64_t const value = warp_descriptor(shared_address(m_.value[step % memory::value_stages]), panel_bytes);
#pragma unroll
        for (int k = 0; k < block_tokens / 16; ++k)
            value_product::registers_by_columns(sums_, packed + 4 * k, moved(value, k * 2048));
    }
    __device__ void wait_for_values(int step)
    {
        m_.value_full[step % memory::value_stages].wait(phase_parity(step, memory::value_stages));
    }
    __device__ void let_go_values(int step)
    {
        let_go(m_.value_free[step % memory::value_stages]);
    }

    __device__ void weigh(float (&products)[feature_product::registers])
    {
#pragma unroll
        for (int j = 0; j < feature_product::registers; ++j)
        {
            products[j] *= coefficient_[j % 4 / 2];
            denominator_.add(j % 4 / 2, products[j]);
        }
    }
    __device__ static void pack_products(float const (&products)[feature_product::registers],
                                         std::uint32_t (&packed)[product_words])
    {
#pragma unroll
        for (int j = 0; j < product_words; ++j) packed[j] = pack<bfloat16>(products[2 * j], products[2 * j + 1]);
    }
    __device__ void pack_both(float const (&products)[feature_product::registers])
    {
        pack_products(products, packed_[0]);
#pragma unroll
        for (int j = 0; j < product_words; ++j)
            packed_[1][j] = pack<bfloat16>(products[2 * j] - low_number(packed_[0][j]),
                                           products[2 * j + 1] - high_number(packed_[0][j]));
    }

    residual_arguments const& a_;
    memory& m_;
    int group_;
    row_place place_;
    int chunks_read_ = 0, chunks_end_ = 0; ///< chunks of states: so far, and when this tile is done
    int chunk_due_;                        ///< the block that the next one comes after
    int step_ = -1;                        ///< the open block, of all tiles
    bool last_, passing_ = false;
    float coefficient_[2]; ///< of this thread's rows in the open block
    std::uint32_t query_[features::words];
    std::uint32_t packed_[2][product_words];
    float sums_[value_product::registers];
    row_denominator<Normalised> denominator_;
};

} // namespace spla::cuda
