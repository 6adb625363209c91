// SPDX-FileCopyrightText: The spla authors
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once
#include "exact_rows.hpp"
#include "tile_union.hpp"

/// The exact branch on Hopper (spec section 3): a warp walks the union of a tile's lists and has the copy engine bring
/// one or two key blocks a step; two warpgroups multiply. A block of threads stays for many tiles: a second warp opens
/// the next tile's lists meanwhile, and a tile's first logits are made beside the last values of the one before.
namespace spla::cuda
{

template <class Element>
struct exact_arguments
{
    CUtensorMap query, key, value;
    detail::token_map query_map, key_map, value_map;
    union_table unions; ///< of the tiles
    portable::attention_outputs<Element> out;
    exact_shape shape;
};

/// The warps that walk and load.
template <class Element, int KeyWidth, int ValueWidth, int Words>
struct exact_loader
{
    using memory = exact_memory<KeyWidth, ValueWidth>;
    static constexpr int blocks = memory::step_blocks;
    exact_arguments<Element> const& a;
    memory& m;
    bool leader; ///< the thread that commands the copy engine

    /// Two warps take tiles in turn: while one loads, the other opens the union of the next.
    __device__ void run(int warp)
    {
        int const items = items_here(a.shape);
        int tiles = 0;
        for (int round = 0; round < rounds_of(items); ++round)
        {
            int const item = item_of_round(round);
            if (item >= items) continue;
            tile_place const t = find_tile(a.shape, item);
            if (!t.exists || !t.sees_keys()) continue;
            if (tiles % 2 != warp)
            {
                ++tiles;
                continue;
            }
            union_walk<Words> walk(m.places);
            walk.open(a.unions, a.unions.number(a.shape, t));
            if (leader) fetch_query(t);
            __syncwarp();
            if (tiles > 0) sync_threads(5 + warp, 64);
            int n = tiles > 0 ? m.steps : 0; // so far
            bool first = true;
            auto const find = [&](int b) {
                return block_place::find(a.key_map, a.value_map, t.sequence, b * block_tokens);
            };
            std::uint32_t following[Words];
            int at; // number of its place
            for (int next = walk.next(following, at, find); next != no_block; ++n)
            {
                int block[blocks];
                int place[blocks];
                std::uint32_t tokens[blocks][Words] = {};
#pragma unroll
                for (int h = 0; h < blocks; ++h)
                {
                    block[h] = next != no_block ? next : block[0]; // an odd one goes twice, the second time for no row
                    place[h] = next != no_block ? at : place[0];
                    if (next == no_block) continue;
#pragma unroll
                    for (int w = 0; w < Words; ++w) tokens[h][w] = following[w];
                    next = walk.next(following, at, find);
                }
                if (leader)
                {
                    m.key_free[n % memory::key_stages].wait(free_parity(n, memory::key_stages));
                    note(n, block, tokens, t, next == no_block);
                    load_keys(n, place, m.places, t.head);
                    if (first) load_query(t, tiles);
                    load_values(n, place, m.places, t.head);
                }
                first = false;
            }
            if (leader) m.steps = n;
            __syncwarp();
            arrive_threads(6 - warp, 64);
            ++tiles;
        }
        if (tiles % 2 != warp) return;
        if (tiles > 0) sync_threads(5 + warp, 64); // the turn that no tile is left for
        if (!leader) return;
        m.query_free.wait(free_parity(tiles, 1));
        m.tile[tiles % 2].exists = false;
        m.query_full.arrive();
    }

private:
    __device__ void note(int n, int const (&block)[blocks], std::uint32_t const (&tokens)[blocks][Words],
                         tile_place const& t, bool last)
    {
        // Step n - key_stages has let its keys go: who waited for that knows that the note before it has been read.
        step_note<blocks>& to = m.note[n % memory::notes];
        for (int h = 0; h < blocks; ++h)
        {
            to.first_key[h] = block[h] * block_tokens;
#pragma unroll
            for (int w = 0; w < 4; ++w) to.tokens[h][w] = w < Words ? tokens[h][w < Words ? w : 0] : 0;
        }
        to.first = t.first, to.end = t.end;
        to.per_key = (block[blocks - 1] + 1) * block_tokens - 1 > (t.begin > 0 ? t.begin : 0);
        to.last = last;
    }
    template <int block_place::*Token, int block_place::*Batch, int Panels>
    __device__ static void load_step(CUtensorMap const& map,
                                     std::uint16_t (&to)[Panels][memory::step_keys][panel_width], barrier& full,
                                     int const (&from)[blocks], block_places const& places, int head)
    {
        full.arrive_expecting(sizeof(to));
#pragma unroll
        for (int h = 0; h < blocks; ++h)
#pragma unroll
            for (int p = 0; p < Panels; ++p)
                copy_box(map, full, to[p][h * block_tokens], p * panel_width, head, places[from[h]].*Token,
                         places[from[h]].*Batch);
    }
    /// To a place that has been waited for.
    __device__ void load_keys(int n, int const (&from)[blocks], block_places const& places, int head)
    {
        int const place = n % memory::key_stages;
        load_step<&block_place::key_token, &block_place::key_batch>(a.key, m.key[place], m.key_full[place], from,
                                                                    places, head);
    }
    __device__ void load_values(int n, int const (&from)[blocks], block_places const& places, int head)
    {
        int const place = n % memory::value_stages;
        m.value_free[place].wait(free_parity(n, memory::value_stages));
        load_step<&block_place::value_token, &block_place::value_batch>(a.value, m.value[place], m.value_full[place],
                                                                        from, places, head);
    }
    /// Into the second-level cache, ahead of its turn.
    __device__ void fetch_query(tile_place const& t)
    {
        auto const at = a.query_map(t.sequence, t.first - t.first_position);
#pragma unroll
        for (int p = 0; p < memory::key_panels; ++p)
            fetch_box(a.query, p * panel_width, t.head * a.shape.group, static_cast<int>(at.token),
                      static_cast<int>(at.batch));
    }
    /// In its turn: the tile before has asked for its own, so the barrier is at most one phase away.
    __device__ void load_query(tile_place const& t, int tiles)
    {
        m.query_free.wait(free_parity(tiles, 1));
        m.tile[tiles % 2] = t;
        m.query_full.arrive_expecting(memory::key_panels * a.shape.tokens * a.shape.group * panel_width * 2);
        auto const at = a.query_map(t.sequence, t.first - t.first_position);
#pragma unroll
        for (int p = 0; p < memory::key_panels; ++p)
            copy_box(a.query, m.query_full, m.query[p], p * panel_width, t.head * a.shape.group,
                     static_cast<int>(at.token), static_cast<int>(at.batch));
    }
};

/// The warpgroups that multiply.
template <class Element, int KeyWidth, int ValueWidth>
__device__ void attend_tiles(exact_arguments<Element> const& a, exact_memory<KeyWidth, ValueWidth>& m)
{
    int const group = threadIdx.x / 128 - 1;
    exact_rows<Element, KeyWidth, ValueWidth> rows(a.shape, m, group);
    int tiles = 0, n = 0;
    auto const queries_came = [&] { // of another tile?
        m.query_full.wait(phase_parity(tiles, 1));
        return m.tile[tiles % 2].exists;
    };
    if (!queries_came()) return;
    if (group == 1) arrive_threads(1, meeting_threads); // the first warpgroup's turn
    for (bool last = rows.first_step(n);;)
    {
        ++n;
        if (!last)
        {
            last = rows.next_step(n);
            continue;
        }
        tile_place const& finished = m.tile[tiles % 2];
        ++tiles;
        if (!queries_came())
        {
            rows.last_step(finished, n - 1, a.out);
            break;
        }
        last = rows.next_tile(finished, n, a.out);
    }
    if (group == 0) sync_threads(1, meeting_threads); // the turn that nobody takes
}

/// Zeros for tiles before all keys, by one warp.
template <class Element>
__device__ void store_blind_tiles(exact_arguments<Element> const& a)
{
    exact_shape const& shape = a.shape;
    int const items = items_here(shape);
    for (int round = 0; round < rounds_of(items); ++round)
    {
        int const item = item_of_round(round);
        if (item >= items) continue;
        tile_place const t = find_tile(shape, item);
        if (!t.exists || t.sees_keys()) continue;
        for (int position = t.begin; position < t.end; ++position)
            for (int h = 0; h < shape.group; ++h)
            {
                int const query = position - t.first_position, head = t.head * shape.group + h;
                if (a.out.sparse)
                {
                    auto const to = a.out.sparse.row(t.sequence, query, head);
                    for (int d = threadIdx.x % 32; d < shape.value_dim; d += 32) to.set(d, 0.0f);
                }
                if (a.out.lse && threadIdx.x % 32 == 0) a.out.lse_of(t.sequence, query, head) = -__builtin_huge_valf();
            }
    }
}

template <class Element, int KeyWidth, int ValueWidth>
__global__ __launch_bounds__(384, 1) void exact_kernel(__grid_constant__ exact_arguments<Element> const a)
{
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
    using memory = exact_memory<KeyWidth, ValueWidth>;
    extern __shared__ unsigned char raw[];
    memory& m = *reinterpret_cast<memory*>(raw + (1024 - shared_address(raw) % 1024) % 1024);
    if (threadIdx.x == 0)
    {
        m.query_full.init(1), m.query_free.init(meeting_warps);
        // Notes, which are ordinary writes, change hands with keys: every thread arrives, what racecheck can follow.
        for (int i = 0; i < memory::key_stages; ++i) m.key_full[i].init(1), m.key_free[i].init(meeting_threads);
        for (int i = 0; i < memory::value_stages; ++i) m.value_full[i].init(1), m.value_free[i].init(meeting_warps);
        fence_barrier_init();
    }
    // Rows that no token has are multiplied too. What comes of them is nobody's; zeros, lest it be NaN and slow.
    for (int i = threadIdx.x; i < static_cast<int>(sizeof(m.query) / 4); i += blockDim.x)
        reinterpret_cast<std::uint32_t*>(m.query)[i] = 0;
    fence_shared_writes();
    __syncthreads();
    if (threadIdx.x < 128)
    {
        give_registers<72>();
        int const warp = threadIdx.x / 32;
        if (warp == 2) store_blind_tiles(a);
        if (warp >= 2) return;
        bool const leader = threadIdx.x % 32 == 0;
        if (a.unions.words == 1)
            exact_loader<Element, KeyWidth, ValueWidth, 1>{a, m, leader}.run(warp);
        else if (a.unions.words == 2)
            exact_loader<Element, KeyWidth, ValueWidth, 2>{a, m, leader}.run(warp);
        else
            exact_loader<Element, KeyWidth, ValueWidth, 4>{a, m, leader}.run(warp);
    }
    else
    {
        take_registers<216>();
        attend_tiles<Element>(a, m);
    }
#endif
}

} // namespace spla::cuda
