// SPDX-FileCopyrightText: The spla authors
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once
#include "decode_masses.hpp"
#include "decode_sequences.hpp"

/// The best blocks of one list (spec section 2, step 3), by the warps that select: which rank is the last that is
/// taken is found digit by digit, most often by the first alone.
namespace spla::cuda
{

class decode_best_blocks
{
    static constexpr int threads = decode_selector_threads, warps = decode_selectors;

public:
    __device__ decode_best_blocks(decode_selection_arguments const& a, decode_selection_places const& m)
        : a_(a), s_(a.sizes), m_(m)
    {
    }

    /// Items as they are scored: of one whose last panel is, lists are made.
    __device__ void run() const
    {
        for (int use = 0;; ++use)
        {
            int const stage = use % decode_stages;
            m_.fixed.found[stage].wait(phase_parity(use, decode_stages));
            panel_note const& note = m_.fixed.note[stage];
            wait_for_earlier_launches();
            if (note.ends) return;
            m_.fixed.scored[stage].wait(phase_parity(use, decode_stages));
            bool selects = note.last - note.first == note.panels;
            if (!selects)
            {
                if (threadIdx.x == 0)
                    m_.fixed.selects = finish_panels(a_.finished + note.number, note.last - note.first, note.panels);
                meet();
                selects = m_.fixed.selects;
            }
            for (int l = 0; selects && l < note.lists; ++l) select(note, l);
            meet();
            m_.fixed.free[stage].arrive();
        }
    }

private:
    /// So many more panels of an item are scored; is that all? What was written before is seen by those that meet who
    /// hears yes.
    static __device__ bool finish_panels(std::int32_t* finished, int count, int all)
    {
        int before;
        asm volatile("atom.acq_rel.gpu.global.add.s32 %0, [%1], %2;"
                     : "=r"(before)
                     : "l"(__cvta_generic_to_global(finished)), "r"(count)
                     : "memory");
        return before + count == all;
    }
    static __device__ void meet() { sync_threads(1, threads); }

    /// Makes one list of an item; its panels are scored, if anything must be.
    __device__ void select(panel_note const& note, int l) const
    {
        decode_list const list = note.list[l];
        std::int32_t* const entries = a_.list.list(note.sequence, note.first_list + l, note.head);
        int const n = list.blocks, wanted = ::min(n, s_.top_k);
        int length = wanted;
        if (wanted == 0 || (n == wanted && !s_.cuts))
        {
#pragma unroll 1
            for (int i = threadIdx.x; i < wanted; i += threads) entries[i] = list.begin + i;
        }
        else
        {
            double const total = decode_masses(a_, m_).rank(note.first_row + l * s_.group, note.rows, n);
            meet();
            if (wanted < n)
                find_last(n, wanted);
            else if (threadIdx.x == 0)
                m_.fixed.last = {0, n};
            meet();
            take(n);
            meet();
            std::uint32_t const* taken = m_.taken;
            if (s_.cuts)
            {
                cut(n, s_.top_p * total);
                meet();
                taken = m_.kept;
            }
            length = store(taken, n, list.begin, entries);
        }
#pragma unroll 1
        for (int i = length + threadIdx.x; i < a_.list.capacity; i += threads) entries[i] = -1;
        if (threadIdx.x == 0) a_.list.length(note.sequence, note.first_list + l, note.head) = length;
        meet();
    }

    /// A block's digits from the highest on: 11, 11 and 9 bits of its rank, then of its number, the lowest first.
    struct digit
    {
        int shift;
        bool of_number;
        __device__ explicit digit(int pass)
            : shift(pass == 0 ? decode_masses::first_shift : (pass % 2 != 0 ? 9 : 0)), of_number(pass > 2)
        {
        }
        __device__ std::uint32_t operator()(std::uint32_t rank, int block) const
        {
            return (of_number ? ~static_cast<std::uint32_t>(block) & 0xfffffu : rank) >> shift;
        }
    };

