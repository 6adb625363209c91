// SPDX-FileCopyrightText: The spla authors
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once
#include "../attention_extras.hpp"
#include "../check.hpp"
#include "../sequence_state.hpp"
#include "../workspace.hpp"

/// Rules on views, state and workspace that several calls share.
namespace spla::detail
{

template <class V>
void require_contiguous(rule_checker& c, char const* argument, V const& view)
{
    c.require(view.extent(3) <= 1 || view.stride(3) == 1, rule_kind::unsupported, argument,
              "a view whose last stride is " + std::to_string(view.stride(3)), "a contiguous last dimension");
}

inline std::string extents(std::int64_t const (&e)[4])
{
    return "[" + std::to_string(e[0]) + ", " + std::to_string(e[1]) + ", " + std::to_string(e[2]) + ", " +
           std::to_string(e[3]) + "]";
}

/// The tensor has exactly these extents.
template <class T>
void require_extents(rule_checker& c, char const* argument, tensor<T> const& t, std::int64_t a, std::int64_t b,
                     std::int64_t h, std::int64_t d)
{
    std::int64_t const wanted[4] = {a, b, h, d};
    bool same = true;
    for (int i = 0; i < 4; ++i) same = same && t.extent[i] == wanted[i];
    c.require(same, rule_kind::shape, argument, extents(t.extent), extents(wanted));
}

template <class State, class Metric, class FeatureMap>
void require_state(rule_checker& c, State const& state, problem const& p, options<Metric, FeatureMap> const& o)
{
    problem capacity = p;
    capacity.keys = state.layout().blocks * o.block;
    state_layout const wanted = state_layout_of(capacity, o);
    c.require(wanted == state.layout(), rule_kind::state, "state.layout()", "of other sizes or options",
              "that of make_sequence_state with this call's batch, heads, widths, element type and options");
    c.require(state.buffer().extent(0) >= state.layout().bytes, rule_kind::state, "state.buffer()",
              std::to_string(state.buffer().extent(0)) + " bytes", "at least " + std::to_string(state.layout().bytes));
    c.require(p.keys / o.block <= state.layout().blocks, rule_kind::state, "state capacity in blocks",
              state.layout().blocks,
              "at least " + std::to_string(p.keys / o.block) + ", the complete blocks of " + std::to_string(p.keys) +
                  " keys");
}

template <class Workspace>
void require_workspace(rule_checker& c, Workspace const& scratch, std::size_t bytes)
{
    c.require(scratch.extent(0) >= bytes, rule_kind::value, "workspace", std::to_string(scratch.extent(0)) + " bytes",
              "at least " + std::to_string(bytes) + " (plan.workspace_bytes)");
}

} // namespace spla::detail
