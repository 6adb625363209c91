// SPDX-FileCopyrightText: The spla authors
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once
#include "best_blocks.hpp"
#include "mass_queue.hpp"

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
    int const lists = scoring_groups * s.lists_each, last = item.last_list;
    int const list = item.first_list + lists - 1 < last ? item.first_list + lists - 1 : last;
    int const blocks = find_list(s, item, list).competing(s.bounds.sink_blocks); // ends never fall
    bool const scored = s.top_k > 0 && (blocks > s.top_k || s.cuts);
    return scored ? (blocks + panel_blocks - 1) / panel_blocks : 0;
}

/// `Lanes` of a warp serve one list. Alone: a warp has no others to serve in turn, and the compiler knows.
template <int Width, int Lanes, bool Alone>
class list_maker
{
    using memory = selection_memory<Width>;
    using lanes = lane_panel<Lanes>;
    static constexpr int at_once = 32 / Lanes;                        ///< lists, of a warp
    static constexpr int rows_in_flight = lanes::numbers > 8 ? 2 : 8; ///< of masses
    static constexpr int rows_at_once = rows_in_flight < 4 ? 4 : rows_in_flight;

public:
    __device__ list_maker(selection_arguments const& a, selection_places<Width> const& m)
        : a_(a), s_(a.sizes), m_(m), party_(threadIdx.x % 128 / 64), first_(threadIdx.x % 64 / 32),
          turns_(Alone ? 1 : (s_.lists_each + 2 * at_once - 1) / (2 * at_once)),
          first_mass_(mass_place(lanes::column()) ^ exchanged_places(s_, slot(0))), masses_(m, a.sizes, party_)
    {
    }

    __device__ void run()
    {
        int const items = items_here(s_);
        for (int i = blockIdx.x; i < items; i += gridDim.x)
        {
            selection_item const item = find_item(s_, i);
            int const panels = panels_of(s_, item), first_list = item.first_list + party_ * s_.lists_each;
            int const next = i + gridDim.x;
            for (int turn = 0; turn < turns_; ++turn)
            {
                open(item, first_list, turn);
                if (next < items) fetch_queries(find_item(s_, next), turn);
            }
            for (int chunk = 0; chunk + 1 < s_.chunks; ++chunk)
                for (int panel = panels - 1; panel >= 0; --panel) add_panel(chunk, panel);
            for (int panel = panels - 1; panel >= 0; --panel) select_panel(panel);
            for (int turn = 0; turn < turns_; ++turn) store(item, first_list, turn, panels > 0);
        }
    }

private:
    /// Number among the warpgroup's of these lanes' list; past all of them where there is none. Both warps have as many
    /// turns, lest one of them forget to hand masses back.
    __device__ int slot(int turn) const { return 2 * (turn * at_once + threadIdx.x % 32 / Lanes) + first_; }

    __device__ list_progress progress(int turn) const
    {
        if (turns_ == 1) return progress_;
        int const at = slot(turn);
        return at < s_.lists_each ? m_.fixed.progress[party_][at] : list_progress{0, 0, 0.0f, 0, 0};
    }
    __device__ void keep(int turn, list_progress const& list)
    {
        if (turns_ == 1)
        {
            progress_ = list;
            return;
        }
        int const at = slot(turn);
        __syncwarp(); // all lanes have read theirs
        if (at < s_.lists_each && lanes::lane() == 0) m_.fixed.progress[party_][at] = list;
        __syncwarp();
    }
    __device__ best_blocks<Lanes> best(int turn) const
    {
        // One after the other where one warp reads them together: they alternate between two halves of the banks. Those
        // without a list read their warp's first, if it has one, and write nothing.
        int const at = slot(turn), own = first_ < s_.lists_each ? first_ * ((s_.lists_each + 1) / 2) : 0;
        int const place = at < s_.lists_each ? at / 2 + own : own;
        return {m_.candidates + (party_ * s_.lists_each + place) * s_.candidates, s_.candidates, s_.top_k};
    }

