// SPDX-FileCopyrightText: The spla authors
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once
#include "decode_shape.hpp"

/// Decode's runs, found where the lengths stand.
namespace spla::cuda
{

/// Runs counted sequence after sequence, found where the lengths stand, 32 sequences at a time. All of a warp call each
/// function.
class run_cursor
{
public:
    __device__ explicit run_cursor(decode_shape const& shape) : shape_(shape)
    {
        for (base_ = (static_cast<int>(shape.sequences.count) - 1) / 32 * 32;; base_ -= 32)
        {
            open();
            runs_of_all_ += all_runs_;
            if (base_ == 0) break;
        }
    }

    /// Run `number`, which never falls. False: there are not so many.
    __device__ bool find(int number, decode_run& to, int& queries, int& keys)
    {
        while (number >= runs_before_ + all_runs_)
        {
            if (base_ + 32 >= shape_.sequences.count) return false;
            runs_before_ += all_runs_, items_before_ += all_items_, base_ += 32;
            open();
        }
        int const here = number - runs_before_;
        int const lane = __ffs(__ballot_sync(0xffffffffu, end_ > here)) - 1;
        queries = of(queries_, lane), keys = of(keys_, lane);
        to.sequence = base_ + lane;
        to.runs = of(runs_, lane);
        int const heads = shape_.key_heads * shape_.parts;
        int const in_sequence = here - of(end_ - items_ * runs_, lane), item = in_sequence / to.runs;
        to.run = in_sequence % to.runs, to.first_run = number - to.run;
        to.item = items_before_ + of(item_end_ - items_, lane) + item;
        to.token = item / heads;
        to.head = item % heads / shape_.parts, to.part = item % shape_.parts;
        return true;
    }

    /// All there are.
    __device__ int runs() const { return runs_of_all_; }

private:
    __device__ void open()
    {
        std::int64_t const number = base_ + static_cast<int>(threadIdx.x % 32);
        queries_ = keys_ = items_ = 0, runs_ = 1;
        if (number < shape_.sequences.count)
        {
            // One is read after the other: let none wait for memory alone.
            auto const& table = shape_.sequences;
            for (std::int32_t const* numbers : {table.falls, table.offsets, table.lengths, table.slots})
                if (numbers) fetch_line(numbers + number);
            detail::sequence const s = table[number];
            queries_ = static_cast<int>(s.queries), keys_ = static_cast<int>(s.keys);
            if (s.queries > 0 && s.queries <= shape_.few_queries)
            {
                items_ = queries_ * shape_.key_heads * shape_.parts;
                runs_ = shape_.runs(keys_);
            }
        }
        end_ = running(items_ * runs_), item_end_ = running(items_);
        all_runs_ = of(end_, 31), all_items_ = of(item_end_, 31);
    }
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
    int runs_of_all_ = 0;
    int base_ = 0, runs_before_ = 0, items_before_ = 0; ///< the first of 32 sequences, and what is before it
    int all_runs_, all_items_;                          ///< of the 32
    int queries_, keys_, items_, runs_;                 ///< of this lane's sequence; runs of an item
    int end_, item_end_;                                ///< runs and items up to its last
};

} // namespace spla::cuda
