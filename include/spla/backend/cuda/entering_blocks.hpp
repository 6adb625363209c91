// SPDX-FileCopyrightText: The spla authors
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once
#include "../portable/state_kernel.hpp"
#include "decode_features.hpp"
#include "decode_product.hpp"

/// The linear state of a decoded sequence and key head, when blocks leave its window (spec section 4): phi(K)^T V of
/// each is added, one after the other, by one block of threads or by several that share the columns.
namespace spla::cuda
{

struct entering_arguments
{
    detail::tensor<bfloat16 const> key, value;
    portable::linear_tensor<float> state;
    int width, value_dim;
};

template <class FeatureMap, int Threads>
class entering_blocks
{
    static constexpr int width = 128, warps = Threads / 32, tokens = 64;
    using features = quad_features<FeatureMap, width>; // of narrower rows the same bits
    static constexpr int row = width + 8;              // of shared memory: eight rows meet no bank twice
    static constexpr int tile_rows = 16, tile_columns = 32;

public:
    struct memory
    {
        alignas(16) std::uint16_t features[tokens][row]; ///< of keys, one half
        alignas(16) std::uint16_t values[tokens][row];
    };

    __device__ entering_blocks(entering_arguments const& a, memory& m) : a_(a), m_(m) {}

    /// All blocks that enter with the step, in order; columns: part `part` of `parts`. before: prefix states of the
    /// batch before this sequence's, which are written where keeps_prefixes.
    __device__ void add(detail::sequence const& s, std::int64_t head, std::int64_t before, bool keeps_prefixes,
                        int part, int parts) const
    {
        auto const& state = a_.state;
        std::int64_t const begin = state.end_before(s), end = state.end_after(s);
        std::int64_t const numbers = state.features * state.leading;
        auto const running = [&](std::int64_t of_end) {
            return state.running + (state.running_number(s, of_end) + head) * numbers;
        };
        int const tiles = static_cast<int>((state.leading + tile_columns - 1) / tile_columns);
        int const first = tiles * part / parts, last = tiles * (part + 1) / parts;
        if (first == last) return;
        for (std::int64_t block = begin; block < end; ++block)
        {
            // A slot's first state is nothing, whatever its bytes are; the next ones are what this block of threads has
            // just made.
            bool const starts = block == begin, empty = starts && begin == state.bounds.sink_blocks;
            float const* const from = empty ? nullptr : running(starts ? begin : end);
            // What the sequence may go back to.
            bool const keeps =
                !starts && block + (state.kept - 1) * state.step >= end && (end - block) % state.step == 0;
            float* const kept = keeps ? running(block) : nullptr;
            float* const prefix =
                keeps_prefixes ? state.prefix + ((before + block - begin) * state.key_heads + head) * numbers : nullptr;
            std::int64_t const token = block * tokens;
            auto const keys = a_.key.rows(s.number, token, head);
            fetch(keys, from, first, last);
            load_values(a_.value.rows(s.number, token, head));
#pragma unroll 1
            for (int half = 0; half < features::halves; ++half)
            {
                load_features(keys, half);
                __syncthreads();
                add_tiles(half, first, last, from, running(end), prefix, kept);
                __syncthreads();
            }
        }
    }

private:
    __device__ void load_values(detail::strided_rows<bfloat16 const> const& rows) const
    {
        constexpr int pieces = width / piece_numbers;
        for (int i = threadIdx.x; i < tokens * pieces; i += Threads)
        {
            int const r = i / pieces, piece = i % pieces;
            uint4 x{0, 0, 0, 0};
            if (piece * piece_numbers < a_.value_dim) x = reinterpret_cast<uint4 const*>(rows(r))[piece];
            *reinterpret_cast<uint4*>(&m_.values[r][piece * piece_numbers]) = x;
        }
    }
    /// One half, a quad of lanes a key.
    __device__ void load_features(detail::strided_rows<bfloat16 const> const& rows, int half) const
    {
        int const t = threadIdx.x % 4;
#pragma unroll 1
        for (int r = static_cast<int>(threadIdx.x) / 4; r < tokens; r += Threads / 4)
        {
            std::uint32_t x[features::words], made[features::words];
#pragma unroll
            for (int i = 0; i < features::pieces; ++i)
            {
                int const piece = features::piece_of(t, i);
                uint4 found{0, 0, 0, 0};
                if (piece * piece_numbers < a_.width) found = reinterpret_cast<uint4 const*>(rows(r))[piece];
                x[4 * i] = found.x, x[4 * i + 1] = found.y, x[4 * i + 2] = found.z, x[4 * i + 3] = found.w;
            }
            features::template make_half<true>(x, half, a_.width, made);
#pragma unroll
            for (int i = 0; i < features::pieces; ++i)
                *reinterpret_cast<uint4*>(&m_.features[r][features::piece_of(t, i) * piece_numbers]) =
                    uint4{made[4 * i], made[4 * i + 1], made[4 * i + 2], made[4 * i + 3]};
        }
    }
    /// Keys are read row after row, a state's columns once features are made: all are on their way before.
    __device__ void fetch(detail::strided_rows<bfloat16 const> const& keys, float const* from, int first,
                          int last) const
    {
        constexpr int line = 128;
        for (int i = threadIdx.x; i < 2 * tokens; i += Threads)
            if (i % 2 * (line / 2) < a_.width) fetch_line(keys(i / 2) + i % 2 * (line / 2));
        int const columns = last - first, rows = from ? static_cast<int>(a_.state.features) : 0;
        for (int i = threadIdx.x; i < rows * columns; i += Threads)
        {
            std::int64_t const column = (first + i % columns) * tile_columns;
            if (column < a_.state.leading) fetch_line(from + i / columns * a_.state.leading + column);
        }
    }
    /// state + phi(K)^T V, 16 features by 32 columns of a warp at a time. from: null for zeros; prefix, kept: null, or
    /// copies of what it was.
    __device__ void add_tiles(int half, int first, int last, float const* from, float* to, float* prefix,
                              float* kept) const
    {
        int const lane = threadIdx.x % 32, leading = static_cast<int>(a_.state.leading);
        int const rows = (a_.width + tile_rows - 1) / tile_rows, columns = last - first;
#pragma unroll 1
        for (int tile = static_cast<int>(threadIdx.x) / 32; tile < rows * columns; tile += warps)
        {
            int const row0 = tile / columns * tile_rows, column0 = (first + tile % columns) * tile_columns;
            auto const place = [&](int h) { // of this lane's first number of its row h of two
                return (half * a_.width + row0 + lane / 4 + 8 * h) * leading + column0 + lane % 4 * 2;
            };
            auto const here = [&](int n, int h) {
                return row0 + lane / 4 + 8 * h < a_.width && column0 + 8 * n < leading;
            };
            constexpr int parts = tile_columns / 8;
            float2 old[parts][2];
#pragma unroll
            for (int n = 0; n < parts; ++n)
#pragma unroll
                for (int h = 0; h < 2; ++h)
                    old[n][h] = from && here(n, h) ? *reinterpret_cast<float2 const*>(from + place(h) + 8 * n)
                                                   : float2{0.0f, 0.0f};
            float sum[parts][4] = {};
            std::uint32_t const feature =
                shared_address(&m_.features[lane / 16 * 8 + lane % 8][row0 + lane / 8 % 2 * 8]);
            std::uint32_t const value =
                shared_address(&m_.values[lane / 8 % 2 * 8 + lane % 8][column0 + lane / 16 * 8]);
#pragma unroll
            for (int k = 0; k < tokens / 16; ++k)
            {
                std::uint32_t x[4];
                load_transposed(feature + k * 16 * row * 2, x);
#pragma unroll
                for (int n = 0; n < parts; n += 2)
                {
                    std::uint32_t y[4];
                    load_transposed(value + k * 16 * row * 2 + n * 16, y);
                    add_warp_product<bfloat16>(sum[n], x, {y[0], y[1]});
                    add_warp_product<bfloat16>(sum[n + 1], x, {y[2], y[3]});
                }
            }
#pragma unroll
            for (int n = 0; n < parts; ++n)
#pragma unroll
                for (int h = 0; h < 2; ++h)
                {
                    if (!here(n, h)) continue;
                    int const at = place(h) + 8 * n;
                    if (prefix) *reinterpret_cast<float2*>(prefix + at) = old[n][h];
                    if (kept) *reinterpret_cast<float2*>(kept + at) = old[n][h];
                    *reinterpret_cast<float2*>(to + at) =
                        float2{old[n][h].x + sum[n][2 * h], old[n][h].y + sum[n][2 * h + 1]};
                }
        }
    }

    entering_arguments const& a_;
    memory& m_;
};

} // namespace spla::cuda
