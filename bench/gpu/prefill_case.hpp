// SPDX-FileCopyrightText: The spla authors
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once
#include "inputs.hpp"

/// One problem with all that its calls need, and its calls: whole and stage by stage.
namespace spla_bench
{

using list_indices = view4<std::int32_t>;
using list_lengths = Kokkos::View<std::int32_t***, Kokkos::LayoutRight, exec_space::memory_space>;

struct sharing_case
{
    char const* name;
    spla::sharing share;
};
constexpr sharing_case sharings[] = {{"per_token", spla::sharing::per_token()},
                                     {"first_query32", spla::sharing::first_query(32)},
                                     {"tile_sum128", spla::sharing::tile_sum(128, 4)}};

inline spla::problem problem_of(std::int64_t tokens, std::int64_t query_heads, std::int64_t key_heads, std::int64_t dim)
{
    spla::problem p;
    p.queries = p.keys = tokens;
    p.query_heads = query_heads, p.key_heads = key_heads, p.head_dim = p.value_dim = dim;
    p.element = spla::element_kind::bfloat16;
    return p;
}

inline spla::options<> options_of(spla::sharing const& share, int segment)
{
    spla::options<> o;
    o.share = share, o.segment_tokens = segment;
    return o;
}

struct prefill_case
{
    exec_space exec;
    inputs const& in;
    spla::options<> o;
    spla::plan how;
    view4<inputs::element> output;
    spla::block_list<list_indices, list_lengths> lists;
    spla::sequence_state<exec_space::memory_space> state;
    spla::workspace<exec_space::memory_space> scratch, exact_scratch;

    prefill_case(inputs const& given, spla::options<> const& wanted)
        : in(given), o(wanted), how(spla::plan_prefill(exec, in.sizes, o)),
          output("output", 1, in.sizes.queries, in.sizes.query_heads, in.sizes.value_dim),
          state(spla::make_sequence_state(exec, in.sizes, o)), scratch(spla::make_workspace(exec, how)),
          exact_scratch(spla::make_workspace(exec, spla::plan_selected_attention(exec, in.sizes, o, o.top_k)))
    {
        auto const tiles = spla::tile_count(in.sizes.queries, in.sizes.keys, spla::window_of(o).tile);
        lists.indices = list_indices("lists", 1, tiles, in.sizes.key_heads, o.top_k);
        lists.lengths = list_lengths("lengths", 1, tiles, in.sizes.key_heads);
        spla::warm_up(exec, how);
    }
    void whole(spla::attention_extras<inputs::element> const& extras = {})
    {
        state.reset();
        spla::prefill(exec, in.query, in.key, in.value, output, state, o, scratch, extras);
    }
    /// With what the stages alone ask for, where one segment holds all.
    void whole_with_lists()
    {
        spla::attention_extras<inputs::element> extras;
        extras.return_lists(lists);
        whole(extras);
    }
    void statistics() { spla::block_statistics(exec, in.key, state, 0, in.sizes.keys / o.block, o); }
    void select() { spla::select(exec, in.query, in.key, state, lists, o); }
    void exact()
    {
        spla::attention_extras<inputs::element> extras;
        extras.use_lists(lists);
        spla::selected_attention(exec, in.query, in.key, in.value, output, o, extras, exact_scratch);
    }
    /// Of a prompt in one segment: the state then has the prefix states of all queries.
    void residual()
    {
        spla::attention_extras<inputs::element> extras;
        extras.use_lists(lists);
        spla::residual_attention(exec, in.query, in.key, in.value, output, state, o, extras, scratch);
    }
};

} // namespace spla_bench
