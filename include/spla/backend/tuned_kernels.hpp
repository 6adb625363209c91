// SPDX-FileCopyrightText: The spla authors
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once
#include "tuned_sizes.hpp"

/// The kernels that are not portable, called where a space has them.
namespace spla::backend
{

/// Summaries of so many blocks of each sequence, `most` together: from `first` on of a fixed batch, those that new
/// tokens complete of variable lengths.
template <class Metric, class Exec, class Element>
void make_statistics(Exec const& exec, detail::tensor<Element const> const& key, detail::summary_tensor const& summary,
                     detail::sequence_table const& sequences, detail::item_table const& blocks, std::int64_t most,
                     std::int64_t first, int block, int kept)
{
#if defined(SPLA_HOPPER_KERNELS)
    if constexpr (has_hopper<Exec, Element> && cuda::has_statistics<Metric>)
        if (block == cuda::block_tokens && !cuda::why_no_rows(summary.head_dim, 8) && cuda::can_map(key) &&
            !cuda::why_not_here(exec.cuda_device()))
            return cuda::make_statistics_on_cuda<Metric>(exec, key, summary, sequences, blocks, most, first, kept);
#endif
    portable::make_statistics<Metric>(exec, key, summary, sequences, blocks, most, first, block, kept);
}

/// What both branches of a call need of its lists, in such memory. Nothing where there are no tuned kernels for it.
template <class Exec, class Element>
branch_work prepare_branches([[maybe_unused]] Exec const& exec, [[maybe_unused]] detail::list_tensor const& list,
                             [[maybe_unused]] portable::attention_shape const& shape,
                             [[maybe_unused]] branch_memory const& memory,
                             [[maybe_unused]] tile_tables const& tables = {})
{
#if defined(SPLA_HOPPER_KERNELS)
    if constexpr (has_hopper<Exec, Element>) return cuda::prepare_branches(exec, list, shape, memory, tables);
#endif
    return {};
}

/// Features of keys [first, first + count) of each sequence of a fixed batch into `to`, which has room for the
/// feature_bytes() of so many.
template <class FeatureMap, class Exec, class Element>
key_features make_features([[maybe_unused]] Exec const& exec, [[maybe_unused]] detail::tensor<Element const> const& key,
                           [[maybe_unused]] std::int64_t first, [[maybe_unused]] std::int64_t count,
                           [[maybe_unused]] std::int64_t value_dim, [[maybe_unused]] void* to)
{
    key_features made;
#if defined(SPLA_HOPPER_KERNELS)
    if constexpr (is_cuda<Exec> && std::is_same_v<Element, bfloat16> && cuda::feature_halves < FeatureMap >> 0)
    {
        if (!cuda::can_map(key)) return made;
        made.data = static_cast<bfloat16*>(to);
        made.batch = key.extent[0], made.tokens = count, made.heads = key.extent[2];
        made.first = first;
        made.padded_width = cuda::padded_width(static_cast<int>(key.extent[3]), static_cast<int>(value_dim));
        made.halves = cuda::feature_halves<FeatureMap>;
        cuda::make_key_features<FeatureMap>(exec, key.from_token(first, count), made, {made.batch, count});
    }
#endif
    return made;
}

/// The following run their stage on matrix units. False, and nothing done, where a view is not aligned to 16 bytes, or
/// there is no such kernel: the portable one then does it.
template <class Metric, class Exec, class Element>
bool select_on_matrix_units([[maybe_unused]] Exec const& exec,
                            [[maybe_unused]] detail::tensor<Element const> const& query,
                            [[maybe_unused]] detail::summary_tensor const& summary,
                            [[maybe_unused]] portable::selection_shape const& shape,
                            [[maybe_unused]] detail::list_tensor const& list, [[maybe_unused]] void* summary_memory)
{
#if defined(SPLA_HOPPER_KERNELS)
    if constexpr (is_cuda<Exec> && std::is_same_v<Element, bfloat16> && cuda::scores_on_matrix_units<Metric>)
    {
        if (cuda::why_no_selection<Metric>(exec.cuda_device(), kind_of<Element>(), shape, summary, summary_memory))
            return false;
        cuda::selection_work work;
        if (summary_memory)
        {
            std::int64_t const blocks = shape.sequences.keys / cuda::block_tokens, sequences = shape.sequences.count;
            work.gathered = cuda::gathered_summaries::in(summary_memory, summary, sequences * blocks,
                                                         {sequences, blocks * cuda::block_tokens});
        }
        return cuda::select<Metric>(exec, query, summary, shape, list, work);
    }
#endif
    return false;
}

template <class Exec, class Element>
bool attend_on_matrix_units([[maybe_unused]] Exec const& exec,
                            [[maybe_unused]] detail::tensor<Element const> const& query,
                            [[maybe_unused]] detail::tensor<Element const> const& key,
                            [[maybe_unused]] detail::tensor<Element const> const& value,
                            [[maybe_unused]] portable::attention_outputs<Element> const& out,
                            [[maybe_unused]] portable::attention_shape const& shape,
                            [[maybe_unused]] branch_work const& work)
{
#if defined(SPLA_HOPPER_KERNELS)
    if constexpr (has_hopper<Exec, Element>) return cuda::attend(exec, query, key, value, out, shape, work);
#endif
    return false;
}

/// The residual branch, and its combination with the exact branch's finished rows.
template <class FeatureMap, class Exec, class Element>
bool attend_residual_on_matrix_units([[maybe_unused]] Exec const& exec,
                                     [[maybe_unused]] detail::tensor<Element const> const& query,
                                     [[maybe_unused]] key_features const& features,
                                     [[maybe_unused]] detail::tensor<Element const> const& value,
                                     [[maybe_unused]] detail::list_tensor const& list,
                                     [[maybe_unused]] portable::linear_tensor<accumulator_t<Element>> const& state,
                                     [[maybe_unused]] detail::tensor<accumulator_t<Element> const> const& exact,
                                     [[maybe_unused]] portable::attention_outputs<Element> const& out,
                                     [[maybe_unused]] portable::attention_shape const& shape,
                                     [[maybe_unused]] branch_work const& work)
{
#if defined(SPLA_HOPPER_KERNELS)
    if constexpr (is_cuda<Exec> && std::is_same_v<Element, bfloat16> && cuda::feature_halves < FeatureMap >> 0)
        return features.data && state.rounds_features &&
               cuda::attend_residual<FeatureMap>(exec, query, features.as_tensor(), value, list, state, exact, out,
                                                 shape, work);
#endif
    return false;
}

/// phi(K)^T V of the blocks that leave the window, into the state and its prefix states.
template <class Exec, class Element>
bool enter_blocks_on_matrix_units([[maybe_unused]] Exec const& exec, [[maybe_unused]] key_features const* features,
                                  [[maybe_unused]] detail::tensor<Element const> const& value,
                                  [[maybe_unused]] portable::linear_tensor<accumulator_t<Element>> const& state,
                                  [[maybe_unused]] detail::sequence_table const& sequences, [[maybe_unused]] int width,
                                  [[maybe_unused]] int value_dim)
{
#if defined(SPLA_HOPPER_KERNELS)
    if constexpr (is_cuda<Exec> && std::is_same_v<Element, bfloat16>)
    {
        if (!features || !features->data || !state.rounds_features || !cuda::can_map(value)) return false;
        cuda::enter_blocks_on_hopper(exec, *features, value, state, sequences, width, value_dim);
        return true;
    }
#endif
    return false;
}

} // namespace spla::backend
