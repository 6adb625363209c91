// SPDX-FileCopyrightText: The spla authors
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once
#include "decode_shape.hpp"

/// The warp that has the copy engine bring what was found, to places that all quads share.
namespace spla::cuda
{

template <int Halves, int Width, int Columns>
struct decode_copier
{
    using memory = decode_memory<Halves, Width, Columns>;
    static constexpr int places = memory::places, workers = memory::workers, first_worker = 16;
    static_assert(places <= first_worker);
    decode_arguments const& a;
    memory& m;

    /// Lane i watches place i; lane first_worker + w the copies of quad w.
    __device__ void run()
    {
        int const lane = threadIdx.x % 32, worker = lane - first_worker;
        bool const of_worker = worker >= 0 && worker < workers;
        int uses = 0, owner = -1; ///< of this lane's place
        int started = 0;          ///< copies of this lane's quad
        std::uint32_t open = ((1u << workers) - 1) << first_worker;
        while (open != 0)
        {
            bool const free = lane < places && m.free[lane].passed(free_parity(uses, 1));
            bool const waits = of_worker && (open >> lane & 1) && load_count(m.found_copies[worker]) > started;
            std::uint32_t const empty = __ballot_sync(0xffffffffu, free), wanted = __ballot_sync(0xffffffffu, waits);
            if (empty == 0 || wanted == 0)
            {
                __nanosleep(32);
                continue;
            }
            // Who has the fewest places is next.
            int next = 0, fewest = places + 1;
#pragma unroll
            for (int w = 0; w < workers; ++w)
            {
                int const has = __popc(__ballot_sync(0xffffffffu, lane < places && !free && owner == w));
                if ((wanted >> (first_worker + w) & 1) && has < fewest) fewest = has, next = w;
            }
            int const place = __ffs(static_cast<int>(empty)) - 1;
            int const number = __shfl_sync(0xffffffffu, started, first_worker + next);
            decode_copy const copy = m.copy[next][number % memory::copies];
            if (copy.note.kind == decode_note::end)
            {
                open &= ~(1u << (first_worker + next));
                continue;
            }
            start(copy, next, number, place);
            if (lane == place) ++uses, owner = next;
            if (worker == next) store_count(m.started_copies[worker], ++started);
        }
    }

private:
    __device__ void start(decode_copy const& copy, int worker, int number, int place)
    {
        int const at = number % places, lane = threadIdx.x % 32;
        barrier& full = m.full[worker][at];
        auto& to = m.at[place];
        int const row_bytes = a.shape.value_dim * 4;
        if (lane == 0)
        {
            decode_note& note = m.note[worker][at];
            note = copy.note;
            note.place = place;
            if (copy.note.kind == decode_note::block)
            {
                full.arrive_expecting(sizeof(to));
#pragma unroll
                for (int p = 0; p < memory::panels; ++p)
                    copy_box(a.key, full, to.of_block.key[p], p * panel_width, copy.head, copy.key_token,
                             copy.key_batch);
#pragma unroll
                for (int p = 0; p < memory::panels; ++p)
                    copy_box(a.value, full, to.of_block.value[p], p * panel_width, copy.head, copy.value_token,
                             copy.value_batch);
            }
            else if (copy.note.kind == decode_note::state)
                full.arrive_expecting(copy.note.numbers * row_bytes);
            else
                full.arrive();
        }
        __syncwarp();
        if (copy.note.kind != decode_note::state) return;
        for (int row = lane; row < copy.note.numbers; row += 32) // a lane a row: in shared memory they lie apart
            copy_bytes(copy.state + static_cast<std::int64_t>(row) * a.state.leading, full, to.state[row], row_bytes);
    }
};

} // namespace spla::cuda
