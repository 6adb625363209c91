// SPDX-FileCopyrightText: The spla authors
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once
#include "column_product.hpp"
#include "list_state_shape.hpp"
#include "residual_rows.hpp"

/// A warpgroup's part of a list's item: its slice of S, of D, and 64 of each 128 rows (spec section 4).
namespace spla::cuda
{

template <class FeatureMap, int Width>
class list_state_rows
{
    using features = query_features<FeatureMap, Width>;
    using memory = list_state_memory<features::halves, Width>;
    using sum_product = column_product<memory::summed>;
    using row_product = product<bfloat16, Width>;
    using row_numbers = std::uint32_t[2][features::pairs]; ///< of this thread's two rows of queries
    static constexpr int stage_panel_bytes = memory::stage_keys * panel_width * 2;
    static constexpr int panel_bytes = Width * panel_width * 2; ///< of D
    static constexpr int part_bytes = memory::feature_panels * panel_bytes;
    static constexpr int panels = memory::summed / panel_width; ///< of its slice of S
    static constexpr int panel_words = sum_product::registers / panels;

public:
    __device__ list_state_rows(list_state_arguments const& a, memory& m, int group)
        : a_(a), m_(m), place_(a.rows, group), sums_states_(4 * group < memory::summing_warps),
          value_panel_(Width == 128 ? group : 0), feature_panel_(Width == 128 ? 0 : group)
    {
    }

    /// One list, from what it selects to the outputs of all rows.
    __device__ void process(list_item const& item)
    {
        tile_place rows = item.place; // the first that are the call's
        rows.first += (rows.begin - rows.first) / a_.rows.tokens * a_.rows.tokens;
        if (item.works && sums_states_)
        {
            sum_blocks(item.blocks);
            subtract_from_state();
        }
        multiply_rows(rows, item.place, item.works);
        if (item.works)
        {
            let_go(m_.difference_free);
            ++works_;
        }
    }

private:
    /// S of the item's blocks. The next stage's products are under way when one is let go.
    __device__ void sum_blocks(int blocks)
    {
#pragma unroll
        for (int i = 0; i < sum_product::registers; ++i) state_[i] = 0.0f;
        if (blocks == 0) return;
        add_stage();
        for (int n = 1; n < blocks * memory::stages_a_block; ++n)
        {
            add_stage();
            wait_products<1>();
            let_go(m_.free[(step_ - 2) % memory::stages]);
        }
        wait_products<0>();
        pin(state_);
        let_go(m_.free[(step_ - 1) % memory::stages]);
    }
    /// Starts the next stage's products.
    __device__ void add_stage()
    {
        int const place = step_ % memory::stages;
        m_.full[place].wait(phase_parity(step_, memory::stages));
        auto const& stage = m_.loaded[place];
        std::uint64_t const value = warp_descriptor(shared_address(stage.value[value_panel_]), 0);
        std::uint64_t const keys = warp_descriptor(shared_address(stage.features[feature_panel_]), stage_panel_bytes);
        open_products();
#pragma unroll
        for (int k = 0; k < memory::stage_keys / 16; ++k)
            sum_product::add(state_, moved(value, k * 2048), moved(keys, k * 2048));
        close_products();
        ++step_;
    }

