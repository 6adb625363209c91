// SPDX-FileCopyrightText: The spla authors
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once
#include "residual_shape.hpp"

/// The linear states of tiles, read for the matrix units (spec section 4): each number as the sum of two of 16 bits.
namespace spla::cuda
{

/// Two warps that split states, chunk after chunk, ahead of the warpgroups that multiply. The copy engine brings one
/// chunk while another waits to be multiplied.
template <int Halves, int Width>
struct state_reader
{
    using memory = residual_memory<Halves, Width>;
    static constexpr int threads = 64;
    residual_arguments const& a;
    memory& m;
    int thread;

    __device__ void run()
    {
        int chunks = 0;
        for (int tiles = 0;; ++tiles)
        {
            m.tile_full[tiles % memory::tiles].wait(phase_parity(tiles, memory::tiles));
            residual_tile const& t = m.tile[tiles % memory::tiles];
            if (!t.place.exists) return;
            if (t.reads_state) read(t, chunks);
            m.tile_free[tiles % memory::tiles].arrive();
        }
    }

private:
    __device__ void read(residual_tile const& t, int& chunks)
    {
        detail::sequence const s = a.shape.tiles.sequences.at_work(t.place.sequence);
        float const* const matrix = a.state.matrix(s, t.place.head, t.state_end);
        int const count = Halves * chunks_to_a_half(a.shape);
        if (thread == 0) load(matrix, 0);
        for (int c = 0; c < count; ++c, ++chunks)
        {
            m.raw_state_full.wait(phase_parity(chunks, 1));
            m.state_free.wait(phase_parity(chunks, 1) ^ 1);
            split(rows_of(c));
            fence_shared_writes();
            sync_threads(7, threads);
            if (thread != 0) continue;
            m.state_full.arrive();
            if (c + 1 < count) load(matrix, c + 1);
        }
    }
    __device__ int first_row(int chunk) const { return chunk % chunks_to_a_half(a.shape) * chunk_features; }
    /// Of features; the rest of a chunk is zeros.
    __device__ int rows_of(int chunk) const
    {
        int const left = a.shape.width - first_row(chunk);
        return left < chunk_features ? left : chunk_features;
    }
    __device__ void load(float const* matrix, int chunk)
    {
        int const leading = static_cast<int>(a.state.leading);
        int const bytes = rows_of(chunk) * leading * 4;
        int const row = chunk / chunks_to_a_half(a.shape) * a.shape.width + first_row(chunk);
        m.raw_state_full.arrive_expecting(bytes);
        copy_bytes(matrix + static_cast<std::int64_t>(row) * leading, m.raw_state_full, m.raw_state, bytes);
    }
    __device__ void split(int rows)
    {
        int const leading = static_cast<int>(a.state.leading);
#pragma unroll 4
        for (int i = thread; i < chunk_features * Width / 8; i += threads)
        {
            int const row = i / (Width / 8), piece = i % (Width / 8);
            std::uint32_t high[4] = {}, low[4] = {};
            if (row < rows && piece * 8 < a.shape.tiles.value_dim)
            {
                auto const* const from = reinterpret_cast<float4 const*>(m.raw_state + row * leading + piece * 8);
                float4 const x = from[0], y = from[1];
                float const numbers[8] = {x.x, x.y, x.z, x.w, y.x, y.y, y.z, y.w};
#pragma unroll
                for (int j = 0; j < 4; ++j)
                {
                    high[j] = pack<bfloat16>(numbers[2 * j], numbers[2 * j + 1]);
                    low[j] =
                        pack<bfloat16>(numbers[2 * j] - low_number(high[j]), numbers[2 * j + 1] - high_number(high[j]));
                }
            }
            int const column = (piece % 8 ^ row % 8) * 8;
            *reinterpret_cast<uint4*>(&m.state[0][piece / 8][row][column]) = uint4{high[0], high[1], high[2], high[3]};
            *reinterpret_cast<uint4*>(&m.state[1][piece / 8][row][column]) = uint4{low[0], low[1], low[2], low[3]};
        }
    }
};

} // namespace spla::cuda
