// SPDX-FileCopyrightText: The spla authors
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once
#include "../plan.hpp"

/// decode() of a fixed batch by the kernels that a step's decoded tokens have. Nothing where there are none; the
/// portable kernels then select and attend.
namespace spla::backend
{

/// One call's. Its launches: clear(), select() where lists are not given, attend(); the last two return whether they
/// did it. Decodes: false of a call that has others.
template <class Metric, class FeatureMap, class Exec, class Element, bool Decodes>
class tuned_decode
{
    using linear = portable::linear_tensor<accumulator_t<Element>>;

public:
    tuned_decode(Exec const& exec, detail::tensor<Element const> const& query,
                 portable::selection_shape const& selection, portable::attention_shape const& attention,
                 plan const& how)
        : exec_(exec), query_(query), selection_(selection), attention_(attention), how_(how)
    {
    }

    /// Which of what the plan wants can be done here, in memory of its sizes.
    void look_at([[maybe_unused]] std::byte* memory, [[maybe_unused]] detail::list_tensor const& given,
                 [[maybe_unused]] detail::summary_tensor const& summary,
                 [[maybe_unused]] detail::tensor<Element const> const& residual_query,
                 [[maybe_unused]] detail::tensor<Element const> const& key,
                 [[maybe_unused]] detail::tensor<Element const> const& value, [[maybe_unused]] linear const& state)
    {
#if defined(SPLA_HOPPER_KERNELS)
        bool const selects = detail::selects_decoded(how_, queries()), attends = how_.exact.matrix_units;
        if constexpr (has_selection)
            if (selects && !given && cuda::can_map(query_))
            {
                masses_ = memory;
                panels_ = facts_of_decode_selection<Metric>(selection_, summary, queries(), memory).counters;
            }
        if constexpr (has_attention)
            if (attends && cuda::can_decode<FeatureMap>(exec_, query_, residual_query, key, value, state, attention_))
            {
                runs_ = memory + tuned_decode_sizes_of<Metric>(selects, attends, selection_, summary, attention_,
                                                               how_.list_capacity)
                                     .masses;
                items_ = decode_counters(attention_, how_.list_capacity, tokens(), runs_);
            }
#endif
    }
    /// What both count.
    void clear() const
    {
        if (masses_ || runs_)
            portable::launch("spla::clear", exec_, 1, 0, portable::clear_counters<Exec>{panels_, items_});
    }
    bool select([[maybe_unused]] detail::summary_tensor const& summary,
                [[maybe_unused]] detail::list_tensor const& list) const
    {
#if defined(SPLA_HOPPER_KERNELS)
        if constexpr (has_selection)
            if (masses_) cuda::select_decoded<Metric>(exec_, query_, summary, selection_, list, queries(), masses_);
#endif
        return masses_;
    }
    bool attend([[maybe_unused]] detail::tensor<Element const> const& key,
                [[maybe_unused]] detail::tensor<Element const> const& value,
                [[maybe_unused]] detail::list_tensor const& list, [[maybe_unused]] linear const& state,
                [[maybe_unused]] portable::attention_outputs<Element> const& out) const
    {
#if defined(SPLA_HOPPER_KERNELS)
        if constexpr (has_attention)
            if (runs_)
                cuda::attend_decoded<FeatureMap>(exec_, query_, key, value, list, state, out, attention_, tokens(),
                                                 runs_);
#endif
        return runs_;
    }

private:
#if defined(SPLA_HOPPER_KERNELS)
    static constexpr bool has_attention = Decodes && has_hopper<Exec, Element> && std::is_same_v<Element, bfloat16>;
    static constexpr bool has_selection = has_attention && cuda::scores_on_matrix_units<Metric>;
#endif
    std::int64_t queries() const
    {
        return attention_.sequences.queries;
    }
    std::int64_t tokens() const
    {
        return attention_.sequences.count * queries();
    }

    Exec const& exec_;
    detail::tensor<Element const> query_;
    portable::selection_shape selection_;
    portable::attention_shape attention_;
    plan const& how_;
    std::byte *masses_ = nullptr, *runs_ = nullptr;
    portable::cleared_counters panels_, items_;
};

} // namespace spla::backend