    /// This slice of D = prefix state - S, in accumulators and then in place of the prefix state in shared memory.
    __device__ void subtract_from_state()
    {
        int const column = value_panel_ * panel_width + threadIdx.x % 128 / 32 * 16 + threadIdx.x % 32 / 4;
        m_.state_full.wait(phase_parity(works_, 1));
#pragma unroll
        for (int p = 0; p < panels; ++p) subtract_panel(p, column);
        sync_threads(1, memory::summing_warps * 32); // all have read
#pragma unroll
        for (int p = 0; p < panels; ++p) store_panel(p, column);
        fence_shared_writes();
        let_go(m_.difference_full);
    }
    /// 64 features of this thread's two rows of accumulators: value column `column` and 8 more.
    __device__ void subtract_panel(int p, int column)
    {
        int const first = (feature_panel_ + p) * panel_width, half = first / Width, d = first % Width;
        auto const& box = m_.state[half * (Width / state_columns) + column / state_columns];
        int const lane = threadIdx.x % 32;
#pragma unroll
        for (int i = 0; i < 2; ++i)
#pragma unroll
            for (int e = 0; e < 2; ++e)
            {
                int const row = d + lane % 4 * 2 + e; // 8 j more have the same number modulo 8
                int const piece = (column + 8 * i) % state_columns / 4 ^ row % 8;
                float const* const from = &box[row][piece * 4 + column % 4];
#pragma unroll
                for (int j = 0; j < panel_width / 8; ++j)
                {
                    float& sum = state_[panel_words * p + 4 * j + 2 * i + e];
                    sum = from[8 * j * state_columns] - sum;
                }
            }
    }
    /// The same, each number as the sum of two of 16 bits.
    __device__ void store_panel(int p, int column)
    {
        int const lane = threadIdx.x % 32;
#pragma unroll
        for (int j = 0; j < panel_width / 8; ++j)
        {
            int const to = (j ^ lane / 4) * 8 + lane % 4 * 2; // a row's number is lane / 4 modulo 8
#pragma unroll
            for (int i = 0; i < 2; ++i)
            {
                float const* const pair = state_ + panel_words * p + 4 * j + 2 * i;
                std::uint32_t const high = pack<bfloat16>(pair[0], pair[1]);
                std::uint32_t const low = pack<bfloat16>(pair[0] - low_number(high), pair[1] - high_number(high));
                store_word(m_.difference[0][feature_panel_ + p][column + 8 * i] + to, high);
                store_word(m_.difference[1][feature_panel_ + p][column + 8 * i] + to, low);
            }
        }
    }
    __device__ static void store_word(std::uint16_t* to, std::uint32_t word)
    {
        *reinterpret_cast<std::uint32_t*>(to) = word;
    }

    /// phi(Q) D of the list's rows, 128 by 128 from t on, to the outputs.
    __device__ void multiply_rows(tile_place t, tile_place const& list, bool works)
    {
        bool const idle[2] = {!works, !works};
        row_numbers fetched;
        if (works) fetch_queries(t, fetched);
        for (bool first = true;; first = false)
        {
            float sums[row_product::registers];
            tile_place next = list;
            next.first = t.first + a_.rows.tokens;
            bool const last = next.first >= list.end;
            place_rows(next, list);
            if (works)
            {
                std::uint32_t query[features::words];
                make_queries(t, fetched, query);
                if (!last) fetch_queries(next, fetched); // they arrive while these are multiplied
                if (first) m_.difference_full.wait(phase_parity(works_, 1));
                multiply(query, sums);
            }
            else
            {
#pragma unroll
                for (int i = 0; i < row_product::registers; ++i) sums[i] = 0.0f;
            }
            store_residual(a_, place_, t, idle, sums, row_denominator<false>{});
            if (last) return;
            t = next;
        }
    }
    /// Which tokens of 128 rows from t.first on are the call's.
    __device__ static void place_rows(tile_place& t, tile_place const& list)
    {
        t.begin = list.begin > t.first ? list.begin : t.first;
        t.end = list.end;
    }
    __device__ void fetch_queries(tile_place const& t, row_numbers& fetched) const
    {
#pragma unroll
        for (int i = 0; i < 2; ++i)
        {
            bfloat16 const* const row =
                place_.is_in(t, i) ? a_.query.row(t.sequence, place_.query(t, i), place_.head(t, i)) : nullptr;
            features::fetch(row, a_.shape.width, fetched[i]);
        }
    }
    __device__ void make_queries(tile_place const& t, row_numbers const& fetched,
                                 std::uint32_t (&query)[features::words]) const
    {
#pragma unroll
        for (int i = 0; i < 2; ++i) features::make(place_.is_in(t, i), fetched[i], a_.shape.width, i, query);
    }
    __device__ void multiply(std::uint32_t const (&query)[features::words], float (&sums)[row_product::registers]) const
    {
        std::uint64_t const difference = warp_descriptor(shared_address(m_.difference), 0);
        open_products();
#pragma unroll
        for (int part = 0; part < 2; ++part)
#pragma unroll
            for (int k = 0; k < memory::feature_panels * 4; ++k)
                row_product::registers_by_rows(sums, query + 4 * k,
                                               moved(difference, part * part_bytes + k / 4 * panel_bytes + k % 4 * 32),
                                               part + k > 0);
        close_products();
        wait_products<0>();
        pin(sums);
    }

    list_state_arguments const& a_;
    memory& m_;
    row_place place_;
    bool sums_states_;
    int value_panel_, feature_panel_; ///< the first of its slice of S
    int step_ = 0;                    ///< stages so far, of all items
    int works_ = 0;                   ///< items with a residual so far
    float state_[sum_product::registers];
};

} // namespace spla::cuda
