// SPDX-FileCopyrightText: The spla authors
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once
#include "batch_call.hpp"
#include "kernel_choice.hpp"

/// The part of a step whose sequences are prefilled by kernels that are tuned for them: those of a fixed batch, told
/// where each sequence's work begins. Nothing where there are none; then the portable kernels take every sequence.
namespace spla::backend
{

/// Do views and plan allow it? Decided before the step's work is laid out: nothing falls back later.
template <class Element, class Options>
bool tunes_step([[maybe_unused]] batch_plan<Element, Options> const& how,
                [[maybe_unused]] batch_call<Element> const& call)
{
#if defined(SPLA_HOPPER_KERNELS)
    if constexpr (std::is_same_v<Element, bfloat16> || std::is_same_v<Element, float16>)
    {
        bool const views = cuda::can_map(call.query) && cuda::can_map(call.key) && cuda::can_map(call.value) &&
                           cuda::can_map(call.residual_query) && cuda::can_map(call.residual_key) &&
                           cuda::can_store(call.out.output) && cuda::can_store(call.out.sparse) &&
                           cuda::can_store(call.out.residual);
        return views && how.tuned.tile_tokens > 0;
    }
#endif
    return false;
}

/// The tuned kernels of one step. Sequences are those that the schedule found for them.
template <class Exec, class Element, class Options>
class tuned_step
{
    using T = accumulator_t<Element>;
    using Metric = typename Options::metric_type;
    using FeatureMap = typename Options::feature_map_type;
    using schedule = portable::schedule;

public:
    tuned_step(Exec const& exec, batch_plan<Element, Options> const& how, batch_call<Element> const& call,
               detail::sequence_table const& sequences)
        : exec_(exec), how_(how), call_(call), sequences_(sequences)
    {
        sequences_.queries = std::min(sequences_.queries, how.limits.most_tokens());
    }

    /// Has the device load every kernel of a step.
    void load()
    {
#if defined(SPLA_HOPPER_KERNELS)
        if constexpr (has_hopper<Exec, Element>)
        {
            load_width<128>();
            if constexpr (cuda::has_narrow_kernels) load_width<64>();
            cuda::load_kernels(exec_, cuda::union_kernel<cuda::union_arguments>);
            if constexpr (cuda::has_wide_kernels)
                cuda::load_kernels(exec_, cuda::exact_kernel<Element, 192, 128>, cuda::exact_kernel<Element, 256, 256>);
            if constexpr (selects) cuda::load_kernels(exec_, cuda::gather_kernel<cuda::gather_arguments>);
            if constexpr (has_features)
                cuda::load_kernels(exec_, cuda::state_kernel<cuda::state_arguments>,
                                   cuda::change_kernel<cuda::change_arguments>);
        }
#endif
    }

    /// phi of the keys that may be in a state; then the blocks that enter it.
    void enter_blocks()
    {
#if defined(SPLA_HOPPER_KERNELS)
        if constexpr (has_features)
        {
            batch_limits const& l = how_.limits;
            features_.data = reinterpret_cast<bfloat16*>(call_.scratch + how_.features);
            features_.batch = 1, features_.tokens = how_.tuned.context_tokens, features_.heads = l.key_heads;
            features_.padded_width =
                cuda::padded_width(static_cast<int>(l.residual_width()), static_cast<int>(l.value_dim));
            features_.halves = cuda::feature_halves<FeatureMap>;
            features_.map = detail::token_map::packed(call_.made.first(schedule::context));
            cuda::make_key_features<FeatureMap>(exec_, call_.residual_key, features_,
                                                call_.made.table(schedule::context));
            enter_blocks_on_matrix_units(exec_, &features_, call_.value, call_.state, sequences_,
                                         static_cast<int>(l.residual_width()), static_cast<int>(l.value_dim));
        }
#endif
    }

    void select([[maybe_unused]] portable::selection_shape shape)
    {
#if defined(SPLA_HOPPER_KERNELS)
        if constexpr (selects)
        {
            shape.sequences = sequences_;
            cuda::select<Metric>(exec_, call_.query, call_.summary, shape, call_.list,
                                 {call_.made.table(schedule::tuned_choices), how_.most_tuned_choices,
                                  cuda::gathered_summaries::in(call_.scratch + how_.summaries, call_.summary,
                                                               how_.tuned.context_tokens / cuda::block_tokens,
                                                               call_.made.table(schedule::context))});
        }
#endif
    }

    void attend([[maybe_unused]] portable::attention_shape shape)
    {
#if defined(SPLA_HOPPER_KERNELS)
        if constexpr (has_hopper<Exec, Element>)
        {
            shape.sequences = sequences_;
            branch_memory const memory{call_.scratch + how_.between, how_.how.branch_bytes};
            branch_work const work = prepare_branches<Exec, Element>(exec_, call_.list, shape, memory,
                                                                     {call_.made.table(schedule::tuned_tiles),
                                                                      call_.made.table(schedule::tuned_bases),
                                                                      call_.made.table(schedule::tuned_chains)});
            if (!work) Kokkos::abort("spla: a step's workspace is smaller than its plan");
            attend_prepared<FeatureMap>(exec_, call_.query, call_.residual_query, call_.key, call_.value, features_,
                                        call_.list, call_.state, reinterpret_cast<T*>(call_.scratch + how_.exact_rows),
                                        call_.out, shape, work);
        }
#endif
    }

private:
#if defined(SPLA_HOPPER_KERNELS)
    static constexpr bool selects =
        has_hopper<Exec, Element> && std::is_same_v<Element, bfloat16> && cuda::scores_on_matrix_units<Metric>;
    static constexpr bool has_features =
        has_hopper<Exec, Element> && std::is_same_v<Element, bfloat16> && cuda::feature_halves < FeatureMap >> 0;

    template <int Width>
    void load_width() const
    {
        cuda::load_kernels(exec_, cuda::exact_kernel<Element, Width, Width>);
        if constexpr (selects)
            cuda::load_kernels(exec_, cuda::selection_kernel<Metric, Width, true>,
                               cuda::selection_kernel<Metric, Width, false>);
        if constexpr (has_features)
            cuda::load_kernels(
                exec_, cuda::residual_kernel<FeatureMap, Width, false>, cuda::residual_kernel<FeatureMap, Width, true>,
                cuda::base_state_kernel<FeatureMap, Width>, cuda::key_feature_kernel<FeatureMap, Element, Width / 8>);
    }
#endif
    Exec const& exec_;
    batch_plan<Element, Options> const& how_;
    batch_call<Element> const& call_;
    detail::sequence_table sequences_;
    key_features features_;
};

} // namespace spla::backend
