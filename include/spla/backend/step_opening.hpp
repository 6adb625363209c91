// SPDX-FileCopyrightText: The spla authors
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once
#include "batch_call.hpp"
#include "kernel_choice.hpp"

/// The first launch of a step: its schedule alone; or, where a kernel of its own attends for decoded tokens, all that
/// these add to statistics and states with it.
namespace spla::backend
{

template <class Exec, class Element, class Options>
class step_opening
{
    using Metric = typename Options::metric_type;
    using FeatureMap = typename Options::feature_map_type;

public:
    /// attends_decoded: a kernel of its own attends for the step's decoded tokens.
    step_opening(Exec const& exec, batch_plan<Element, Options> const& how, batch_call<Element> const& call,
                 [[maybe_unused]] bool attends_decoded)
        : exec_(exec), how_(how), call_(call)
    {
#if defined(SPLA_HOPPER_KERNELS)
        if constexpr (has_kernel)
        {
            opens_decoded_ = attends_decoded && !cuda::why_no_rows(call.summary.head_dim, 8);
            bool const all = how.limits.queries <= how.decode_queries;
            writes_new_rows_ =
                opens_decoded_ && all && call.fresh && cuda::can_map(call.fresh.key) && cuda::can_map(call.fresh.value);
        }
#endif
    }

    /// Does it see to statistics and states of decoded sequences?
    bool opens_decoded() const
    {
        return opens_decoded_;
    }

    /// Does it put new tokens into the cache, where the step does?
    bool writes_new_rows() const
    {
        return writes_new_rows_;
    }

    void open(portable::schedule_kernel<Exec> schedule) const
    {
        schedule.opens_decoded = opens_decoded_;
        schedule.attention.sequences = call_.sequences; // falling offsets are what the schedule itself counts
#if defined(SPLA_HOPPER_KERNELS)
        if constexpr (has_kernel)
            if (opens_decoded_)
                return cuda::open_step<Metric, cuda::decode_map<FeatureMap>>(
                    exec_, schedule, call_.key, call_.value, writes_new_rows_ ? call_.fresh : decltype(call_.fresh)(),
                    call_.summary, call_.state, how_.options.kept_keys);
#endif
        portable::launch("spla::schedule", exec_, 1, 0, schedule);
    }

    /// Has the device load the kernel.
    static void load([[maybe_unused]] Exec const& exec, [[maybe_unused]] batch_plan<Element, Options> const& how)
    {
#if defined(SPLA_HOPPER_KERNELS)
        if constexpr (has_kernel)
            if (how.decode_attention.matrix_units) cuda::load_opening<Metric, cuda::decode_map<FeatureMap>>(exec);
#endif
    }

private:
#if defined(SPLA_HOPPER_KERNELS)
    static constexpr bool has_kernel =
        has_hopper<Exec, Element> && std::is_same_v<Element, bfloat16> && cuda::has_statistics<Metric>;
#endif
    Exec const& exec_;
    batch_plan<Element, Options> const& how_;
    batch_call<Element> const& call_;
    bool opens_decoded_ = false, writes_new_rows_ = false;
};

} // namespace spla::backend
