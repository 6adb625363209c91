// SPDX-FileCopyrightText: The spla authors
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once
#include "batch_call.hpp"
#include "kernel_choice.hpp"

/// Both branches for a step's decoded tokens, where a kernel of its own makes them: nothing elsewhere, and the portable
/// kernel then attends for them too.
namespace spla::backend
{

template <class Exec, class Element, class Options>
class decoded_attention
{
    using FeatureMap = typename Options::feature_map_type;

public:
    /// Decided before the step's work is laid out: nothing falls back later. shape: of all sequences.
    decoded_attention(Exec const& exec, batch_plan<Element, Options> const& how, batch_call<Element> const& call,
                      portable::attention_shape const& shape)
        : exec_(exec), how_(how), call_(call), shape_(shape)
    {
#if defined(SPLA_HOPPER_KERNELS)
        if constexpr (has_kernel)
            if (how.decode_attention.matrix_units &&
                cuda::can_decode<FeatureMap>(exec, call.query, call.residual_query, call.key, call.value, call.state,
                                             shape))
                counters_ = decode_counters(shape, list_capacity(), how.most_decoded, call.scratch + how.decode_runs);
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

    void attend() const
    {
#if defined(SPLA_HOPPER_KERNELS)
        if constexpr (has_kernel)
            if (*this)
                cuda::attend_decoded<FeatureMap>(exec_, call_.query, call_.key, call_.value, call_.list, call_.state,
                                                 call_.out, shape_, how_.most_decoded,
                                                 call_.scratch + how_.decode_runs);
#endif
    }

    /// Has the device load the kernel.
    static void load([[maybe_unused]] Exec const& exec, [[maybe_unused]] batch_plan<Element, Options> const& how,
                     [[maybe_unused]] portable::attention_shape const& shape)
    {
#if defined(SPLA_HOPPER_KERNELS)
        if constexpr (has_kernel)
            if (how.decode_attention.matrix_units) cuda::load_decode<FeatureMap>(exec, shape);
#endif
    }

private:
#if defined(SPLA_HOPPER_KERNELS)
    static constexpr bool has_kernel = has_hopper<Exec, Element> && std::is_same_v<Element, bfloat16>;
    std::int64_t list_capacity() const
    {
        return call_.list ? call_.list.capacity : 0;
    }
#endif
    Exec const& exec_;
    batch_plan<Element, Options> const& how_;
    batch_call<Element> const& call_;
    portable::attention_shape shape_;
    portable::cleared_counters counters_;
};

} // namespace spla::backend
