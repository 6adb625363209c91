// SPDX-FileCopyrightText: The spla authors
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once
#include "decode_cursor.hpp"
#include "list_entries.hpp"

/// The warps that find decode's runs, and what they read, each for one quad of warps; a list takes several trips to
/// memory, so that they are some runs ahead.
namespace spla::cuda
{

template <int Halves, int Width, int Columns>
struct decode_finder
{
    using memory = decode_memory<Halves, Width, Columns>;
    decode_arguments const& a;
    memory& m;
    int worker;
    int runs = 0, copies = 0; ///< so far

    /// Tickets are drawn as quads are done with others. Where there is much work the first are for several neighbouring
    /// runs, whose list and queries are read once.
    __device__ void run()
    {
        run_cursor cursor(a.shape);
        int const finders = memory::workers * static_cast<int>(gridDim.x), all = cursor.runs();
        int const many = all < 10 * finders ? 1 : all < 20 * finders ? 2 : most_neighbours;
        int const several = many > 1 ? (all - 2 * finders) / many : 0, tickets = several + all - several * many;
        int ticket = worker * gridDim.x + blockIdx.x, drawn = -1;
        while (ticket < tickets)
        {
            if (leads()) drawn = atomicAdd(a.drawn, 1); // known when these runs are found
            int number = ticket < several ? ticket * many : several * (many - 1) + ticket;
            for (int left = ticket < several ? many : 1; left > 0;)
            {
                decode_run next;
                int queries, keys;
                if (!cursor.find(number, next, queries, keys)) break;
                int const rest = next.runs - next.run, count = left < rest ? left : rest;
                load(next, count, queries, keys);
                number += count, left -= count;
            }
            drawn = __shfl_sync(0xffffffffu, drawn, 0);
            ticket = finders + drawn;
        }
        // Each ticket had another one drawn; who has the last leaves things as they were.
        if (leads() && drawn >= 0 && drawn == tickets - 1) *a.drawn = 0;
        decode_run end{};
        end.sequence = -1;
        announce(end);
        add_single(decode_note::end);
    }

private:
    __device__ static bool leads() { return threadIdx.x % 32 == 0; }

    /// So that the run's queries are on their way before its blocks are known.
    __device__ void announce(decode_run& run)
    {
        if (run.sequence >= 0 && run.fresh)
        {
            int const head = run.head * a.shape.group + run.part * a.shape.rows;
            run.query = a.query.row(run.sequence, run.token, head);
            for (int i = threadIdx.x % 32; i < 2 * a.shape.rows; i += 32)
                if (head + i / 2 < (run.head + 1) * a.shape.group && i % 2 * 64 < a.shape.width)
                    fetch_line(run.query + i / 2 * a.query.stride[2] + i % 2 * 64);
        }
        if (leads())
        {
            int const place = runs % memory::runs;
            m.done[worker][place].wait(free_parity(runs, memory::runs));
            m.run[worker][place] = run;
            m.found[worker][place].arrive();
        }
        ++runs;
    }
    /// The next run of the same item.
    __device__ void announce_next(decode_run& run, int finished)
    {
        ++run.run, run.fresh = 0, run.finished = finished;
        announce(run);
    }
    /// Waits until there is room for so many copies more.
    __device__ void make_room(int count)
    {
        while (copies + count - load_count(m.started_copies[worker]) > memory::copies) __nanosleep(64);
    }
    /// So many more are found, and written by lanes of this warp.
    __device__ void add(int count)
    {
        copies += count;
        __syncwarp();
        if (leads()) store_count(m.found_copies[worker], copies);
    }
    __device__ void add_single(int kind)
    {
        make_room(1);
        decode_copy& to = m.copy[worker][copies % memory::copies];
        if (leads()) to.note.kind = kind, to.note.last = 1;
        add(1);
    }