    /// The last block that is taken, where `wanted` of n are. The first digit's counts are there.
    __device__ void find_last(int n, int wanted) const
    {
        std::uint32_t rank_is = 0, rank_known = 0, number_is = 0, number_known = 0; // bits that are known
        auto const may_be = [&](int i) {
            std::uint32_t const number = ~static_cast<std::uint32_t>(i) & 0xfffffu;
            return (m_.rank[i] & rank_known) == rank_is && (number & number_known) == number_is;
        };
        for (int pass = 0;; ++pass)
        {
            digit const of(pass);
            std::uint32_t const mask = of.shift == 0 ? 511u : 2047u;
            if (pass > 0)
            {
#pragma unroll 1
                for (int i = threadIdx.x; i < decode_selection_memory::bins; i += threads) m_.fixed.count[i] = 0;
                meet();
#pragma unroll 1
                for (int i = threadIdx.x; i < n; i += threads)
                    if (may_be(i)) atomicAdd(&m_.fixed.count[of(m_.rank[i], i) & mask], 1u);
                meet();
            }
            find_bin(wanted);
            std::uint32_t const is = static_cast<std::uint32_t>(m_.fixed.bin) << of.shift, known = mask << of.shift;
            if (of.of_number)
                number_is |= is, number_known |= known;
            else
                rank_is |= is, rank_known |= known;
            wanted -= m_.fixed.above;
            if (m_.fixed.in_bin <= threads) break;
        }
        for (int i = threadIdx.x; i < n; i += threads)
            if (may_be(i)) m_.fixed.candidate[atomicAdd(&m_.fixed.candidates, 1)] = {m_.rank[i], i};
        meet();
        int const count = m_.fixed.candidates;
        if (static_cast<int>(threadIdx.x) >= count) return;
        ranked_block const own = m_.fixed.candidate[threadIdx.x];
        int before = 0;
#pragma unroll 4
        for (int i = 0; i < count; ++i) before += m_.fixed.candidate[i].before(own) ? 1 : 0;
        if (before == wanted - 1) m_.fixed.last = own;
    }
    /// In which bin the wanted-th from the top is, how many are above it, and in it.
    __device__ void find_bin(int wanted) const
    {
        constexpr int each = decode_selection_memory::bins / threads;
        int const first = (threads - 1 - static_cast<int>(threadIdx.x)) * each; // the first thread has the highest
        std::uint32_t count[each];
        int own = 0;
#pragma unroll
        for (int i = 0; i < each; ++i) count[i] = m_.fixed.count[first + i], own += static_cast<int>(count[i]);
        int const to_here = add_before(own);
        if (threadIdx.x == 0) m_.fixed.candidates = 0;
        if (to_here >= wanted && to_here - own < wanted)
        {
            int above = to_here - own, bin = -1, in_bin = 0;
#pragma unroll
            for (int i = each - 1; i >= 0; --i)
            {
                if (bin >= 0) continue;
                int const here = static_cast<int>(count[i]);
                if (above + here >= wanted)
                    bin = first + i, in_bin = here;
                else
                    above += here;
            }
            m_.fixed.bin = bin, m_.fixed.above = above, m_.fixed.in_bin = in_bin;
        }
        meet();
    }
    /// Sum over the threads up to this one.
    __device__ int add_before(int own) const
    {
        int const lane = threadIdx.x % 32, warp = threadIdx.x / 32;
        int sum = sum_to_lane(own);
        if (lane == 31) m_.fixed.warp_sum[warp] = sum;
        meet();
#pragma unroll
        for (int w = 0; w < warps; ++w) sum += w < warp ? m_.fixed.warp_sum[w] : 0;
        return sum;
    }

    __device__ void take(int n) const
    {
        ranked_block const last = m_.fixed.last;
        for (int word = threadIdx.x / 32; 32 * word < n; word += warps)
        {
            int const block = 32 * word + threadIdx.x % 32;
            bool const takes = block < n && !last.before({m_.rank[block], block});
            std::uint32_t const bits = __ballot_sync(0xffffffffu, takes);
            if (threadIdx.x % 32 == 0) m_.taken[word] = bits;
        }
    }
    /// top_p: the fewest whose sum, from the largest down, reaches the goal.
    __device__ void cut(int n, double goal) const
    {
        for (int word = threadIdx.x / 32; 32 * word < n; word += warps)
        {
            std::uint32_t const bits = m_.taken[word];
            int const block = 32 * word + threadIdx.x % 32;
            ranked_block const own{block < n ? m_.rank[block] : 0u, block};
            double before = 0;
            for (int other = 0; bits != 0 && 32 * other < n; ++other)
                for (std::uint32_t left = m_.taken[other]; left != 0; left &= left - 1)
                {
                    int const i = 32 * other + __ffs(static_cast<int>(left)) - 1;
                    ranked_block const o{m_.rank[i], i};
                    if (o.before(own) && o.rank > 0) before += static_cast<double>(__uint_as_float(o.rank - 1));
                }
            std::uint32_t const stays = __ballot_sync(0xffffffffu, before < goal) & bits;
            if (threadIdx.x % 32 == 0) m_.kept[word] = stays;
        }
    }
    /// Blocks in ascending order; returns their number.
    __device__ int store(std::uint32_t const* taken, int n, int first, std::int32_t* to) const
    {
        int const words = (n + 31) / 32, each = (words + threads - 1) / threads;
        int const begin = ::min(each * static_cast<int>(threadIdx.x), words), end = ::min(begin + each, words);
        int own = 0;
        for (int w = begin; w < end; ++w) own += __popc(taken[w]);
        int const to_here = add_before(own);
        int at = to_here - own;
        for (int w = begin; w < end; ++w)
            for (std::uint32_t left = taken[w]; left != 0; left &= left - 1)
                to[at++] = first + 32 * w + __ffs(static_cast<int>(left)) - 1;
        int all = 0;
#pragma unroll
        for (int w = 0; w < warps; ++w) all += m_.fixed.warp_sum[w];
        return all;
    }

    decode_selection_arguments const& a_;
    decode_selection_sizes const& s_;
    decode_selection_places const& m_;
};

} // namespace spla::cuda
