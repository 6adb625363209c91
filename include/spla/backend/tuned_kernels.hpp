// SPDX-FileCopyrightText: The spla authors
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once
#include "portable/attention_kernel.hpp"
#include "portable/decoded_lists.hpp"
#include "portable/selection_kernel.hpp"
#include "portable/statistics_kernel.hpp"

#include <type_traits>

#if defined(KOKKOS_ENABLE_CUDA) && defined(__NVCC__)
#include "cuda/coverage.hpp"
#include "cuda/exact_branch.hpp"
#include "cuda/prefix_states.hpp"
#include "cuda/residual_branch.hpp"
#include "cuda/statistics_kernel.hpp"
#define SPLA_HOPPER_KERNELS
#endif

/// The kernels that are not portable, as those that choose see them: what a space has of them, and for which calls.
namespace spla::backend
{

/// Which branches a call computes: of prefill and decode, or a stage alone, of all queries at once.
enum class branches
{
    both,
    exact,
    exact_stage,
    residual_stage,
    exact_stage_without_workspace, ///< for what tuned kernels need
    residual_stage_without_workspace
};
constexpr bool has_workspace(branches b)
{
    return b != branches::exact_stage_without_workspace && b != branches::residual_stage_without_workspace;
}
constexpr bool has_exact(branches b)
{
    return b != branches::residual_stage && b != branches::residual_stage_without_workspace;
}
constexpr bool has_residual(branches b)
{
    return b == branches::both || !has_exact(b);
}
constexpr bool is_stage(branches b)
{
    return b != branches::both && b != branches::exact;
}

/// Features of keys, made once for a call: nothing where there are no kernels that read them.
#if defined(SPLA_HOPPER_KERNELS)
using key_features = cuda::feature_tensor;
using branch_memory = cuda::branch_memory; ///< what lies between the branches' kernels
using branch_work = cuda::branch_work;     ///< prepared for one call
using tile_tables = cuda::tile_tables;
#else
struct key_features
{
};
struct branch_memory
{
    std::byte* data = nullptr;
    std::size_t bytes = 0;
};
struct branch_work
{
    explicit operator bool() const { return false; }
};
struct tile_tables
{
};
#endif

template <class Exec>
inline constexpr bool is_cuda =
#if defined(KOKKOS_ENABLE_CUDA)
    std::is_same_v<Exec, Kokkos::Cuda>;
#else
    false;
#endif
#if defined(SPLA_HOPPER_KERNELS)
template <class Exec, class Element>
inline constexpr bool has_hopper = is_cuda<Exec> &&
                                   (std::is_same_v<Element, bfloat16> || std::is_same_v<Element, float16>);
#else
template <class Exec, class Element>
inline constexpr bool has_hopper = false;
#endif

/// Why a space has no tuned kernels at all; null where it has some.
template <class Exec>
constexpr char const* why_portable()
{
    if (detail::runs_on_host<Exec>) return "host space";
    if (!is_cuda<Exec>) return "no tuned kernels for this device";
#if defined(SPLA_HOPPER_KERNELS)
    return nullptr;
#else
    return "compiled without nvcc";
#endif
}

/// Why the stages of a call run on the portable kernels; null where they run on Hopper's matrix units.
template <class Exec, class Metric>
char const*
why_portable_selection([[maybe_unused]] element_kind element, [[maybe_unused]] portable::selection_shape const& shape,
                       [[maybe_unused]] detail::summary_tensor const& summary, [[maybe_unused]] bool has_room)
{
    if (char const* const why = why_portable<Exec>()) return why;
#if defined(SPLA_HOPPER_KERNELS)
    return cuda::why_no_selection<Metric>(Kokkos::device_id(), element, shape, summary, has_room);
#else
    return "";
#endif
}
/// The same of a step's decoded tokens.
template <class Exec, class Metric>
char const* why_portable_decode_selection([[maybe_unused]] element_kind element,
                                          [[maybe_unused]] portable::selection_shape const& shape,
                                          [[maybe_unused]] detail::summary_tensor const& summary,
                                          [[maybe_unused]] std::int64_t few_queries)
{
    if (char const* const why = why_portable<Exec>()) return why;
#if defined(SPLA_HOPPER_KERNELS)
    return cuda::why_no_decode_selection<Metric>(Kokkos::device_id(), element, shape, summary, few_queries);
#else
    return "";
#endif
}
template <class Exec, class Metric, class FeatureMap>
char const* why_portable_exact([[maybe_unused]] problem const& p, [[maybe_unused]] options<Metric, FeatureMap> const& o,
                               [[maybe_unused]] bool decode, [[maybe_unused]] bool has_workspace)
{
    if (char const* const why = why_portable<Exec>()) return why;
    if (decode) return "decode";
    if (!has_workspace) return "a stage without a workspace for what its tiles visit";
#if defined(SPLA_HOPPER_KERNELS)
    return cuda::why_no_exact_branch(Kokkos::device_id(), p, o);
#else
    return "";
#endif
}
template <class Exec, class Metric, class FeatureMap>
char const* why_portable_residual([[maybe_unused]] problem const& p,
                                  [[maybe_unused]] options<Metric, FeatureMap> const& o, [[maybe_unused]] bool decode,
                                  [[maybe_unused]] bool has_workspace)
{
    if (char const* const why = why_portable<Exec>()) return why;
    if (decode) return "decode";
    if (!has_workspace) return "a stage without a workspace for keys' features";
#if defined(SPLA_HOPPER_KERNELS)
    return cuda::why_no_residual_branch(Kokkos::device_id(), p, o);
#else
    return "";
#endif
}

/// Does such a state hold features that were rounded to bf16?
template <class Exec, class FeatureMap>
bool rounds_features([[maybe_unused]] element_kind element, [[maybe_unused]] std::int64_t width,
                     [[maybe_unused]] std::int64_t value_dim, [[maybe_unused]] std::int64_t block)
{
#if defined(SPLA_HOPPER_KERNELS)
    if constexpr (is_cuda<Exec>)
        return cuda::rounds_features<FeatureMap>(Kokkos::device_id(), element, width, value_dim, block);
#endif
    return false;
}

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

/// Bytes of the features of a call's keys.
template <class FeatureMap>
std::size_t feature_bytes([[maybe_unused]] problem const& p)
{
#if defined(SPLA_HOPPER_KERNELS)
    std::int64_t const row = cuda::feature_halves<FeatureMap> *
                             cuda::padded_width(static_cast<int>(p.residual_width()), static_cast<int>(p.value_dim));
    return static_cast<std::size_t>(p.batch * p.keys * p.key_heads * row) * sizeof(bfloat16);
#else
    return 0;
#endif
}

/// Keys whose blocks enter a linear state with so many new tokens, at most.
inline std::int64_t most_entering_tokens(window const& bounds, std::int64_t tokens)
{
    return (ceil_divide(tokens, bounds.block) + ceil_divide(bounds.tile, bounds.block) + 1) * bounds.block;
}
/// Workspace of an append of p.queries tokens: phi of the keys that enter the state, where tuned kernels read it.
template <class Exec, class Metric, class FeatureMap>
std::size_t append_bytes(problem p, options<Metric, FeatureMap> const& o)
{
    if (o.combine == combination_kind::sparse_only ||
        !rounds_features<Exec, FeatureMap>(p.element, p.residual_width(), p.value_dim, o.block))
        return 0;
    p.keys = most_entering_tokens(window_of(o), p.queries);
    return feature_bytes<FeatureMap>(p);
}

/// What lies between the branches' kernels of a call; lists have at most list_capacity entries.
struct branch_facts
{
    std::size_t bytes = 0;
    int carried_tiles = 0; ///< neighbouring tiles of queries, at most, whose residuals share a sum; 0: none
    int tile_tokens = 0;   ///< of a tile of rows
    int base_tokens = 0;   ///< of a tile whose residual starts from a sum that is carried; 0: none
};
/// tokens: queries of all sequences of variable lengths together; 0: of a fixed batch.
inline branch_facts facts_of_branches([[maybe_unused]] portable::attention_shape const& shape,
                                      [[maybe_unused]] std::int64_t list_capacity,
                                      [[maybe_unused]] std::int64_t tokens = 0)
{
#if defined(SPLA_HOPPER_KERNELS)
    auto sizes = cuda::sizes_of(shape, list_capacity);
    if (tokens > 0) sizes.tokens = tokens;
    auto const l = cuda::branch_layout::of(sizes);
    return {l.bytes, l.base.tokens > 0 ? l.base.chain : 0, l.tile_tokens, l.base.tokens};
#else
    return {};
#endif
}

/// Lists that a tuned selection makes at a time.
inline int lists_of_tuned_item([[maybe_unused]] portable::selection_shape const& shape)
{
#if defined(SPLA_HOPPER_KERNELS)
    return cuda::lists_of_item(cuda::selection_sizes_of(shape, 1, 1));
#else
    return 0;
#endif
}

/// What a tuned selection for decoded tokens needs: bytes of workspace, and of a step's schedule, its counters being in
/// that workspace (or none, where it is not there yet).
struct decode_selection_facts
{
    std::size_t bytes = 0;
    portable::decoded_work work;
};
template <class Metric>
decode_selection_facts facts_of_decode_selection([[maybe_unused]] portable::selection_shape const& shape,
                                                 [[maybe_unused]] detail::summary_tensor const& summary,
                                                 [[maybe_unused]] std::int64_t few_queries,
                                                 [[maybe_unused]] std::byte* memory)
{
    decode_selection_facts made;
#if defined(SPLA_HOPPER_KERNELS)
    auto const sizes = cuda::decode_selection_sizes_of<Metric>(shape, summary.vectors, few_queries);
    auto const layout = cuda::decode_selection_layout::of(sizes);
    made.bytes = layout.bytes;
    made.work = {sizes.lists_each, cuda::decode_panel_blocks,
                 memory ? reinterpret_cast<std::int32_t*>(memory + layout.finished) : nullptr,
                 memory ? layout.items : 0};
#endif
    return made;
}

/// Bytes of a copy of so many blocks' summaries, as tuned kernels take them.
inline std::size_t copied_summary_bytes([[maybe_unused]] detail::summary_tensor const& summary,
                                        [[maybe_unused]] std::int64_t blocks)
{
#if defined(SPLA_HOPPER_KERNELS)
    return cuda::gathered_summaries::bytes(summary, blocks);
#else
    return 0;
#endif
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
