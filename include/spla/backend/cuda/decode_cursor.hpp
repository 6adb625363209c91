// SPDX-FileCopyrightText: The spla authors
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once
#include "decode_sequences.hpp"
#include "decode_shape.hpp"

/// Decode's runs, found where the lengths stand.
namespace spla::cuda
{

/// Runs counted sequence after sequence. What it knows of these is read again for each find: that is seldom, and
/// registers are scarce. All of a warp call each function.
class run_cursor
{
public:
    __device__ explicit run_cursor(decode_shape const& shape)
        : shape_(shape), sequences_(shape.sequences, shape.few_queries)
    {
        for (int base = 0; base < sequences_.count(); base += 32) runs_ += number_of_lane(at(base).run_end, 31);
    }

    /// All there are.
    __device__ int runs() const { return runs_; }
    /// Run `number`, which never falls, and which there is.
    __device__ void find(int number, decode_item& to)
    {
        for (;; base_ += 32)
        {
            neighbours const here = at(base_);
            int const all = number_of_lane(here.run_end, 31);
            if (number >= runs_before_ + all)
            {
                runs_before_ += all, items_before_ += number_of_lane(here.item_end, 31);
                continue;
            }
            int const in_all = number - runs_before_;
            int const lane = __ffs(__ballot_sync(0xffffffffu, here.run_end > in_all)) - 1;
            auto const of = [&](int x) { return number_of_lane(x, lane); };
            to.sequence = base_ + lane;
            to.queries = of(here.queries), to.keys = of(here.keys);
            to.runs = of(here.runs);
            int const heads = shape_.key_heads * shape_.parts;
            int const in_sequence = in_all - of(here.run_end - here.items * here.runs);
            int const item = in_sequence / to.runs;
            to.run = in_sequence - item * to.runs, to.first_run = number - to.run;
            to.item = items_before_ + of(here.item_end - here.items) + item;
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
        int queries, keys, items, runs; ///< runs of an item
        int run_end, item_end;          ///< of the 32, up to its last
    };
    __device__ neighbours at(int base)
    {
        detail::sequence const s = sequences_.of_lane(base);
        neighbours n{static_cast<int>(s.queries), static_cast<int>(s.keys), 0, 1, 0, 0};
        if (n.queries > 0) n.items = n.queries * shape_.key_heads * shape_.parts, n.runs = shape_.runs(n.keys);
        n.run_end = sum_to_lane(n.items * n.runs), n.item_end = sum_to_lane(n.items);
        return n;
    }

    decode_shape const& shape_;
    decode_sequences sequences_;
    int runs_ = 0;
    int base_ = 0, runs_before_ = 0, items_before_ = 0; ///< the first of 32 sequences, and what is before it
};

} // namespace spla::cuda
