// SPDX-FileCopyrightText: The spla authors
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once
#include "base_rows_features.hpp"
#include "base_state_rows.hpp"
#include "block_place.hpp"
#include "launch.hpp"

/// The residual branch on Hopper in state form (spec section 4), for tiles of neighbouring tokens: rows phi(q) D, D the
/// sum over the tile's base, which differs from the tile before by few blocks (tile_changes.hpp). A block of threads
/// takes chains of tiles: a warp has the copy engine bring the blocks that change, two warpgroups carry D and multiply,
/// the other warps make phi(q) and store what is finished.
namespace spla::cuda
{

/// Registers of a thread: together what a block of threads starts with. Those that multiply have half of D's columns,
/// products with 64 rows, and operands.
template <int Features>
inline constexpr int base_multiplying_registers = Features == 256 ? 208 : 152;
template <int Features>
inline constexpr int base_helping_registers = 256 - base_multiplying_registers<Features>;

/// The warp that loads.
template <int Halves, int Width>
class base_state_loader
{
    using memory = base_state_memory<Halves, Width>;

public:
    __device__ base_state_loader(base_state_arguments const& a, memory& m, int lane) : a_(a), m_(m), lane_(lane) {}

    __device__ void run()
    {
        int const all = items_here(a_.shape.tiles);
#pragma unroll 1
        for (int round = 0; round < rounds_of(all); ++round)
        {
            int const number = item_of_round(round);
            if (number >= all) continue;
            tile_place const chain = find_tile(a_.shape.tiles, number);
            if (!chain.exists) continue;
            if (lane_ == 0) m_.chain = chain; // the warp has few registers
            __syncwarp();
            load_chain(m_.chain);
            __syncwarp();
        }
#pragma unroll 1
        for (int i = 0; i <= memory::lag; ++i)
        {
            base_rows& nothing = next_note();
            if (lane_ == 0) nothing = {};
            announce();
        }
    }

private:
    __device__ void load_chain(tile_place const& chain)
    {
        fetch_queries(rows_from(chain, chain.begin, 0, chain.end));
#pragma unroll 1
        for (int begin = chain.begin; begin < chain.end;)
        {
            int const tokens = a_.changes.tokens, tile = floor_divide(begin, tokens), tile_end = (tile + 1) * tokens;
            int const end = tile_end < chain.end ? tile_end : chain.end;
            int const before = floor_divide(chain.first_position, tokens);
            load_tile(chain, begin, end,
                      static_cast<int>(a_.changes.number(chain.sequence, tile - before, chain.head)));
            begin = end;
        }
    }
    /// The rows of a tile, and its blocks, which the first of them need. A few more rows go before the blocks: their
    /// features are made while D changes.
    __device__ void load_tile(tile_place const& chain, int begin, int end, int number)
    {
        tile_changes const& changes = a_.changes.tiles[number];
        if (changes.works && changes.restarts) fetch_state(chain, changes.state_end);
        bool first_rows = true;
        int blocks = 0, before = 0; // blocks to be loaded, and rows that went before
#pragma unroll 1
        for (int token = begin, first = 0; token < end; first_rows = false)
        {
            base_rows& rows = next_note();
            if (lane_ == 0)
            {
                rows = rows_from(chain, token, first, end);
                rows.works = changes.works;
                rows.number = works_;
                if (rows.works && first_rows)
                {
                    rows.restarts = changes.restarts, rows.state_end = changes.state_end;
                    rows.removed = changes.removed, rows.added = changes.added;
                }
            }
            announce();
            if (first_rows) blocks = rows.removed + rows.added;
            works_ += rows.works;
            fetch_exact(rows);
            int const next = first + rows.count, group = a_.shape.tiles.group;
            token += next / group, first = next % group;
            fetch_queries(rows_from(chain, token, first, chain.end));
            if (++before <= memory::rows_ahead && token < end) continue;
            load_blocks(a_.changes.blocks + number * a_.changes.capacity, blocks, chain);
            blocks = 0;
        }
    }
    /// As many as fit, before position `end`.
    __device__ base_rows rows_from(tile_place const& chain, int token, int first, int end) const
    {
        base_rows rows{};
        rows.exists = true;
        rows.sequence = chain.sequence, rows.head = chain.head;
        rows.first = first;
        int const query = token - chain.first_position, group = a_.shape.tiles.group, head = chain.head * group;
        rows.query = a_.query.row(chain.sequence, query, head);
        if (a_.out.output) rows.exact = a_.exact.row(chain.sequence, query, head);
        if (a_.out.residual) rows.residual = a_.out.residual.row(chain.sequence, query, head).data;
        if (a_.out.output) rows.output = a_.out.output.row(chain.sequence, query, head).data;
        if (a_.out.sparse) rows.sparse = a_.out.sparse.row(chain.sequence, query, head).data;
        int const tokens = end - token < memory::rows_at_once + 1 ? end - token : memory::rows_at_once + 1;
        int const left = tokens * group - first;
        rows.inverse = (65536 + group - 1) / group;
        rows.count = left < memory::rows_at_once ? left : memory::rows_at_once;
        return rows;
    }
    /// The first lane fills it; the warp may read it until the next.
    __device__ base_rows& next_note()
    {
        int const place = notes_ % memory::notes;
        if (lane_ == 0) m_.note_free[place].wait(free_parity(notes_, memory::notes));
        return m_.note[place];
    }
    __device__ void announce()
    {
        if (lane_ == 0) m_.note_full[notes_ % memory::notes].arrive();
        ++notes_;
        __syncwarp();
    }
    __device__ void load_blocks(std::int32_t const* blocks, int count, tile_place const& t)
    {
#pragma unroll 1
        for (int first = 0; first < count; first += 32)
        {
            int const here = count - first < 32 ? count - first : 32;
            block_place mine{};
            if (lane_ < here)
                mine =
                    block_place::find(a_.features_map, a_.value_map, t.sequence, blocks[first + lane_] * block_tokens);
#pragma unroll 1
            for (int i = 0; i < here; ++i, stages_ += memory::stages_a_block)
            {
                block_place const from = mine.of(i);
                if (lane_ == 0) load_block(from, t.head);
                __syncwarp();
            }
        }
    }
    __device__ void load_block(block_place const& from, int head)
    {
#pragma unroll 1
        for (int i = 0; i < memory::stages_a_block; ++i)
        {
            int const place = (stages_ + i) % memory::stages, key = i * memory::stage_keys;
            auto& to = m_.loaded[place];
            barrier& full = m_.full[place];
            m_.free[place].wait(free_parity(stages_ + i, memory::stages));
            full.arrive_expecting(sizeof(to));
#pragma unroll
            for (int p = 0; p < memory::feature_panels; ++p)
                copy_box(a_.features, full, to.features[p], p * panel_width, head, from.key_token + key,
                         from.key_batch);
#pragma unroll
            for (int p = 0; p < memory::panels; ++p)
                copy_box(a_.value, full, to.value[p], p * panel_width, head, from.value_token + key, from.value_batch);
        }
    }