    /// This run and its neighbours, so many together.
    __device__ void load(decode_run& run, int neighbours, int queries, int keys)
    {
        auto const& bounds = a.shape.bounds;
        int const position = keys - queries + run.token;
        run.fresh = 1, run.finished = neighbours == 1;
        announce(run);
        if (position < 0)
        {
            for (int i = 0;;)
            {
                add_single(decode_note::nothing);
                if (++i == neighbours) return;
                announce_next(run, i == neighbours - 1 ? neighbours : 0);
            }
        }
        int const own = position / block_tokens, lane = threadIdx.x % 32;
        int const sinks = bounds.sink_blocks < own + 1 ? bounds.sink_blocks : own + 1;
        auto const competing = bounds.competing(position);

        // Lane i finds block i of these runs.
        int const first_rank = run.run * run_blocks, rank = first_rank + lane;
        auto& entries = m.blocks[worker];
        int const ranks = neighbours * run_blocks;
        int selected = 0;
        __syncwarp(); // the run before is read
        if (a.list && competing.count() > 0)
        {
            int const tile = position / bounds.tile - floor_divide(keys - queries, bounds.tile);
            std::int32_t const* const list = a.list.list(run.sequence, tile, run.head);
            if (lane * 32 < a.shape.list_capacity) fetch_line(list + lane * 32);
            std::int64_t const held = a.list.length(run.sequence, tile, run.head);
            int const length = held < a.shape.list_capacity ? static_cast<int>(held) : a.shape.list_capacity;
            list_entries walk(list, length, competing);
            while (walk.next())
            {
                int const at = sinks + selected + __popc(walk.valid() & ((1u << lane) - 1)) - first_rank;
                if ((walk.valid() >> lane & 1) && at >= 0 && at < ranks) entries[at] = walk.own_entry();
                selected += __popc(walk.valid());
            }
        }
        __syncwarp();
        int block = -1;
        int const in_list = rank - sinks, in_window = in_list - selected;
        int const forced = (competing.end > sinks ? competing.end : sinks) + in_window;
        if (in_list < 0)
            block = rank;
        else if (in_window < 0)
            block = lane < ranks ? entries[lane] : -1;
        else if (forced <= own)
            block = forced;

        bool const subtracts = a.shape.residual && selected < competing.count(); // else the residual is zero
        decode_note note;
        note.fine = 2 * selected > competing.count();
        for (int i = 0; i < neighbours; ++i)
        {
            if (i > 0) announce_next(run, i == neighbours - 1 ? neighbours : 0);
            int const of_run = lane - i * run_blocks; // this lane's copy of the run
            int const count = __popc(__ballot_sync(0xffffffffu, block >= 0 && of_run >= 0 && of_run < run_blocks));
            int const share = a.shape.state_share(run.runs), first = run.run * share, left = a.shape.features - first;
            int const rows = !subtracts || left < 0 ? 0 : left < share ? left : share;
            int const state_copies = (rows + state_rows - 1) / state_rows, all = count + state_copies;
            if (all == 0)
            {
                add_single(decode_note::nothing);
                continue;
            }
            make_room(all);
            decode_copy& to = m.copy[worker][(copies + of_run) % memory::copies];
            note.last = of_run == all - 1;
            if (of_run >= 0 && of_run < count)
            {
                int const token = block * block_tokens, seen = position + 1 - token;
                auto const key = a.key_map(run.sequence, token), value = a.value_map(run.sequence, token);
                note.kind = decode_note::block;
                note.numbers = seen < block_tokens ? seen : block_tokens;
                note.subtracts = subtracts && competing.contains(block);
                to.key_token = static_cast<int>(key.token), to.key_batch = static_cast<int>(key.batch);
                to.value_token = static_cast<int>(value.token), to.value_batch = static_cast<int>(value.batch);
                to.note = note, to.head = run.head;
            }
            else if (of_run >= count && of_run < all)
            {
                int const begin = first + (of_run - count) * state_rows, more = first + rows - begin;
                auto const* const matrix =
                    a.state.matrix(detail::sequence{run.sequence, queries, keys}, run.head, competing.end);
                note.kind = decode_note::state;
                note.first = begin, note.numbers = more < state_rows ? more : state_rows;
                to.state = matrix + static_cast<std::int64_t>(begin) * a.state.leading;
                to.note = note;
            }
            add(all);
        }
    }
};

} // namespace spla::cuda
