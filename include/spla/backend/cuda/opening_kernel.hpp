// SPDX-FileCopyrightText: The spla authors
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once
#include "../portable/copy_kernels.hpp"
#include "entering_blocks.hpp"
#include "launch.hpp"
#include "statistics_kernel.hpp"
#include "step_schedule.hpp"

/// The first launch of a step on Hopper, all that must be done before decoded tokens select and attend: where the
/// step's work lies, the statistics of the blocks that they complete, the states of those that leave their windows. One
/// launch (with new tokens into the cache, where the step puts them there), since most steps have nothing but the first
/// to do, and a launch costs more than that.
namespace spla::cuda
{

inline constexpr int opening_threads = statistics_threads, opening_teams = 4; ///< of a multiprocessor

struct opening_arguments
{
    portable::schedule_kernel<Kokkos::Cuda> schedule;
    statistics_arguments<bfloat16> statistics;
    entering_arguments entering;
    portable::new_rows<bfloat16> fresh; ///< null: the cache has them
    basic_window<int> bounds;
    int key_heads, parts; ///< blocks of threads of a sequence and key head
    bool residual;
};

/// A decoded sequence and key head: its blocks that become complete, and those that enter its state.
template <class FeatureMap, int Lanes, bool Variances>
class opened_sequence
{
    using statistics = block_statistics<bfloat16, Lanes, Variances>;
    using states = entering_blocks<FeatureMap, opening_threads>;

public:
    union memory
    {
        typename statistics::memory statistics;
        typename states::memory states;
    };

    __device__ opened_sequence(opening_arguments const& a, memory& m) : a_(a), m_(m) {}

    __device__ void open(int sequence, int head, int part) const
    {
        detail::sequence const s = find(sequence);
        if (s.queries <= 0 || !a_.schedule.attention.decodes(s)) return;
        // Each block of threads for itself: what it then reads are its own writes.
        if (a_.fresh.to_key.data)
        {
            write(a_.fresh.key, a_.fresh.to_key, s, head);
            write(a_.fresh.value, a_.fresh.to_value, s, head);
            __syncthreads();
        }
        if (part == 0)
        {
            int const end = static_cast<int>(s.keys) / block_tokens;
            for (int b = static_cast<int>(s.first_position()) / block_tokens; b < end; ++b)
            {
                if (a_.statistics.summary.map.holds(sequence, b)) // else its page does not exist
                    statistics(a_.statistics, m_.statistics).summarise(sequence, b, head);
                __syncthreads();
            }
        }
        if (!a_.residual) return;
        int const first = static_cast<int>(s.first_position());
        int const before = first > 0 ? a_.bounds.state_end(first - 1) : a_.bounds.sink_blocks;
        if (a_.bounds.state_end(static_cast<int>(s.keys) - 1) == before) return;
        // A lone token wants the state as it becomes, and no other.
        bool const keeps_prefixes = s.queries > 1;
        states(a_.entering, m_.states)
            .add(s, head, keeps_prefixes ? entering_before(sequence) : 0, keeps_prefixes, part, a_.parts);
    }

private:
    __device__ void write(detail::tensor<bfloat16 const> const& from, detail::tensor<bfloat16> const& to,
                          detail::sequence const& s, int head) const
    {
        int const pieces = static_cast<int>(from.extent[3]) / piece_numbers;
        int const first_row = a_.schedule.attention.sequences.offsets[s.number];
        for (int i = threadIdx.x; i < static_cast<int>(s.queries) * pieces; i += opening_threads)
        {
            int const row = i / pieces, piece = i % pieces;
            std::int64_t const token = s.first_position() + row;
            if (!to.map.holds(s.number, token)) continue;
            uint4 const x = *(reinterpret_cast<uint4 const*>(from.row(0, first_row + row, head)) + piece);
            *(reinterpret_cast<uint4*>(to.row(s.number, token, head)) + piece) = x;
        }
    }
    /// The block of threads looks at all offsets up to the sequence's: the schedule, which counts those that fall, is
    /// made at the same time.
    __device__ detail::sequence find(int sequence) const
    {
        auto const& table = a_.schedule.attention.sequences;
        if (threadIdx.x == 0) fetch_sequence(table, sequence);
        bool falls = false;
        for (int b = threadIdx.x; b <= sequence; b += opening_threads)
            falls = falls || table.offsets[b + 1] < table.offsets[b];
        return __syncthreads_or(falls) ? detail::sequence{sequence, 0, 0} : table[sequence];
    }
    /// Blocks that enter the states of sequences before this one.
    __device__ int entering_before(int sequence) const
    {
        auto const& table = a_.schedule.attention.sequences;
        int sum = 0;
        for (int base = 0; base < sequence; base += opening_threads)
        {
            int const b = base + static_cast<int>(threadIdx.x);
            int const mine =
                b < sequence ? static_cast<int>(a_.schedule.count(table[b], portable::schedule::entering, false)) : 0;
            // Few blocks enter with a step, most often one or none of a sequence.
            for (int n = 1, any = 1; any; ++n) any = __syncthreads_count(mine >= n), sum += any;
        }
        return sum;
    }

