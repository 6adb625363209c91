// SPDX-FileCopyrightText: The spla authors
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once
#include "decode_panels.hpp"
#include "matrix_product.hpp"

/// The warp that finds where a block of threads' panels lie, and brings the queries that score them. Every block of
/// threads has as many neighbouring panels of one key head as any other, of whatever items they are.
namespace spla::cuda
{

class decode_items
{
public:
    __device__ decode_items(decode_selection_arguments const& a, decode_selection_places const& m)
        : a_(a), s_(a.sizes), m_(m), lane_(threadIdx.x % 32)
    {
    }

    __device__ void run() const
    {
        panel_cursor panels(s_);
        int const blocks = static_cast<int>(gridDim.x);
        std::int64_t const all = panels.panels();
        // Summaries of all key heads lie together: those who read them at one time are neighbours.
        int const parts = ::max(1, blocks / s_.key_heads);
        int use = 0;
        for (int part = blockIdx.x; part < parts * s_.key_heads; part += blocks)
        {
            int const of_head = part / s_.key_heads, head = part % s_.key_heads;
            int at = static_cast<int>(all * of_head / parts);
            int const end = static_cast<int>(all * (of_head + 1) / parts);
            for (; at < end; ++use)
            {
                int const stage = use % decode_stages;
                m_.fixed.free[stage].wait(free_parity(use, decode_stages));
                panel_note& note = m_.fixed.note[stage];
                at = open(note, head, panels.find(at), at, end);
                let(m_.fixed.found[stage]);
                if (note.scored) load_queries(note, stage);
                let(m_.fixed.loaded[stage]);
            }
        }
        m_.fixed.free[use % decode_stages].wait(free_parity(use, decode_stages));
        if (lane_ == 0) m_.fixed.note[use % decode_stages].ends = true;
        let(m_.fixed.found[use % decode_stages]);
    }

private:
    __device__ static void let(barrier& go)
    {
        __syncwarp();
        go.arrive();
    }

    /// A key head's panels from `at` on, of one item and before `end`; returns where the next begin.
    __device__ int open(panel_note& note, int head, panel_place const& from, int at, int end) const
    {
        int const sequence = from.sequence;
        // What memory must be asked for, before anything waits for it.
        auto const query_place = a_.query.map(sequence, 0);
        int const slot = a_.summary.map.has_pages() ? 0 : static_cast<int>(a_.summary.map(sequence, 0).batch);
        decode_lists const lists(s_, from.queries, from.keys);
        int const part = from.panel / lists.panels;
        int const lists_here = ::min(s_.lists_each, lists.count - part * s_.lists_each);
        int const first = from.panel - part * lists.panels, last = ::min(lists.panels, first + end - at);
        basic_block_range<int> range{0, 0};
        if (lane_ < lists_here)
        {
            int const list = lists.first + part * s_.lists_each + lane_;
            range = s_.bounds.competing(lists.position(s_, list));
            note.list[lane_] = {range.begin, range.count()};
        }
        int const blocks = __shfl_sync(0xffffffffu, range.count(), lists_here - 1); // later lists have no fewer
        for (int r = lane_; r < lists_here * s_.group; r += 32) note.row_blocks[r] = r / s_.group;
        if (lane_ == 0)
        {
            note.ends = false, note.scored = s_.scores(blocks);
            note.makes_summaries = s_.bounds.sink_blocks + ::min(last * decode_panel_blocks, blocks) >
                                   lists.first_position / s_.bounds.block;
            note.sequence = sequence, note.head = head;
            note.first_list = lists.first + part * s_.lists_each;
            note.first = first, note.last = last, note.panels = lists.panels;
            note.lists = lists_here, note.rows = lists_here * s_.group, note.blocks = blocks;
            int const of_sequence = (part * s_.lists_each * s_.key_heads + head * lists_here) * lists.panels;
            note.first_row = (from.lists_before * s_.key_heads + of_sequence) * s_.group;
            note.number = (sequence * s_.items_each + part) * s_.key_heads + head;
            note.vector =
                ((slot * a_.summary.blocks + s_.bounds.sink_blocks) * s_.key_heads + head) * a_.summary.vectors;
        }
        __syncwarp();
        for (int r = lane_; r < lists_here * s_.group; r += 32)
            note.row_blocks[r] = note.list[note.row_blocks[r]].blocks;
        query_ = a_.query.data + query_place.batch * a_.query.stride[0] + query_place.token * a_.query.stride[1] +
                 head * s_.group * a_.query.stride[2];
        first_query_ = static_cast<int>(lists.first_position);
        first_list_ = lists.first + part * s_.lists_each, first_tile_ = lists.first_tile;
        return at + last - first;
    }

    /// Queries as products take them, and their squares.
    __device__ void load_queries(panel_note const& note, int stage) const
    {
        constexpr int pieces = most_decode_width / 8, at_once = 2;
#pragma unroll 1
        for (int first = lane_; first < note.rows * pieces; first += 32 * at_once)
        {
            uint4 q[at_once];
#pragma unroll
            for (int j = 0; j < at_once; ++j)
            {
                int const i = first + 32 * j, row = i / pieces, d = i % pieces * 8;
                q[j] = {0, 0, 0, 0};
                if (row >= note.rows || d >= s_.width) continue;
                int const start = (first_tile_ + first_list_ + row / s_.group) * s_.bounds.tile;
                q[j] = *reinterpret_cast<uint4 const*>(query_ + ::max(0, start - first_query_) * a_.query.stride[1] +
                                                       row % s_.group * a_.query.stride[2] + d);
            }
#pragma unroll
            for (int j = 0; j < at_once; ++j)
            {
                int const i = first + 32 * j, row = i / pieces;
                if (row >= note.rows) break;
                put(stage, 0, row, i % pieces, q[j]);
                if (s_.has_variance)
                    put(stage, 1, row, i % pieces, {square(q[j].x), square(q[j].y), square(q[j].z), square(q[j].w)});
            }
        }
    }
    /// Eight neighbouring numbers of a row, four to each of two products.
    __device__ void put(int stage, int squared, int row, int piece, uint4 const& x) const
    {
        m_.queries(stage, row / product_queries, squared)[piece / 4 * 32 + row % 8 * 4 + piece % 4] = x;
    }
    static __device__ std::uint32_t square(std::uint32_t x)
    {
        float const low = __uint_as_float(x << 16), high = __uint_as_float(x & 0xffff0000u);
        return pack<bfloat16>(low * low, high * high);
    }

    decode_selection_arguments const& a_;
    decode_selection_sizes const& s_;
    decode_selection_places const& m_;
    int lane_;
    mutable bfloat16 const* query_;
    mutable int first_query_, first_list_, first_tile_; ///< of the item that was opened last
};

} // namespace spla::cuda
