// SPDX-FileCopyrightText: The spla authors
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once
#include "../portable/state_kernel.hpp"
#include "exact_shape.hpp"
#include "matrix_product.hpp"

/// The walk of one slice of a linear state over the blocks that enter it: 64 features x 64 value columns, in registers.
namespace spla::cuda
{

inline constexpr int state_tile = panel_width; ///< features, or value columns, of a slice

struct state_arguments
{
    CUtensorMap features, value;
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
        column = n % a.column_tiles * state_tile;
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
    static constexpr int stages = 6;
    std::uint16_t feature[stages][block_tokens][panel_width];
    std::uint16_t value[stages][block_tokens][panel_width];
    barrier full[stages], free[stages];
};

/// d (+)= A^T B of 16 tokens: 64 x 64, A and B in panels whose rows are the tokens.
template <class Element>
__device__ void columns_by_columns(float (&d)[32], std::uint64_t a, std::uint64_t b, bool add)
{
    static_assert(std::is_same_v<Element, bfloat16>);
    asm volatile("{\n.reg .pred more;\nsetp.ne.b32 more, %34, 0;\n"
                 "wgmma.mma_async.sync.aligned.m64n64k16.f32.bf16.bf16 "
                 "{%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "
                 "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31}, "
                 "%32, %33, more, 1, 1, 1, 1;\n}\n"
                 : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3]), "+f"(d[4]), "+f"(d[5]), "+f"(d[6]), "+f"(d[7]),
                   "+f"(d[8]), "+f"(d[9]), "+f"(d[10]), "+f"(d[11]), "+f"(d[12]), "+f"(d[13]), "+f"(d[14]), "+f"(d[15]),
                   "+f"(d[16]), "+f"(d[17]), "+f"(d[18]), "+f"(d[19]), "+f"(d[20]), "+f"(d[21]), "+f"(d[22]),
                   "+f"(d[23]), "+f"(d[24]), "+f"(d[25]), "+f"(d[26]), "+f"(d[27]), "+f"(d[28]), "+f"(d[29]),
                   "+f"(d[30]), "+f"(d[31])
                 : "l"(a), "l"(b), "r"(static_cast<int>(add)));
}

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

/// 8 bytes at once: compilers make two stores of some assignments.
__device__ inline void store_pair(float2* to, float first, float second)
{
    asm volatile("st.global.v2.f32 [%0], {%1, %2};" ::"l"(__cvta_generic_to_global(to)), "f"(first), "f"(second)
                 : "memory");
}

/// The warpgroup that multiplies. A block's product is summed apart and then added in fp32, rounded to nearest: matrix
/// units cut off, and a state that stayed in their accumulators would shrink, block after block.
__device__ inline void carry_state(state_arguments const& a, state_memory& m, state_slice const& s)
{
    portable::linear_tensor<float> const& state = a.state;
    int const row = threadIdx.x / 32 * 16 + threadIdx.x % 32 / 4, column = s.column + threadIdx.x % 4 * 2;
    bool const here[2] = {row < s.rows, row + 8 < s.rows};
    int const columns = static_cast<int>(state.leading) - column; // this thread's 8 j is one where less
    std::int64_t const first = (s.first + row) * state.leading + column, numbers = state.features * state.leading;
    auto const each_pair = [&](float* matrix, auto const& visit) { // of neighbouring numbers that this thread has
#pragma unroll
        for (int j = 0; j < 8; ++j)
#pragma unroll
            for (int i = 0; i < 2; ++i)
                if (here[i] && 8 * j < columns)
                    visit(*reinterpret_cast<float2*>(matrix + first + i * 8 * state.leading + 8 * j), 4 * j + 2 * i);
    };
    float sum[32] = {};
    if (s.started >= 0)
        each_pair(state.running + s.started * numbers, [&](float2 const& from, int i) {
            sum[i] = from.x;
            sum[i + 1] = from.y;
        });
    auto const store = [&](float* matrix) {
        each_pair(matrix, [&](float2& to, int i) { store_pair(&to, sum[i], sum[i + 1]); });
    };
    for (int n = 0; n < s.blocks; ++n)
    {
        int const place = n % state_memory::stages;
        float block[32];
        m.full[place].wait(phase_parity(n, state_memory::stages));
        std::uint32_t const feature = shared_address(m.feature[place]), value = shared_address(m.value[place]);
        open_products();
#pragma unroll
        for (int k = 0; k < block_tokens / 16; ++k)
            columns_by_columns<bfloat16>(block, panel_descriptor(feature + k * 2048, 1024, 0),
                                         panel_descriptor(value + k * 2048, 1024, 0), k > 0);
        close_products();
        __syncwarp(); // products first: stores wait in their queue meanwhile
        store(state.prefix + (s.prefix + n * state.key_heads) * numbers);
        if (std::int64_t const kept = s.kept(a, n); kept >= 0) store(state.running + kept * numbers);
        wait_products<0>();
        pin(block);
        let_go(m.free[place]);
#pragma unroll
        for (int i = 0; i < 32; ++i) sum[i] += block[i];
    }
    store(state.running + s.running * numbers);
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