    __device__ void open(selection_item const& item, int first_list, int turn)
    {
        int const at = slot(turn);
        list_place const p = at < s_.lists_each ? find_list(s_, item, first_list + at) : list_place{0, 0, 0, 0};
        keep(turn, {rank_not_finite, 0, 0.0f, p.competing(s_.bounds.sink_blocks), p.queries * s_.group});
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

    /// A list's rows of a chunk, summed in their order; after the last list they are handed back.
    __device__ void add_rows(list_progress const& list, int chunk, int turn, float (&sum)[lanes::numbers]) const
    {
        if (turn == 0) masses_.wait_full();
        int const left = list.rows - chunk * score_rows_each;
        int const rows = ((left < score_rows_each ? left : score_rows_each) + s_.rows_together - 1) / s_.rows_together;
        int const even = at_once % 2 == 0 ? first_mass_ : first_mass_ ^ exchanged_places(s_, 2 * turn);
        // Of its runs, two by two: the first and how far on the second lies.
        int const to_odd = (even ^ 16) - even;
        int const first_row = s_.chunks > 1 ? 0 : slot(turn) * s_.rows_per_list / s_.rows_together;
        float const* from = masses_.row(first_row) + even;
#pragma unroll
        for (int i = 0; i < lanes::numbers; ++i) asm volatile("mov.f32 %0, 0f00000000;" : "=f"(sum[i])); // made once
        int r = 0;
#pragma unroll 1
        for (; r + rows_at_once <= rows; r += rows_at_once)
        {
#pragma unroll
            for (int i = 0; i < rows_at_once; i += rows_in_flight, from += rows_in_flight * memory::mass_stride)
                add_masses<rows_in_flight>(sum, from, to_odd);
        }
#pragma unroll 1
        for (; r < rows; ++r, from += memory::mass_stride) add_masses<1>(sum, from, to_odd);
        __syncwarp();
        if (turn + 1 == turns_) masses_.hand_back();
    }
    /// Of one list alone, but for the last chunk: the sums wait for it.
    __device__ void add_panel(int chunk, int panel)
    {
        for (int turn = 0; turn < turns_; ++turn)
        {
            list_progress const list = progress(turn);
            float sum[lanes::numbers];
            add_rows(list, chunk, turn, sum);
            add_chunks_before(list, chunk, panel, sum);
            float* const to = chunk_sums(panel);
#pragma unroll
            for (int i = 0; i < lanes::numbers; ++i)
            {
                if (list.rows > 0) to[i] = sum[i];
            }
        }
        masses_.advance();
    }
    __device__ void select_panel(int panel)
    {
        for (int turn = 0; turn < turns_; ++turn)
        {
            list_progress list = progress(turn);
            float sum[lanes::numbers];
            add_rows(list, s_.chunks - 1, turn, sum);
            add_chunks_before(list, s_.chunks - 1, panel, sum);
            std::int32_t rank[lanes::numbers];
            lanes::rank(sum, list.blocks - panel * panel_blocks, rank);
            if (s_.cuts) list.total += total_of(rank);
            best_blocks<Lanes> const blocks = best(turn);
            blocks.offer(list, rank, panel * panel_blocks);
            blocks.thin_out(list, panel == 0);
            keep(turn, list);
        }
        masses_.advance();
    }

    /// Some rows: all are asked for before any of them is waited for.
    template <int Rows>
    __device__ static void add_masses(float (&to)[lanes::numbers], float const* from, int to_odd)
    {
        constexpr int run = lanes::run;
        float mass[Rows][lanes::numbers];
#pragma unroll
        for (int r = 0; r < Rows; ++r)
        {
#pragma unroll
            for (int k = 0; k < lanes::runs; ++k)
                load_run(mass[r] + k * run, from + r * memory::mass_stride + k / 2 * 32 + (k % 2 > 0 ? to_odd : 0));
        }
#pragma unroll
        for (int r = 0; r < Rows; ++r)
        {
#pragma unroll
            for (int i = 0; i < lanes::numbers; ++i) to[i] = add_counted(to[i], mass[r][i]);
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
    __device__ float* chunk_sums(int panel) const
    {
        return m_.sum + party_ * s_.most_blocks + panel * panel_blocks + lanes::column();
    }
    __device__ void add_chunks_before(list_progress const& list, int chunk, int panel,
                                      float (&sum)[lanes::numbers]) const
    {
        if (chunk == 0 || list.rows == 0) return;
        float const* const before = chunk_sums(panel);
#pragma unroll
        for (int i = 0; i < lanes::numbers; ++i) sum[i] += before[i];
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
        list_progress const list = progress(turn);
        bool const exists = list.rows > 0;
        int const number = exists ? first_list + at : item.first_list, lane = lanes::lane();
        int const capacity = exists ? static_cast<int>(a_.list.capacity) : 0;
        std::int32_t* const to = a_.list.list(item.sequence, number, item.head);
        int length = list.blocks < s_.top_k ? list.blocks : s_.top_k;
        if (scored)
            length = best(turn).store(list, to, capacity, s_.bounds.sink_blocks,
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
    int turns_;      ///< of a warp, for its lists
    int first_mass_; ///< of a lane, in a row of the first turn's list
    mass_queue<Width> masses_;
    list_progress progress_; ///< of the one list, where there is one turn
};

/// Few lists have many rows each: then a whole warp adds them. Two warps have sixteen lists at a time.
template <int Width>
__device__ void make_lists(selection_arguments const& a, selection_places<Width> const& m)
{
    if (a.sizes.lists_each <= 4)
        list_maker<Width, 32, false>(a, m).run();
    else if (a.sizes.lists_each <= 16)
        list_maker<Width, 4, true>(a, m).run();
    else
        list_maker<Width, 4, false>(a, m).run();
}

} // namespace spla::cuda
