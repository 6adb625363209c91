// SPDX-FileCopyrightText: The spla authors
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once
#include "residual_rows.hpp"
#include "state_reader.hpp"
#include "tile_union.hpp"

/// The residual branch on Hopper in token form (spec section 4): a warp walks the union of what a tile's tokens
/// selected and has the copy engine bring features and values block by block; two more warps make the tile's state
/// ready; two warpgroups multiply, and store the residual and the combination of both branches. A block of threads
/// stays for many tiles.
namespace spla::cuda
{

/// Registers of a thread that loads, and of one that multiplies: together no more than a block of threads starts with.
template <int Halves, int Width>
struct residual_registers
{
    static constexpr int at_start = 65536 / 384 / 8 * 8;
    static constexpr int loading = Halves * Width == 256 ? 56 : 72;
    static constexpr int multiplying = (3 * at_start - loading) / 2;
};

/// The warps that walk and load.
template <int Halves, int Width, int Words>
struct residual_loader
{
    using memory = residual_memory<Halves, Width>;
    residual_arguments const& a;
    memory& m;
    bool leader; ///< the thread that commands the copy engine

    /// Two warps take tiles in turn: while one loads, the other opens the union of the next.
    __device__ void run(int warp)
    {
        int const items = items_here(a.shape.tiles);
        int tiles = 0;
        for (int round = 0; round < rounds_of(items); ++round)
        {
            int const item = item_of_round(round);
            if (item >= items) continue;
            tile_place const t = find_tile(a.shape.tiles, item);
            if (!t.exists) continue;
            if (tiles % 2 != warp)
            {
                ++tiles;
                continue;
            }
            int const state_end = a.shape.tiles.bounds.competing(t.begin > 0 ? t.begin : 0).end;
            int const added = a.shape.direct ? a.shape.tiles.bounds.sink_blocks : state_end;
            std::int64_t const number = a.unions.number(a.shape.tiles, t);
            residual_filter<Words> const filter(a.shape.tiles.bounds, t, a.unions.notes[number], added,
                                                static_cast<bool>(a.base));
            union_walk<Words> walk(m.places);
            walk.open(a.unions, number);
            fetch_queries(a.query, t, a.shape.tiles.group, a.shape.width);
            __syncwarp();
            take_turn(warp, tiles);
            int n = leader && tiles > 0 ? m.steps : 0; // so far
            auto const find = [&](int b) {
                return block_place::find(a.features_map, a.value_map, t.sequence, b * block_tokens);
            };
            std::uint32_t tokens[Words];
            int at; // number of its place
            int next = walk.next(tokens, at, find, filter);
            if (leader) announce(t, tiles, a.unions.notes[number], added, next != no_block);
            for (; next != no_block; ++n)
            {
                int const block = next;
                block_place const& place = m.places[at];
                std::uint32_t here[4] = {};
#pragma unroll
                for (int w = 0; w < Words; ++w) here[w] = tokens[w];
                next = walk.next(tokens, at, find, filter);
                if (!leader) continue;
                load_features(n, place, t.head, here, block < added ? -1.0f : 1.0f, next == no_block);
                load_values(n, place, t.head);
            }
            if (leader) m.steps = n;
            m.turn[1 - warp].arrive();
            ++tiles;
        }
        if (tiles % 2 != warp) return;
        take_turn(warp, tiles); // that no tile is left for
        if (!leader) return;
        int const place = tiles % memory::tiles;
        m.tile_free[place].wait(free_parity(tiles, memory::tiles));
        m.tile[place].place.exists = false;
        m.tile_full[place].arrive();
    }

private:
    /// The first tile is nobody's to wait for.
    __device__ void take_turn(int warp, int tiles)
    {
        if (tiles > 0) m.turn[warp].wait(phase_parity((tiles - 1) / 2, 1));
    }
    __device__ void announce(tile_place const& t, int tiles, union_note const& note, int added, bool visits)
    {
        int const place = tiles % memory::tiles;
        m.tile_free[place].wait(free_parity(tiles, memory::tiles));
        residual_tile& to = m.tile[place];
        to.place = t;
        std::uint32_t any = 0;
#pragma unroll
        for (int i = 0; i < 4; ++i)
        {
            to.idle[i] = ~note.working[i];
            any |= note.working[i];
        }
        to.state_end = added;
        to.reads_state = !a.base && any != 0 && added > a.shape.tiles.bounds.sink_blocks;
        to.visits = visits;
        to.fine = !a.shape.direct && note.most;
        m.tile_full[place].arrive();
    }
    __device__ void load_features(int n, block_place const& from, int head, std::uint32_t const (&tokens)[4],
                                  float sign, bool last)
    {
        int const place = n % memory::feature_stages;
        m.features_free[place].wait(free_parity(n, memory::feature_stages));
        block_note& note = m.note[place]; // read before its features were let go
        // Tokens up to that of row 63; from that of row 64 on.
        int const group = a.shape.tiles.group, lower_end = 63 / group + 1, upper_begin = 64 / group;
        std::uint32_t lower = 0, upper = 0;
#pragma unroll
        for (int i = 0; i < 4; ++i)
        {
            note.tokens[i] = tokens[i];
            lower |= tokens[i] & bits_below(lower_end - 32 * i);
            upper |= tokens[i] & ~bits_below(upper_begin - 32 * i);
        }
        note.visits[0] = lower != 0, note.visits[1] = upper != 0;
        note.sign = sign;
        note.last = last;
        load(a.features, m.features[place], m.features_full[place], head, from.key_token, from.key_batch);
    }
    static __device__ std::uint32_t bits_below(int n)
    {
        return n <= 0 ? 0u : (n >= 32 ? ~0u : (1u << n) - 1);
    }
    __device__ void load_values(int n, block_place const& from, int head)
    {
        int const place = n % memory::value_stages;
        m.value_free[place].wait(free_parity(n, memory::value_stages));
        load(a.value, m.value[place], m.value_full[place], head, from.value_token, from.value_batch);
    }
    template <int Panels>
    __device__ void load(CUtensorMap const& map, std::uint16_t (&to)[Panels][block_tokens][panel_width], barrier& full,
                         int head, int token, int batch)
    {
        full.arrive_expecting(sizeof(to));
#pragma unroll
        for (int p = 0; p < Panels; ++p) copy_box(map, full, to[p], p * panel_width, head, token, batch);
    }
};

/// The warpgroups that multiply.
template <class FeatureMap, int Width, bool Normalised, class Memory>
__device__ void sum_tiles(residual_arguments const& a, Memory& m)
{
    residual_rows<FeatureMap, Width, Normalised> rows(a, m, threadIdx.x / 128 - 1);
    for (int tiles = 0;; ++tiles)
    {
        int const place = tiles % Memory::tiles;
        m.tile_full[place].wait(phase_parity(tiles, Memory::tiles));
        if (!m.tile[place].place.exists) return;
        rows.sum(m.tile[place]);
        m.tile_free[place].arrive();
    }
}

template <class FeatureMap, int Width, bool Normalised>
__global__ __launch_bounds__(384, 1) void residual_kernel(__grid_constant__ residual_arguments const a)
{
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
    constexpr int halves = feature_halves<FeatureMap>;
    using memory = residual_memory<halves, Width>;
    extern __shared__ unsigned char raw[];
    memory& m = *reinterpret_cast<memory*>(raw + (1024 - shared_address(raw) % 1024) % 1024);
    if (threadIdx.x == 0)
    {
        // What ordinary writes fill changes hands by barriers that every thread arrives at: what racecheck can follow.
        constexpr int readers = 32 * (meeting_warps + 2); // of a tile: who multiplies, and who reads the state
        for (int i = 0; i < memory::tiles; ++i)
            m.tile_full[i].init(1), m.tile_free[i].init(readers), m.turn[i].init(32);
        for (int i = 0; i < memory::feature_stages; ++i)
            m.features_full[i].init(1), m.features_free[i].init(32 * meeting_warps);
        for (int i = 0; i < memory::value_stages; ++i) m.value_full[i].init(1), m.value_free[i].init(meeting_warps);
        m.state_full.init(1), m.state_free.init(meeting_warps), m.raw_state_full.init(1);
        fence_barrier_init();
    }
    fence_shared_writes();
    __syncthreads();
    if (threadIdx.x < 128)
    {
        give_registers<residual_registers<halves, Width>::loading>();
        int const warp = threadIdx.x / 32;
        bool const leader = threadIdx.x % 32 == 0;
        if (warp >= 2)
            state_reader<halves, Width>{a, m, static_cast<int>(threadIdx.x) - 64}.run();
        else if (a.unions.words == 1)
            residual_loader<halves, Width, 1>{a, m, leader}.run(warp);
        else if (a.unions.words == 2)
            residual_loader<halves, Width, 2>{a, m, leader}.run(warp);
        else
            residual_loader<halves, Width, 4>{a, m, leader}.run(warp);
    }
    else
    {
        take_registers<residual_registers<halves, Width>::multiplying>();
        sum_tiles<FeatureMap, Width, Normalised>(a, m);
    }
#endif
}

} // namespace spla::cuda
