// SPDX-FileCopyrightText: The spla authors
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once
#include "../portable/state_kernel.hpp"
#include "exact_shape.hpp"
#include "matrix_product.hpp"

/// The walk of one slice of a linear state over the blocks that enter it: 64 features x 32 value columns, in registers.
namespace spla::cuda
{

inline constexpr int state_tile = panel_width; ///< features of a slice
inline constexpr int state_columns = 32;       ///< value columns

struct state_arguments
{
    CUtensorMap features, value;
    CUtensorMap prefix; ///< prefix states: [number of the matrix, half, feature of the half, value column]
    detail::token_map features_map, value_map;
    detail::sequence_table sequences;
    portable::linear_tensor<float> state;
    int first_token; ///< of the features
    int width;
    int padded_width, halves;
    int column_tiles;
};

/// The part of a state that a block of threads carries.
struct state_slice
{
    int sequence, head;
    int feature; ///< first of the tensor of features
    int column;
    std::int64_t first_block;      ///< that enters
    int blocks;                    ///< that enter
    std::int64_t started, running; ///< numbers of its running state before (negative: zeros) and after them
    std::int64_t prefix;           ///< of its first prefix state; those of a head are key_heads apart
    std::int64_t first;            ///< feature of the state
    int rows;                      ///< features that exist; those behind are padding

    __device__ explicit state_slice(state_arguments const& a)
    {
        int const tiles = a.halves * a.padded_width / state_tile;
        int n = static_cast<int>(blockIdx.x);
        column = n % a.column_tiles * state_columns;
        n /= a.column_tiles;
        feature = n % tiles * state_tile;
        n /= tiles;
        int const heads = static_cast<int>(a.state.key_heads);
        head = n % heads;
        sequence = n / heads;
        portable::linear_tensor<float> const& state = a.state;
        detail::sequence const s = a.sequences[sequence];
        std::int64_t const end = state.end_after(s);
        first_block = state.end_before(s);
        // Variable lengths: a sequence without queries is passed over, whatever it names as its slot.
        blocks = state.of_slots && s.queries <= 0 ? 0 : static_cast<int>(end - first_block);
        if (blocks == 0) return;
        bool const empty = state.of_slots && first_block == state.bounds.sink_blocks;
        started = empty ? -1 : state.running_number(s, first_block) + head;
        running = state.running_number(s, end) + head;
        prefix = state.prefix_number(s, 0) + head;
        int const dim = feature % a.padded_width;
        first = feature / a.padded_width * a.width + dim;
        rows = a.width - dim;
    }
    /// Number of the running state that a slot keeps of the blocks before the n-th, for a sequence that may go back
    /// there; negative where it keeps none.
    __device__ std::int64_t kept(state_arguments const& a, int n) const
    {
        portable::linear_tensor<float> const& state = a.state;
        if (!state.of_slots || n == 0) return -1;
        std::int64_t const left = blocks - n;
        if (left > (state.kept - 1) * state.step || left % state.step != 0) return -1;
        return state.running_number(a.sequences[sequence], first_block + n) + head;
    }
};

struct state_memory
{
    static constexpr int stages = 8; ///< with more, slices drift apart and read memory twice
    static constexpr int outputs = 4;
    std::uint16_t feature[stages][block_tokens][panel_width];
    std::uint16_t value[stages][block_tokens][state_columns]; ///< rows of 64 bytes, swizzled
    float output[outputs][state_tile][state_columns];         ///< states on their way: rows of 128 bytes, swizzled
    barrier full[stages], free[stages];
    barrier output_full[outputs], output_free[outputs];
};

/// One thread commands the copy engine.
__device__ inline void load_state_blocks(state_arguments const& a, state_memory& m, state_slice const& s)
{
    auto const load = [&](CUtensorMap const& map, detail::token_map const& map_of, int first, int n, void* to,
                          int column) {
        auto const at = map_of(s.sequence, (s.first_block + n) * block_tokens - first);
        copy_box(map, m.full[n % state_memory::stages], to, column, s.head, static_cast<int>(at.token),
                 static_cast<int>(at.batch));
    };
    for (int n = 0; n < s.blocks; ++n)
    {
        int const place = n % state_memory::stages;
        m.free[place].wait(free_parity(n, state_memory::stages));
        m.full[place].arrive_expecting(sizeof(m.feature[0]) + sizeof(m.value[0]));
        load(a.features, a.features_map, a.first_token, n, m.feature[place], s.feature);
        load(a.value, a.value_map, 0, n, m.value[place], s.column);
    }
}

/// The warpgroup that multiplies. A block's product is summed apart and then added in fp32, rounded to nearest: matrix
/// units cut off, and a state that stayed in their accumulators would shrink, block after block.
class state_carrier
{
    using block_product = column_product<state_columns>;
    using numbers = float[block_product::registers];

public:
    __device__ state_carrier(state_arguments const& a, state_memory& m, state_slice const& s)
        : a_(a), m_(m), s_(s), row_(threadIdx.x / 32 * 16 + threadIdx.x % 32 / 4)
    {
    }

