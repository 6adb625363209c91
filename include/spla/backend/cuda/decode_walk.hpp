// SPDX-FileCopyrightText: The spla authors
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once
#include "decode_cursor.hpp"
#include "list_entries.hpp"

/// A warp's blocks, run after run: found, and copied slice by slice to the warp's own places, ahead of what it
/// multiplies. A list takes several trips to memory, so that all runs of an item are found together, a run a lane.
namespace spla::cuda
{

/// All of a warp call each function.
template <class Memory>
class decode_walk
{
    using slice = typename Memory::slice;

public:
    /// Runs are shared out evenly, neighbours to the same block of threads: most have their item's list and queries in
    /// common.
    __device__ decode_walk(decode_arguments const& a, Memory& m, slice* places)
        : a_(a), m_(m), places_(places), cursor_(a.shape)
    {
        int const all = cursor_.runs(), block = static_cast<int>(blockIdx.x), blocks = static_cast<int>(gridDim.x);
        int const each = all / blocks, more = all - each * blocks; // the first take one more
        next_run_ = each * block + (block < more ? block : more);
        end_ = next_run_ + each + (block < more ? 1 : 0);
        if (next_run_ < end_) find();
    }

    /// The first item, if there is one: known before anything of earlier launches is.
    __device__ decode_item const* first_item() const { return found_ < 0 ? nullptr : &m_.item[warp()][0]; }

    /// Copies to all places that are free, up to the item after the one that is multiplied.
    __device__ void fill()
    {
        while (ahead_ < a_.places)
        {
            if (copied_ == slices_)
            {
                if (run_ + 1 == taken_)
                {
                    if (located_ > current_ || (located_ == found_ && next_run_ == end_)) return;
                    if (located_ == found_) find();
                    locate();
                }
                else
                    ++run_;
                int const seen = m_.block[warp()][run_].seen;
                slices_ = seen > slice_keys ? (seen + slice_keys - 1) / slice_keys : 1; // an empty one, if need be
                copied_ = 0;
            }
            copy();
        }
    }
    /// Goes on to the next item; null: there is none.
    __device__ decode_item const* next_item()
    {
        if (current_ == located_) return nullptr;
        ++current_;
        return &m_.item[warp()][current_ % 2];
    }
    /// Waits for the next slice.
    __device__ slice& next(decode_note& note)
    {
        m_.full[warp()][at_].wait(parity_);
        note = m_.note[warp()][at_];
        return places_[at_];
    }
    /// The warp has read the slice, or written over it.
    __device__ void leave()
    {
        --ahead_;
        if (++at_ == a_.places) at_ = 0, parity_ ^= 1;
    }

private:
    __device__ static int warp() { return static_cast<int>(threadIdx.x) / 32; }
    __device__ static bool leads() { return threadIdx.x % 32 == 0; }

    /// The next item, and how many of its runs are this block of threads'.
    __device__ void find()
    {
        decode_item item;
        cursor_.find(next_run_, item);
        int const rest = item.runs - item.run, here = end_ - next_run_;
        item.taken = rest < here ? rest : here;
        if (item.taken > most_taken) item.taken = most_taken;
        next_run_ += item.taken;
        item.state = fetch_state(item);
        ++found_;
        if (leads()) m_.item[warp()][found_ % 2] = item;
        __syncwarp();
    }