    // Into the second-level cache, ahead of their turn.
    __device__ void fetch_queries(base_rows const& rows) const
    {
        fetch_rows(rows, rows.query, a_.query, a_.shape.width);
    }
    __device__ void fetch_exact(base_rows const& rows) const
    {
        if (a_.out.output) fetch_rows(rows, rows.exact, a_.exact, a_.shape.tiles.value_dim);
    }
    template <class T>
    __device__ void fetch_rows(base_rows const& rows, T const* first, detail::tensor<T const> const& t, int width) const
    {
        base_row_place const place(rows, a_.shape.tiles.group);
#pragma unroll 1
        for (int row = lane_; row < rows.count; row += 32)
        {
            T const* const from = place.row(first, t, row);
#pragma unroll 1
            for (int column = 0; column < width; column += 128 / static_cast<int>(sizeof(T))) fetch_line(from + column);
        }
    }
    __device__ void fetch_state(tile_place const& t, int end) const
    {
        if (end <= a_.shape.tiles.bounds.sink_blocks) return;
        float const* const matrix = a_.state.matrix(a_.shape.tiles.sequences.at_work(t.sequence), t.head, end);
        int const numbers = static_cast<int>(a_.state.features * a_.state.leading);
#pragma unroll 1
        for (int i = lane_ * 32; i < numbers; i += 32 * 32) fetch_line(matrix + i);
    }