    __device__ void run()
    {
        if (s_.started >= 0)
            each_pair(running(s_.started), [&](float2 const& from, int i) {
                sum_[i] = from.x;
                sum_[i + 1] = from.y;
            });
        int n = 0;
        for (; n + 1 < s_.blocks; n += 2)
        {
            numbers first, second; // products of two blocks, under way while the states before them are stored
            multiply(n, first);
            multiply(n + 1, second);
            add<1>(n, first);
            add<0>(n + 1, second);
        }
        if (n < s_.blocks)
        {
            numbers last;
            multiply(n, last);
            add<0>(n, last);
        }
        store(s_.running);
    }

private:
    __device__ float* running(std::int64_t number) const
    {
        return a_.state.running + number * (a_.state.features * a_.state.leading);
    }
    __device__ void store(std::int64_t number) const
    {
        each_pair(running(number), [&](float2& to, int i) { to = float2{sum_[i], sum_[i + 1]}; });
    }
    /// Visits the neighbouring numbers of a matrix that this thread has.
    template <class Visit>
    __device__ void each_pair(float* matrix, Visit const& visit) const
    {
        std::int64_t const leading = a_.state.leading;
        int const column = s_.column + threadIdx.x % 4 * 2;
        float* const first = matrix + (s_.first + row_) * leading + column;
#pragma unroll
        for (int j = 0; j < state_columns / 8; ++j)
#pragma unroll
            for (int i = 0; i < 2; ++i)
                if (row_ + 8 * i < s_.rows && column + 8 * j < leading)
                    visit(*reinterpret_cast<float2*>(first + i * 8 * leading + 8 * j), 4 * j + 2 * i);
    }
    /// Starts the product of block n.
    __device__ void multiply(int n, numbers& block)
    {
        int const place = n % state_memory::stages;
        m_.full[place].wait(phase_parity(n, state_memory::stages));
        std::uint64_t const feature = panel_descriptor(shared_address(m_.feature[place]), 1024, 0);
        std::uint64_t const value = panel_descriptor<64>(shared_address(m_.value[place]), 512, 0);
        open_products();
        block_product::template add<1, true>(block, feature, value);
#pragma unroll
        for (int k = 1; k < block_tokens / 16; ++k)
            block_product::add(block, moved(feature, k * 2048), moved(value, k * 1024));
        close_products();
    }
    /// Stores the state before block n, and adds its product when at most so many are under way.
    template <int Later>
    __device__ void add(int n, numbers& block)
    {
        put_out(n);
        if (std::int64_t const kept = s_.kept(a_, n); kept >= 0) store(kept);
        wait_products<Later>();
        pin(block);
        let_go(m_.free[n % state_memory::stages]);
#pragma unroll
        for (int i = 0; i < block_product::registers; ++i) sum_[i] += block[i];
        fence_shared_writes(); // which are done by now
        m_.output_full[n % state_memory::outputs].arrive();
    }
    __device__ void put_out(int n)
    {
        int const place = n % state_memory::outputs, pair = threadIdx.x % 4; // pair: of the 16 bytes' two
        m_.output_free[place].wait(free_parity(n, state_memory::outputs));
#pragma unroll
        for (int j = 0; j < state_columns / 8; ++j)
#pragma unroll
            for (int i = 0; i < 2; ++i)
            {
                float* const to = m_.output[place][row_ + 8 * i];
                *reinterpret_cast<float2*>(to + ((2 * j + pair / 2) ^ row_ % 8) * 4 + pair % 2 * 2) =
                    float2{sum_[4 * j + 2 * i], sum_[4 * j + 2 * i + 1]};
            }
    }

    state_arguments const& a_;
    state_memory& m_;
    state_slice const& s_;
    int row_;
    numbers sum_ = {};
};

/// One thread has the copy engine store what the warpgroup puts out.
__device__ inline void store_states(state_arguments const& a, state_memory& m, state_slice const& s)
{
    constexpr int reading = 2; // stores that may still read shared memory
    int const half = s.feature / a.padded_width, feature = s.feature - half * a.padded_width;
    for (int n = 0; n < s.blocks; ++n)
    {
        int const place = n % state_memory::outputs;
        m.output_full[place].wait(phase_parity(n, state_memory::outputs));
        store_box(a.prefix, m.output[place], s.column, feature, half,
                  static_cast<int>(s.prefix + n * a.state.key_heads));
        close_stores();
        wait_stores<reading>();
        if (n >= reading) m.output_free[(n - reading) % state_memory::outputs].arrive();
    }
    wait_stores<0>();
}

/// A warp that sums features, two a lane, for the normaliser.
__device__ inline void carry_normaliser(state_arguments const& a, state_memory& m, state_slice const& s)
{
    portable::linear_tensor<float> const& state = a.state;
    int const lane = threadIdx.x % 32;
    bool const here = 2 * lane < s.rows; // widths are even
    std::int64_t const first = s.first + 2 * lane;
    auto const running = [&](std::int64_t number) {
        return state.running_normaliser + number * state.features + first;
    };
    float sum[2] = {0.0f, 0.0f};
    auto const store = [&](float* to) {
        if (here) to[0] = sum[0], to[1] = sum[1];
    };
    if (here && s.started >= 0) sum[0] = running(s.started)[0], sum[1] = running(s.started)[1];
    for (int n = 0; n < s.blocks; ++n)
    {
        int const place = n % state_memory::stages;
        m.full[place].wait(phase_parity(n, state_memory::stages));
        float block[2] = {0.0f, 0.0f};
#pragma unroll 16
        for (int r = 0; r < block_tokens; ++r)
        {
            auto const* const words = reinterpret_cast<std::uint32_t const*>(m.feature[place][r]);
            std::uint32_t const two = words[(lane / 4 ^ r % 8) * 4 + lane % 4];
            block[0] += __uint_as_float(two << 16);
            block[1] += __uint_as_float(two & 0xffff0000u);
        }
        let_go(m.free[place]);
        store(state.prefix_normaliser + (s.prefix + n * state.key_heads) * state.features + first);
        if (std::int64_t const kept = s.kept(a, n); kept >= 0) store(running(kept));
        sum[0] += block[0], sum[1] += block[1];
    }
    store(running(s.running));
}

} // namespace spla::cuda