    /// Its blocks: lane i finds the warp's block of the i-th run, and where it lies.
    __device__ void locate()
    {
        ++located_;
        decode_item const& item = m_.item[warp()][located_ % 2];
        taken_ = item.taken, run_ = 0;
        if (!locate_blocks(item) && leads()) m_.item[warp()][located_ % 2].state = nullptr;
        __syncwarp();
    }
    /// Is there anything that they are subtracted from?
    __device__ bool locate_blocks(decode_item const& item)
    {
        auto const& bounds = a_.shape.bounds;
        int const lane = threadIdx.x % 32, first_position = item.keys - item.queries;
        int const position = first_position + item.token;
        decode_block mine{};
        if (position < 0)
        {
            if (lane < most_taken) m_.block[warp()][lane] = mine;
            return false;
        }
        auto const competing = bounds.competing(position);
        int const own = position / block_tokens;
        int const sinks = bounds.sink_blocks < own + 1 ? bounds.sink_blocks : own + 1;

        int const first = item.run * run_blocks + warp() - sinks; // of the first run, counted in the list
        auto& blocks = m_.selected[warp()];
        int selected = 0;
        if (a_.list && competing.count() > 0)
        {
            int const tile = position / bounds.tile - floor_divide(first_position, bounds.tile);
            std::int32_t const* const list = a_.list.list(item.sequence, tile, item.head);
            if (lane * 32 < a_.shape.list_capacity) fetch_line(list + lane * 32);
            std::int64_t const held = a_.list.length(item.sequence, tile, item.head);
            int const length = held < a_.shape.list_capacity ? static_cast<int>(held) : a_.shape.list_capacity;
            list_entries walk(list, length, competing);
            if (item.head + 1 < a_.shape.key_heads) // which is found next
            {
                if (lane * 32 < a_.shape.list_capacity) fetch_line(list + a_.list.stride[2] + lane * 32);
                fetch_line(&a_.list.length(item.sequence, tile, item.head + 1));
            }
            while (walk.next())
            {
                int const at = selected + __popc(walk.valid() & ((1u << lane) - 1)) - first;
                if ((walk.valid() >> lane & 1) && at >= 0 && at % run_blocks == 0 && at / run_blocks < item.taken)
                    blocks[at / run_blocks] = walk.own_entry();
                selected += __popc(walk.valid());
            }
        }
        __syncwarp();
        int const in_list = first + lane * run_blocks, in_window = in_list - selected;
        int const forced = (competing.end > sinks ? competing.end : sinks) + in_window;
        int block = -1;
        if (lane < item.taken)
            block = in_list < 0 ? in_list + sinks : in_window < 0 ? blocks[lane] : forced <= own ? forced : -1;
        bool const subtracts = a_.shape.residual && selected < competing.count(); // else the residual is zero
        if (block >= 0)
        {
            int const token = block * block_tokens, seen = position + 1 - token;
            auto const key = a_.key_map(item.sequence, token), value = a_.value_map(item.sequence, token);
            mine = {seen < block_tokens ? seen : block_tokens,
                    subtracts && competing.contains(block),
                    2 * selected > competing.count(),
                    static_cast<int>(key.token),
                    static_cast<int>(key.batch),
                    static_cast<int>(value.token),
                    static_cast<int>(value.batch)};
        }
        if (lane < most_taken) m_.block[warp()][lane] = mine;
        return subtracts;
    }
    /// The state. The first run's share of it is wanted before its first block is: this warp's part is on its way.
    __device__ float const* fetch_state(decode_item const& item) const
    {
        int const position = item.keys - item.queries + item.token, end = a_.shape.bounds.state_end(position);
        if (!a_.shape.residual || end == a_.shape.bounds.sink_blocks) return nullptr;
        detail::sequence const s{item.sequence, item.queries, item.keys};
        if (end != a_.state.end_after(s)) wait_for_earlier_launches(); // the schedule says where earlier states lie
        float const* const state = a_.state.matrix(s, item.head, end);
        int const share = a_.shape.state_share(item.runs), first = item.run * share;
        int const last = first + share, rows = last < a_.shape.features ? last : a_.shape.features;
        int const numbers = (rows - first) * static_cast<int>(a_.state.leading);
        constexpr int line = 32; // numbers
        for (int i = static_cast<int>(threadIdx.x) * line; i < numbers; i += 32 * decode_warps * line)
            fetch_line(state + first * a_.state.leading + i);
        return state;
    }

    __device__ void copy()
    {
        int const next = at_ + ahead_, place = next < a_.places ? next : next - a_.places;
        if (elected())
        {
            decode_block const from = m_.block[warp()][run_];
            barrier& full = m_.full[warp()][place];
            int const first = copied_ * slice_keys;
            m_.note[warp()][place] = {from.seen - first, from.subtracts, from.fine, copied_ + 1 == slices_};
            if (from.seen == 0)
                full.arrive();
            else
            {
                auto& to = places_[place].rows;
                int const head = m_.item[warp()][located_ % 2].head;
                full.arrive_expecting(sizeof(slice));
#pragma unroll
                for (int p = 0; p < Memory::panels; ++p)
                    copy_box(a_.key, full, to.key[p], p * panel_width, head, from.key_token + first, from.key_batch);
#pragma unroll
                for (int p = 0; p < Memory::panels; ++p)
                    copy_box(a_.value, full, to.value[p], p * panel_width, head, from.value_token + first,
                             from.value_batch);
            }
        }
        __syncwarp();
        ++copied_, ++ahead_;
    }

    decode_arguments const& a_;
    Memory& m_;
    slice* places_;
    run_cursor cursor_;
    int next_run_, end_;                           ///< runs of this block of threads that are not yet found
    int found_ = -1, located_ = -1, current_ = -1; ///< items
    int taken_ = 0, run_ = -1;    ///< runs of the item that was located last, and the one that is copied
    int slices_ = 0, copied_ = 0; ///< of the run that is copied
    int at_ = 0, ahead_ = 0;      ///< places: the next to read, how many are full or on their way
    std::uint32_t parity_ = 0;
};

} // namespace spla::cuda
