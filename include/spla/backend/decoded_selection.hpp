// SPDX-FileCopyrightText: The spla authors
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once
#include "batch_call.hpp"
#include "kernel_choice.hpp"

/// The selection for a step's decoded tokens, where a kernel of its own makes it: nothing elsewhere, and the portable
/// kernel then selects for them too.
namespace spla::backend
{

template <class Exec, class Element, class Options>
class decoded_selection
{
    using Metric = typename Options::metric_type;

public:
    /// Decided before the step's work is laid out: nothing falls back later.
    decoded_selection(Exec const& exec, batch_plan<Element, Options> const& how, batch_call<Element> const& call,
                      portable::selection_shape const& shape)
        : exec_(exec), how_(how), call_(call), shape_(shape)
    {
#if defined(SPLA_HOPPER_KERNELS)
        if constexpr (has_kernel)
            if (how.decode_selection.matrix_units && !call.given && cuda::can_map(call.query))
                counters_ = facts_of_decode_selection<Metric>(shape, call.summary, how.decode_queries,
                                                              call.scratch + how.masses)
                                .counters;
#endif
    }

    explicit operator bool() const
    {
        return counters_.count > 0;
    }
    /// What the step's schedule has to clear.
    portable::cleared_counters const& counters() const
    {
        return counters_;
    }

    void select() const
    {
#if defined(SPLA_HOPPER_KERNELS)
        if constexpr (has_kernel)
            if (*this)
                cuda::select_decoded<Metric>(exec_, call_.query, call_.summary, shape_, call_.list, how_.decode_queries,
                                             call_.scratch + how_.masses);
#endif
    }

    /// Has the device load the kernel.
    static void load([[maybe_unused]] Exec const& exec, [[maybe_unused]] batch_plan<Element, Options> const& how)
    {
#if defined(SPLA_HOPPER_KERNELS)
        if constexpr (has_kernel)
            if (how.decode_selection.matrix_units)
                cuda::load_kernels(exec, cuda::decode_selection_kernel<bfloat16>,
                                   cuda::decode_selection_kernel<std::int8_t>);
#endif
    }

private:
#if defined(SPLA_HOPPER_KERNELS)
    static constexpr bool has_kernel =
        has_hopper<Exec, Element> && std::is_same_v<Element, bfloat16> && cuda::scores_on_matrix_units<Metric>;
#endif
    Exec const& exec_;
    batch_plan<Element, Options> const& how_;
    batch_call<Element> const& call_;
    portable::selection_shape shape_;
    portable::cleared_counters counters_;
};

} // namespace spla::backend