    opening_arguments const& a_;
    memory& m_;
};

template <class FeatureMap, int Lanes, bool Variances>
__global__ __launch_bounds__(opening_threads,
                             opening_teams) void opening_kernel(__grid_constant__ opening_arguments const a)
{
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
    using schedule = step_schedule<opening_threads>;
    using sequence = opened_sequence<FeatureMap, Lanes, Variances>;
    __shared__ union
    {
        typename schedule::memory schedule;
        typename sequence::memory sequence;
    } m;
    let_next_launch_begin();
    int const block = static_cast<int>(blockIdx.x);
    if (block < schedule::parts) return schedule(a.schedule, m.schedule).make(block);
    int const number = block - schedule::parts, item = number / a.parts;
    sequence(a, m.sequence).open(item / a.key_heads, item % a.key_heads, number % a.parts);
#endif
}

template <class Metric>
inline constexpr bool has_variances = Metric::covariance == covariance_kind::diagonal;

template <class Metric, class FeatureMap>
void load_opening(Kokkos::Cuda const& exec)
{
    load_kernels(exec, opening_kernel<FeatureMap, 8, has_variances<Metric>>,
                 opening_kernel<FeatureMap, 16, has_variances<Metric>>);
}

/// Opens a step: its schedule, and all that its decoded sequences add to statistics and states. Keys and values are as
/// those that can_decode(), a metric's statistics as those that make_statistics_on_cuda() takes.
template <class Metric, class FeatureMap>
void open_step(Kokkos::Cuda const& exec, portable::schedule_kernel<Kokkos::Cuda> const& schedule,
               detail::tensor<bfloat16 const> const& key, detail::tensor<bfloat16 const> const& value,
               portable::new_rows<bfloat16> const& fresh, detail::summary_tensor const& summary,
               portable::linear_tensor<float> const& state, int kept)
{
    portable::attention_shape const& shape = schedule.attention;
    opening_arguments a{schedule,
                        {key, summary, 0, {}, {}, static_cast<int>(summary.head_dim), 64 / summary.sub_blocks, kept},
                        {key, value, state, shape.width, shape.value_dim},
                        fresh,
                        window_in_int(shape.bounds, shape.sequences.keys),
                        static_cast<int>(shape.key_heads),
                        1,
                        shape.residual};
    std::int64_t const heads = shape.sequences.count * shape.key_heads;
    // Few sequences: more blocks of threads for each.
    std::int64_t const room = opening_teams * multiprocessors_of(exec);
    while (a.parts < 4 && 2 * a.parts * heads <= room) a.parts *= 2;
    std::int64_t const blocks = step_schedule<opening_threads>::parts + a.parts * heads;
    auto const launch = [&](auto* kernel) {
        launch_blocks("opening of a step", exec, kernel, blocks, 0, a,
                      {.threads = opening_threads, .each = 0, .memory = memory_division::all_shared});
    };
    if (summary.head_dim <= 64)
        launch(opening_kernel<FeatureMap, 8, has_variances<Metric>>);
    else
        launch(opening_kernel<FeatureMap, 16, has_variances<Metric>>);
}

} // namespace spla::cuda
