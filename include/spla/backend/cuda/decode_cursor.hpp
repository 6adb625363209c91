// SPDX-FileCopyrightText: The spla authors
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once
#include "decode_shape.hpp"

/// Decode's runs, found where the lengths stand.
namespace spla::cuda
{

/// Runs counted sequence after sequence, found where the lengths stand, 32 sequences at a time. What it knows of these
/// is read again for each find: that is seldom, and registers are scarce. All of a warp call each function.
class run_cursor
{
public:
    __device__ explicit run_cursor(decode_shape const& shape) : shape_(shape) {}

    /// All there are.
    __device__ int runs() const
    {
        int all = 0;
        for (int base = 0; base < shape_.sequences.count; base += 32) all += of(neighbours(shape_, base).run_end, 31);
        return all;
    }
    /// Run `number`, which never falls, and which there is.
    __device__ void find(int number, decode_item& to, int& queries, int& keys)
    {
        for (;; base_ += 32)
        {
            neighbours const here(shape_, base_);
            int const all = of(here.run_end, 31);
            if (number >= runs_before_ + all)
            {
                runs_before_ += all, items_before_ += of(here.item_end, 31);
                continue;
            }
            int const in_all = number - runs_before_;
            int const lane = __ffs(__ballot_sync(0xffffffffu, here.run_end > in_all)) - 1;
            queries = of(here.queries, lane), keys = of(here.keys, lane);
            to.sequence = base_ + lane;
            to.runs = of(here.runs, lane);
            int const heads = shape_.key_heads * shape_.parts;
            int const in_sequence = in_all - of(here.run_end - here.items * here.runs, lane);
            int const item = in_sequence / to.runs;
            to.run = in_sequence - item * to.runs, to.first_run = number - to.run;
            to.item = items_before_ + of(here.item_end - here.items, lane) + item;
            to.token = item / heads;
            int const head = item - to.token * heads;
            to.head = head / shape_.parts, to.part = head - to.head * shape_.parts;
            return;
        }
    }

private:
    /// A lane's sequence of 32 neighbouring ones.
    struct neighbours
    {
        int queries = 0, keys = 0, items = 0, runs = 1; ///< runs of an item
        int run_end, item_end;                          ///< of the 32, up to its last

        __device__ neighbours(decode_shape const& shape, int base)
        {
            std::int64_t const number = base + static_cast<int>(threadIdx.x % 32);
            if (number < shape.sequences.count)
            {
                // One is read after the other: let none wait for memory alone.
                auto const& table = shape.sequences;
                for (std::int32_t const* numbers : {table.falls, table.offsets, table.lengths, table.slots})
                    if (numbers) fetch_line(numbers + number);
                detail::sequence const s = table[number];
                queries = static_cast<int>(s.queries), keys = static_cast<int>(s.keys);
                if (s.queries > 0 && s.queries <= shape.few_queries)
                {
                    items = queries * shape.key_heads * shape.parts;
                    runs = shape.runs(keys);
                }
            }
            run_end = running(items * runs), item_end = running(items);
        }
    };
    __device__ static int of(int x, int lane) { return __shfl_sync(0xffffffffu, x, lane); }
    /// Sum up to this lane.
    __device__ static int running(int x)
    {
#pragma unroll
        for (int far = 1; far < 32; far *= 2)
        {
            int const other = __shfl_up_sync(0xffffffffu, x, far);
            if (threadIdx.x % 32 >= far) x += other;
        }
        return x;
    }

    decode_shape const& shape_;
    int base_ = 0, runs_before_ = 0, items_before_ = 0; ///< the first of 32 sequences, and what is before it
};

} // namespace spla::cuda