    base_state_arguments const& a_;
    memory& m_;
    int lane_;
    int notes_ = 0, stages_ = 0, works_ = 0; ///< so far
};

/// A warpgroup that multiplies.
template <int Halves, int Width>
__device__ void multiply_bases(base_state_arguments const& a, base_state_memory<Halves, Width>& m)
{
    using memory = base_state_memory<Halves, Width>;
    base_state_rows<Halves, Width> rows(a, m, threadIdx.x / 128 - 2);
    for (int n = 0;; ++n)
    {
        int const place = n % memory::notes;
        m.note_full[place].wait(phase_parity(n, memory::notes));
        base_rows const& note = m.note[place];
        if (!note.exists) return;
        if (note.works) rows.process(note);
        m.note_free[place].arrive();
    }
}

template <class FeatureMap, int Width>
__global__ __launch_bounds__(base_threads, 1) void base_state_kernel(__grid_constant__ base_state_arguments const a)
{
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
    using memory = base_state_memory<feature_halves<FeatureMap>, Width>;
    extern __shared__ unsigned char raw[];
    memory& m = *reinterpret_cast<memory*>(raw + (1024 - shared_address(raw) % 1024) % 1024);
    // Ordinary reads and writes change hands by barriers that every thread arrives at: what racecheck can follow.
    constexpr int helping_threads = memory::helping_warps * 32;
    if (threadIdx.x == 0)
    {
        for (int i = 0; i < memory::notes; ++i)
            m.note_full[i].init(1), m.note_free[i].init(meeting_threads + helping_threads);
        for (int i = 0; i < memory::stages; ++i) m.full[i].init(1), m.free[i].init(meeting_warps);
        for (int i = 0; i < memory::places; ++i)
        {
            m.features_full[i].init(helping_threads), m.features_read[i].init(meeting_warps);
            m.products_full[i].init(meeting_threads), m.products_read[i].init(helping_threads);
        }
        fence_barrier_init();
    }
    fence_shared_writes();
    __syncthreads();
    if (threadIdx.x < base_threads - meeting_threads)
    {
        give_registers<base_helping_registers<memory::features>>();
        int const warp = threadIdx.x / 32;
        if (warp == 0)
            base_state_loader<feature_halves<FeatureMap>, Width>(a, m, static_cast<int>(threadIdx.x)).run();
        else
            base_rows_helper<FeatureMap, Width>(a, m, warp - 1).run();
    }
    else
    {
        take_registers<base_multiplying_registers<memory::features>>();
        multiply_bases(a, m);
    }
#endif
}

template <class FeatureMap, int Width>
void launch_base_state(Kokkos::Cuda const& exec, base_state_arguments const& a)
{
    constexpr int bytes = sizeof(base_state_memory<feature_halves<FeatureMap>, Width>) + 1024; // room to align
    static_assert(bytes <= most_shared_bytes);
    launch_blocks("residual branch", exec, base_state_kernel<FeatureMap, Width>,
                  static_cast<std::int64_t>(a.shape.tiles.most_tiles) * a.shape.tiles.key_heads, bytes, a,
                  {.threads = base_threads});
}

} // namespace spla::cuda
