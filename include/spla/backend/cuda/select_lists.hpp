// SPDX-FileCopyrightText: The spla authors
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once
#include "best_blocks.hpp"

/// The warps that select: they sum the masses of each list's rows, panel by panel as the scoring warpgroups hand them
/// over, and keep the best blocks. Two warps serve each scoring warpgroup, and take its lists in turn.
namespace spla::cuda
{

struct selection_arguments
{
    CUtensorMap summary; ///< [sequence, block, (key head, vector), dim]
    detail::tensor<bfloat16 const> query;
    detail::list_tensor list;
    selection_sizes sizes;
};

/// Panels of an item; 0 where all lists hold everything that competes.
inline __device__ int panels_of(selection_sizes const& s, selection_item const& item)
{
    int const lists = scoring_groups * s.lists_each, last = last_list(s, item);
    int const list = item.first_list + lists - 1 < last ? item.first_list + lists - 1 : last;
    int const blocks = find_list(s, item, list).competing(s.bounds.sink_blocks); // ends never fall
    bool const scored = s.top_k > 0 && (blocks > s.top_k || s.cuts);
    return scored ? (blocks + panel_blocks - 1) / panel_blocks : 0;
}

/// `Lanes` of a warp serve one list.
template <int Width, int Lanes>
class list_maker
{
    using memory = selection_memory<Width>;
    using lanes = lane_panel<Lanes>;
    static constexpr int at_once = 32 / Lanes; ///< lists, of a warp

public:
    __device__ list_maker(selection_arguments const& a, selection_places<Width> const& m)
        : a_(a), s_(a.sizes), m_(m), party_(threadIdx.x % 128 / 64), first_(threadIdx.x % 64 / 32)
    {
    }

    __device__ void run()
    {
        int const items = items_here(s_);
        for (int i = blockIdx.x; i < items; i += gridDim.x)
        {
            selection_item const item = find_item(s_, i);
            int const panels = panels_of(s_, item), first_list = item.first_list + party_ * s_.lists_each;
            for (int turn = 0; turn < turns(); ++turn)
            {
                open(item, first_list, turn);
                if (i + static_cast<int>(gridDim.x) < items) fetch_queries(find_item(s_, i + gridDim.x), turn);
            }
            for (int chunk = 0; chunk < s_.chunks; ++chunk)
                for (int panel = panels - 1; panel >= 0; --panel) take_panel(chunk, panel);
            for (int turn = 0; turn < turns(); ++turn) store(item, first_list, turn, panels > 0);
        }
    }

private:
    /// Both warps have as many turns, lest one of them forget to hand masses back.
    __device__ int turns() const { return (s_.lists_each + 2 * at_once - 1) / (2 * at_once); }
    /// Number among the warpgroup's of these lanes' list; past all of them where there is none.
    __device__ int slot(int turn) const { return 2 * (turn * at_once + threadIdx.x % 32 / Lanes) + first_; }

    __device__ list_progress progress(int slot) const
    {
        return slot < s_.lists_each ? m_.fixed.progress[party_][slot] : list_progress{0, 0, 0.0f, 0, 0};
    }
    __device__ void keep(int slot, list_progress const& list) const
    {
        __syncwarp(); // all lanes have read theirs
        if (slot < s_.lists_each && lanes::lane() == 0) m_.fixed.progress[party_][slot] = list;
        __syncwarp();
    }
    __device__ best_blocks<Lanes> best(int slot) const
    {
        int const list = party_ * s_.lists_each + (slot < s_.lists_each ? slot : 0); // those without one touch nothing
        return {m_.candidates + 2 * list * s_.candidates, s_.candidates, s_.top_k};
    }

    __device__ void open(selection_item const& item, int first_list, int turn) const
    {
        int const at = slot(turn);
        list_place const p = at < s_.lists_each ? find_list(s_, item, first_list + at) : list_place{0, 0, 0, 0};
        keep(at, {rank_not_finite, 0, 0.0f, p.competing(s_.bounds.sink_blocks), p.queries * s_.group});
    }

    /// Brings an item's queries into the second-level cache: nothing overlaps with their loads when its turn comes.
    __device__ void fetch_queries(selection_item const& item, int turn) const
    {
        int const at = slot(turn);
        if (at >= s_.lists_each) return;
        list_place const p = find_list(s_, item, item.first_list + party_ * s_.lists_each + at);
        int const rows = p.begin >= 0 ? p.queries * s_.group : 0;
        for (int r = lanes::lane(); r < rows; r += Lanes)
        {
            bfloat16 const* const query =
                a_.query.row(item.sequence, p.scoring + r / s_.group * s_.score_every - item.first,
                             item.head * s_.group + r % s_.group);
            for (int d = 0; d < s_.width; d += 64) fetch_line(query + d); // a line's numbers
        }
    }

