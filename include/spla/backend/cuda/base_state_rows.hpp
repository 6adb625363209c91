// SPDX-FileCopyrightText: The spla authors
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once
#include "base_state_shape.hpp"
#include "matrix_product.hpp"

/// A warpgroup that multiplies: its part of D in accumulators, carried from tile to tile, and rows times D (spec
/// section 4). Of wide values each warpgroup has a half of their columns; of narrow ones each has all, and a half of
/// the rows.
namespace spla::cuda
{

template <int Halves, int Width>
class base_state_rows
{
    using memory = base_state_memory<Halves, Width>;
    using sum_product = column_product<(memory::features < 128 ? memory::features : 128)>;
    static constexpr int sum_parts = memory::features * 64 / 128 / sum_product::registers;
    using row_product = product<bfloat16, 64>; ///< columns are rows of queries
    static constexpr int stage_panel_bytes = memory::stage_keys * panel_width * 2;
    static constexpr int row_bytes = panel_width * 2, row_panel_bytes = memory::rows_at_once * row_bytes;
    static constexpr int steps = memory::features / 16;

public:
    __device__ base_state_rows(base_state_arguments const& a, memory& m, int group)
        : a_(a), m_(m), value_panel_(Width == 128 ? group : 0), first_row_(Width == 128 ? 0 : group * 64)
    {
    }

    /// Rows that have a residual, and before them what D becomes.
    __device__ void process(base_rows const& note)
    {
        if (note.restarts) load_state(note);
        add_blocks<-1>(note.removed);
        add_blocks<1>(note.added);
        multiply(note.number);
    }

private:
    __device__ int column() const
    {
        return value_panel_ * panel_width + threadIdx.x % 128 / 32 * 16 + threadIdx.x % 32 / 4;
    }
    /// D = the state of the blocks before the note's.
    __device__ void load_state(base_rows const& note)
    {
        bool const empty = note.state_end <= a_.shape.tiles.bounds.sink_blocks;
        detail::sequence const s = a_.shape.tiles.sequences.at_work(note.sequence);
        float const* const matrix = empty ? nullptr : a_.state.matrix(s, note.head, note.state_end);
        int const leading = static_cast<int>(a_.state.leading);
        bool here[2]; // columns
#pragma unroll
        for (int i = 0; i < 2; ++i) here[i] = !empty && column() + 8 * i < a_.shape.tiles.value_dim;
#pragma unroll
        for (int half = 0; half < Halves; ++half)
        {
            float const* from = matrix + (half * a_.shape.width + threadIdx.x % 4 * 2) * leading + column();
#pragma unroll
            for (int j = 0; j < Width / 8; ++j, from += 8 * leading)
#pragma unroll
                for (int i = 0; i < 2; ++i)
#pragma unroll
                    for (int e = 0; e < 2; ++e)
                        number(half * (Width / 2) + 4 * j + 2 * i + e) =
                            here[i] && 8 * j < a_.shape.width ? from[e * leading + 8 * i] : 0.0f;
        }
    }

    __device__ float& number(int i)
    {
        return state_[i / sum_product::registers][i % sum_product::registers];
    }

    /// D += Sign times phi(K_b)^T V_b of the next blocks. The next stage's products are under way when one is let go.
    template <int Sign>
    __device__ void add_blocks(int blocks)
    {
        if (blocks == 0) return;
        add_stage<Sign>();
        for (int n = 1; n < blocks * memory::stages_a_block; ++n)
        {
            add_stage<Sign>();
            wait_products<1>();
            let_go(m_.free[(stage_ - 2) % memory::stages]);
        }
        wait_products<0>();
#pragma unroll
        for (int p = 0; p < sum_parts; ++p) pin(state_[p]);
        let_go(m_.free[(stage_ - 1) % memory::stages]);
    }
    /// Starts the next stage's products.
    template <int Sign>
    __device__ void add_stage()
    {
        int const place = stage_ % memory::stages;
        m_.full[place].wait(phase_parity(stage_, memory::stages));
        auto const& stage = m_.loaded[place];
        std::uint64_t const value = warp_descriptor(shared_address(stage.value[value_panel_]), 0);
        std::uint64_t const keys = warp_descriptor(shared_address(stage.features), stage_panel_bytes);
        open_products();
#pragma unroll
        for (int k = 0; k < memory::stage_keys / 16; ++k)
#pragma unroll
            for (int p = 0; p < sum_parts; ++p)
                sum_product::template add<Sign>(state_[p], moved(value, k * 2048),
                                                moved(keys, k * 2048 + p * 2 * stage_panel_bytes));
        close_products();
        ++stage_;
    }

    /// The rows' products with D.
    __device__ void multiply(int n)
    {
        int const place = n % memory::places;
        float products[row_product::registers];
        m_.features_full[place].wait(phase_parity(n, memory::places));
        std::uint64_t const features = warp_descriptor(shared_address(m_.rows[place].features[0][first_row_]), 0);
        std::uint32_t half[2][4]; // of 16 features' numbers: each the sum of two of 16 bits
#pragma unroll
        for (int k = 0; k < steps; ++k)
        {
            std::uint64_t const from = moved(features, k / 4 * row_panel_bytes + k % 4 * 32);
#pragma unroll
            for (int low = 0; low < 2; ++low)
            {
                if (k > 0)
                {
                    wait_products<1>();
                }
                split(&number(8 * k), low, half[low]);
                open_products();
                row_product::registers_by_rows(products, half[low], from, k > 0 || low > 0);
                close_products();
            }
        }
        wait_products<0>();
        pin(products);
        let_go(m_.features_read[place]);
        if (n > 0) m_.features_read[(n - 1) % memory::places].wait(phase_parity(n - 1, memory::places));
        store(products, m_.products(n));
        m_.products_full[place].arrive();
    }
    /// Accumulators as a first operand, or what that loses of them. Registers of an operand under way may not even be
    /// read: the rest is made of the numbers again, which stay as they are, but not as far as the compiler knows, who
    /// would make operands early and so need registers for more of them.
    __device__ static void split(float* x, bool low, std::uint32_t (&half)[4])
    {
#pragma unroll
        for (int i = 0; i < 8; ++i) asm volatile("" : "+f"(x[i])::"memory");
#pragma unroll
        for (int i = 0; i < 4; ++i)
        {
            std::uint32_t const high = pack<bfloat16>(x[2 * i], x[2 * i + 1]);
            half[i] = low ? pack<bfloat16>(x[2 * i] - low_number(high), x[2 * i + 1] - high_number(high)) : high;
        }
    }
    __device__ void store(float const (&products)[row_product::registers],
                          float (&to)[memory::rows_at_once][Width]) const
    {
        int const row = first_row_ + threadIdx.x % 4 * 2; // 8 j more, and the next, have the same exchange
#pragma unroll
        for (int i = 0; i < 2; ++i)
        {
            float* const first = &to[row][product_column(row, column() + 8 * i)];
#pragma unroll
            for (int j = 0; j < row_product::registers / 4; ++j)
#pragma unroll
                for (int e = 0; e < 2; ++e) first[(8 * j + e) * Width] = products[4 * j + 2 * i + e];
        }
    }

    base_state_arguments const& a_;
    memory& m_;
    int value_panel_, first_row_;
    int stage_ = 0; ///< so far, of all tiles
    float state_[sum_parts][sum_product::registers];
};

} // namespace spla::cuda
