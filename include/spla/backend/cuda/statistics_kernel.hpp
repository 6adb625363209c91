// SPDX-FileCopyrightText: The spla authors
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once
#include "../../metric.hpp"
#include "block_statistics.hpp"
#include "launch.hpp"

#include <algorithm>

/// Summaries of complete blocks of 64 tokens on CUDA: one block of threads a block and key head.
namespace spla::cuda
{

/// Metrics whose summaries are made here: means, variances and kept keys.
template <class Metric>
inline constexpr bool has_statistics = !Metric::reads_keys && (Metric::covariance == covariance_kind::none ||
                                                               Metric::covariance == covariance_kind::diagonal);

inline constexpr int statistics_threads = 128, statistics_blocks = 6; ///< blocks of threads to a multiprocessor

template <class Element, int Lanes, bool Variances>
__global__ __launch_bounds__(statistics_threads, statistics_blocks) void block_statistics_kernel(
    __grid_constant__ statistics_arguments<Element> const a)
{
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
    using statistics = block_statistics<Element, Lanes, Variances>;
    __shared__ typename statistics::memory m;
    auto const heads = static_cast<std::uint32_t>(a.summary.key_heads);
    auto const at = a.blocks.find(blockIdx.x / heads);
    if (at.sequence >= a.blocks.sequences) return;
    std::int64_t first = a.first_block;
    if (a.lengths.offsets) first = a.lengths[at.sequence].first_position() / 64;
    std::int64_t const block = first + at.item;
    if (a.summary.map.holds(at.sequence, block)) // else its page does not exist
        statistics(a, m).summarise(at.sequence, block, blockIdx.x % heads);
#endif
}

/// Makes the summaries of `blocks`, at most `most` of all sequences together: from first_block on in a fixed batch, the
/// blocks that new tokens complete in sequences of variable lengths. Keys lie as can_map() wants them, at most 128 wide
/// and a multiple of 8; blocks have 64 tokens, the sub-blocks divide that, and `kept` is less than a sub-block. Blocks
/// x key heads of all sequences fit an int.
template <class Metric, class Element>
void make_statistics_on_cuda(Kokkos::Cuda const& exec, detail::tensor<Element const> const& key,
                             detail::summary_tensor const& summary, detail::sequence_table const& sequences,
                             detail::item_table const& items, std::int64_t most, std::int64_t first_block, int kept)
{
    static_assert(has_statistics<Metric>, "spla: this metric's summaries are made by the portable kernel");
    if (most <= 0) return;
    on_device const here(exec.cuda_device());
    constexpr bool variances = Metric::covariance == covariance_kind::diagonal;
    statistics_arguments<Element> const a{
        key, summary, first_block, items, sequences, static_cast<int>(summary.head_dim), 64 / summary.sub_blocks, kept};
    auto const blocks = static_cast<unsigned>(most * summary.key_heads);
    if (summary.head_dim <= 64)
        block_statistics_kernel<Element, 8, variances><<<blocks, statistics_threads, 0, exec.cuda_stream()>>>(a);
    else
        block_statistics_kernel<Element, 16, variances><<<blocks, statistics_threads, 0, exec.cuda_stream()>>>(a);
    require_success(cudaGetLastError(), "launch", "block statistics");
}

} // namespace spla::cuda