    /// Sums a panel over each list's rows, in their order, and offers the sums once all chunks are in.
    __device__ void take_panel(int chunk, int panel)
    {
        int const all = turns();
        for (int turn = 0; turn < all; ++turn)
        {
            int const at = slot(turn);
            list_progress list = progress(at);
            if (turn == 0) m_.fixed.masses_full[party_].wait(phase_parity(panels_, 1));
            float sum[lanes::numbers];
            add_rows(list, at, chunk, sum);
            __syncwarp();
            if (turn + 1 == all) m_.fixed.masses_free[party_].arrive();
            if (s_.chunks > 1)
            {
                add_chunk(list, chunk, panel, sum);
                if (chunk + 1 < s_.chunks) continue;
            }
            std::int32_t rank[lanes::numbers];
            lanes::rank(sum, list.blocks - panel * panel_blocks, rank);
            if (s_.cuts) list.total += total_of(rank);
            best(at).offer(list, rank, panel * panel_blocks);
            keep(at, list);
        }
        ++panels_;
    }
    __device__ void add_rows(list_progress const& list, int slot, int chunk, float (&sum)[lanes::numbers]) const
    {
        constexpr int run = lanes::run, rows_at_once = Lanes < 8 ? 1 : 8;
        int const left = list.rows - chunk * score_rows_each, exchanged = exchanged_columns(s_, slot);
        int const rows = left < score_rows_each ? left : score_rows_each;
        float const(*mass)[memory::mass_stride] = m_.fixed.mass[party_] + (s_.chunks > 1 ? 0 : slot * s_.rows_per_list);
        int const even = lanes::column(0) ^ exchanged, odd = even ^ 16; // of its pieces
#pragma unroll
        for (int i = 0; i < lanes::numbers; ++i) sum[i] = 0.0f;
#pragma unroll rows_at_once
        for (int r = 0; r < rows; ++r)
        {
            // All of a row is asked for before any of it is waited for.
            float mine[lanes::numbers];
#pragma unroll
            for (int k = 0; k < lanes::pieces; ++k)
                load_run(mine + k * run, &mass[r][(k % 2 == 0 ? even : odd) + k / 2 * 32]);
#pragma unroll
            for (int i = 0; i < lanes::numbers; ++i) sum[i] += mine[i];
        }
    }
    __device__ static void load_run(float* to, float const* from)
    {
        if constexpr (lanes::run == 4)
        {
            asm volatile("ld.shared.v4.f32 {%0, %1, %2, %3}, [%4];"
                         : "=f"(to[0]), "=f"(to[1]), "=f"(to[2]), "=f"(to[3])
                         : "r"(shared_address(from))
                         : "memory");
        }
        else
        {
            asm volatile("ld.shared.v2.f32 {%0, %1}, [%2];"
                         : "=f"(to[0]), "=f"(to[1])
                         : "r"(shared_address(from))
                         : "memory");
        }
    }
    __device__ void add_chunk(list_progress const& list, int chunk, int panel, float (&sum)[lanes::numbers]) const
    {
        float* const before = m_.sum + party_ * s_.most_blocks + panel * panel_blocks;
#pragma unroll
        for (int i = 0; i < lanes::numbers; ++i)
        {
            if (list.rows > 0)
            {
                float& at = before[lanes::column(i)];
                if (chunk > 0) sum[i] += at;
                at = sum[i];
            }
        }
    }
    /// Finite masses of a panel together.
    __device__ static float total_of(std::int32_t const (&rank)[lanes::numbers])
    {
        float sum = 0.0f;
#pragma unroll
        for (int i = 0; i < lanes::numbers; ++i) sum += best_blocks<Lanes>::mass_of(rank[i]);
#pragma unroll
        for (int far = 1; far < Lanes; far *= 2) sum += __shfl_xor_sync(0xffffffffu, sum, far);
        return sum;
    }

    /// The best blocks, or everything that competes where nothing was scored (nothing at all with a top_k of 0).
    __device__ void store(selection_item const& item, int first_list, int turn, bool scored) const
    {
        int const at = slot(turn);
        list_progress const list = progress(at);
        bool const exists = list.rows > 0;
        int const number = exists ? first_list + at : item.first_list, lane = lanes::lane();
        int const capacity = exists ? static_cast<int>(a_.list.capacity) : 0;
        std::int32_t* const to = a_.list.list(item.sequence, number, item.head);
        int length = list.blocks < s_.top_k ? list.blocks : s_.top_k;
        if (scored)
            length = best(at).store(list, to, capacity, s_.bounds.sink_blocks,
                                    s_.cuts ? s_.top_p * static_cast<double>(list.total) : -1.0);
        else
            for (int i = lane; i < capacity; i += Lanes) to[i] = i < length ? s_.bounds.sink_blocks + i : -1;
        if (exists && lane == 0) a_.list.length(item.sequence, number, item.head) = length;
    }

    selection_arguments const& a_;
    selection_sizes const& s_;
    selection_places<Width> const& m_;
    int party_;      ///< the warpgroup that scores
    int first_;      ///< slot of the warp's first list
    int panels_ = 0; ///< taken so far
};

/// Few lists have many rows each: then a whole warp adds them.
template <int Width>
__device__ void make_lists(selection_arguments const& a, selection_places<Width> const& m)
{
    if (a.sizes.lists_each <= 4)
        list_maker<Width, 32>(a, m).run();
    else
        list_maker<Width, 4>(a, m).run();
}

} // namespace spla::cuda
