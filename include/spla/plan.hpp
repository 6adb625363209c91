// SPDX-FileCopyrightText: The spla authors
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once
#include "backend/call_shapes.hpp"
#include "backend/portable/statistics_kernel.hpp"
#include "backend/tuned_kernels.hpp"
#include "check.hpp"
#include "problem.hpp"
#include "sequence_state.hpp"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <ostream>
#include <sstream>
#include <string>

namespace spla
{

/// What runs one stage of a call.
struct stage_plan
{
    bool runs = false;         ///< it is a part of the call
    bool matrix_units = false; ///< Hopper's own kernel, where views are aligned to 16 bytes
    char const* reason = "";   ///< why the portable kernel does it

    char const* kernel() const { return matrix_units ? "hopper" : "portable"; }
    friend std::ostream& operator<<(std::ostream& out, stage_plan const& p)
    {
        out << p.kernel();
        return p.matrix_units ? out : out << " (" << p.reason << ")";
    }
};

/// What a call will run: which kernels, with which tile, and why. Small, copyable, printable; made on the host alone.
struct plan
{
    char const* call = ""; ///< "prefill" or "decode"
    stage_plan selection, exact, residual;
    int lanes = 1; ///< numbers that one instruction (CPU) or one team of threads (GPU) handles; portable kernel
    int tokens_per_item = 1; ///< tokens of one work item; rows are tokens x heads of a group
    int rows_per_item = 1;
    int runs = 1;                   ///< logical runs of blocks merged at the end (decode)
    int blocks_per_run = 0;         ///< 0: all in one run
    bool decodes = false;           ///< token by token, in runs
    std::int64_t list_capacity = 0; ///< most entries of a list
    std::int64_t segment_tokens = 0;
    int carried_tiles = 0; ///< neighbouring tiles of queries, at most, whose residuals share a sum; 0: none (Hopper)
    std::size_t list_bytes = 0;          ///< lists of one segment
    std::size_t partial_bytes = 0;       ///< unmerged runs
    std::size_t exact_row_bytes = 0;     ///< rows of one segment that wait for their residual
    std::size_t feature_bytes = 0;       ///< phi of all keys
    std::size_t summary_bytes = 0;       ///< summaries that tuned kernels cannot take as they lie
    std::size_t branch_bytes = 0;        ///< what lies between the kernels of one segment's branches
    std::int64_t team_scratch_bytes = 0; ///< most scratch of one team of Kokkos; see warm_up()
    std::size_t workspace_bytes = 0; ///< exact scratch that the call needs from the caller, aligned to buffer_alignment

    std::string text() const
    {
        std::ostringstream s;
        s << "spla::" << call << ": ";
        if (selection.matrix_units || exact.matrix_units || residual.matrix_units)
        {
            auto const say = [&s](char const* stage, stage_plan const& p) {
                if (!p.runs) return;
                s << stage << " " << p << ", ";
            };
            say("selection", selection), say("exact branch", exact), say("residual branch", residual);
        }
        else
            s << "portable kernel (" << (exact.runs ? exact : residual).reason << "), " << rows_per_item
              << " rows per item (" << tokens_per_item << " tokens), " << lanes << " lanes, ";
        if (!decodes || !exact.matrix_units)
        {
            s << runs << (runs == 1 ? " run" : " runs");
            if (blocks_per_run > 0) s << " of " << blocks_per_run << " blocks";
            s << ", ";
        }
        s << "segments of " << segment_tokens << " tokens, workspace " << workspace_bytes << " bytes";
        return s.str();
    }
    friend std::ostream& operator<<(std::ostream& out, plan const& p) { return out << p.text(); }
};

namespace detail
{
/// New tokens of a sequence up to which it is decoded, if a group's heads times the tokens are still few rows.
inline constexpr std::int64_t decode_queries = 8;

/// Scratch that the call's kernels, append's included, ask of Kokkos for one team.
template <class Exec, class Element, class Metric, class FeatureMap>
std::int64_t most_team_scratch(plan const& how, problem const& p, options<Metric, FeatureMap> const& o)
{
    state_layout const layout = layout_of(p, o);
    int const width = static_cast<int>(p.head_dim);
    summary_tensor summary;
    summary.sub_blocks = o.sub_blocks;
    summary.vectors = static_cast<int>(layout.vectors);

    portable::attention_kernel<Exec, FeatureMap, Element> attention;
    attention.shape = attention_shape_of(p, o);
    attention.shape.tokens_per_item = how.tokens_per_item;
    std::int64_t most = attention.carve(nullptr).bytes;

    // Fewer keys let an item take more rows, within a budget for their masses: the most scratch is at either end.
    using T = accumulator_t<Element>;
    portable::selection_shape shape = selection_shape_of(p, o, {p.batch, p.queries, p.keys});
    auto const carve_selection = [&](std::int64_t made_for, std::int64_t blocks) {
        shape.most_blocks = made_for;
        auto selection = portable::make_selection<Exec, Metric, Element>(shape);
        selection.lists_per_item = selection.most_rows / shape.group;
        selection.summary = summary;
        selection.shape.most_blocks = blocks;
        most = std::max(most, selection.carve(nullptr).bytes);
    };
    std::int64_t const blocks = shape.most_blocks;
    carve_selection(blocks, blocks);
    shape.most_blocks = 0;
    std::int64_t const row_bytes =
        static_cast<std::int64_t>(sizeof(T)) * portable::selection_queries<Exec, T>(shape) * shape.group;
    carve_selection(0, std::min(blocks, ceil_divide(portable::selection_budget<Exec>, row_bytes)));
    if constexpr (!Metric::reads_keys)
    {
        portable::statistics_kernel<Exec, Metric, Element> statistics;
        statistics.summary = summary;
        statistics.block = o.block, statistics.width = width, statistics.kept = o.kept_keys;
        most = std::max(most, statistics.carve(nullptr).bytes);
    }
    portable::block_state_kernel<Exec, FeatureMap, Element> states;
    states.state.features = layout.features;
    states.state.leading = layout.padded_value_dim();
    states.block = o.block, states.width = static_cast<int>(p.residual_width());
    return std::max(most, states.carve(nullptr).bytes);
}

template <class Metric, class FeatureMap>
backend::branches branches_of(options<Metric, FeatureMap> const& o)
{
    return o.combine == combination_kind::sparse_only ? backend::branches::exact : backend::branches::both;
}

/// Which kernel runs each stage of such a call, and why.
template <class Exec, class Metric, class FeatureMap>
void choose_kernels(plan& made, problem const& p, options<Metric, FeatureMap> const& o, backend::branches wanted)
{
    auto const choose = [](char const* why_portable) -> stage_plan {
        return {true, why_portable == nullptr, why_portable ? why_portable : ""};
    };
    bool const has_workspace = backend::has_workspace(wanted);
    auto const shape = selection_shape_of(p, o, {p.batch, p.queries, p.keys});
    if (made.decodes)
    {
        bool const few = p.queries <= decode_queries;
        made.exact = choose(few ? backend::why_portable_decode_attention<Exec>(p, o, p.batch * p.queries)
                                : "decode of more than 8 tokens");
        if (backend::has_residual(wanted)) made.residual = made.exact;
        auto const summaries = summaries_of(p, o);
        made.selection =
            choose(few ? backend::why_portable_decode_selection<Exec, Metric>(p.element, shape, summaries, p.queries)
                       : backend::why_portable_selection<Exec, Metric>(p.element, shape, summaries, false));
        return;
    }
    if (backend::has_exact(wanted)) made.exact = choose(backend::why_portable_exact<Exec>(p, o, has_workspace));
    if (backend::has_residual(wanted))
        made.residual = choose(backend::why_portable_residual<Exec>(p, o, has_workspace));
    made.selection =
        choose(backend::why_portable_selection<Exec, Metric>(p.element, shape, summaries_of(p, o), has_workspace));
    // Rows wait for a residual on matrix units alone.
    bool const both = wanted == backend::branches::both;
    if (both && !made.residual.matrix_units && made.exact.matrix_units) made.exact = choose(made.residual.reason);
    if (both && !made.exact.matrix_units && made.residual.matrix_units) made.residual = choose(made.exact.reason);
}

/// What tuned kernels want of the workspace of a call that does not decode; queries: of a segment.
template <class FeatureMap, class Metric>
void size_prefill(plan& made, problem const& p, options<Metric, FeatureMap> const& o, std::int64_t queries,
                  std::int64_t list_capacity, backend::branches wanted)
{
    if (made.residual.matrix_units) made.feature_bytes = align_workspace(backend::feature_bytes<FeatureMap>(p));
    if (made.selection.matrix_units && resolve(o.storage, p.element) == summary_storage::int8)
        made.summary_bytes =
            align_workspace(backend::copied_summary_bytes(summaries_of(p, o), p.batch * (p.keys / o.block)));
    if (made.exact.matrix_units || made.residual.matrix_units)
    {
        portable::attention_shape shape = attention_shape_of(p, o);
        shape.sequences = {p.batch, backend::is_stage(wanted) ? p.queries : queries, p.keys};
        shape.exact = made.exact.runs, shape.residual = made.residual.runs;
        auto const facts = backend::facts_of_branches(shape, std::max<std::int64_t>(list_capacity, o.top_k));
        made.branch_bytes = align_workspace(facts.bytes);
        made.carried_tiles = facts.carried_tiles;
    }
    if (made.exact.matrix_units && made.residual.matrix_units && o.combine != combination_kind::separate)
        made.exact_row_bytes = align_workspace(static_cast<std::size_t>(p.batch * queries * p.query_heads) *
                                               static_cast<std::size_t>(p.value_dim) * 4);
}

/// Has the selection of a call that decodes so many tokens a tuned kernel for decoded ones? Longer calls may have
/// prefill's.
inline bool selects_decoded(plan const& how, std::int64_t tokens)
{
    return tokens <= decode_queries && how.selection.matrix_units;
}

/// What tuned kernels want of the workspace of a call that decodes, or of a smaller one: they may have nothing to do
/// with a call of many tokens or keys, and yet take one of fewer from the same workspace.
template <class Exec, class Metric, class FeatureMap>
std::size_t tuned_decode_bytes(plan const& made, problem p, options<Metric, FeatureMap> const& o,
                               std::int64_t list_capacity)
{
    bool selects = selects_decoded(made, p.queries), attends = made.exact.matrix_units;
    if (!selects || !attends)
    {
        problem least = p;
        least.queries = std::min<std::int64_t>(p.queries, 1), least.keys = std::min<std::int64_t>(p.keys, 1);
        plan of_least;
        of_least.decodes = true;
        choose_kernels<Exec>(of_least, least, o, branches_of(o));
        selects = of_least.selection.matrix_units, attends = of_least.exact.matrix_units;
    }
    portable::attention_shape shape = attention_shape_of(p, o);
    shape.few_queries = std::min(p.queries, decode_queries);
    shape.sequences = {p.batch, shape.few_queries, p.keys};
    return backend::tuned_decode_sizes_of<Metric>(selects, attends, selection_shape_of(p, o, shape.sequences),
                                                  summaries_of(p, o), shape, list_capacity)
        .bytes();
}

/// The plan of sizes and options that check() has nothing against; require_kernels() says whether it can run.
template <class Exec, class Metric, class FeatureMap>
plan plan_of(char const* call, bool decode, problem const& p, options<Metric, FeatureMap> const& o,
             std::int64_t list_capacity, backend::branches wanted)
{
    using portable::rows_per_item;
    plan made;
    made.call = call;
    made.decodes = decode;
    made.list_capacity = list_capacity;
    choose_kernels<Exec>(made, p, o, wanted);
    made.lanes = runs_on_host<Exec> ? (p.element == element_kind::float64 ? native_lanes<double> : native_lanes<float>)
                                    : portable::team_lanes<Exec> * portable::team_threads<Exec>;
    int const group = static_cast<int>(p.group());
    std::int64_t const tokens = std::max(1, rows_per_item<Exec> / group);
    made.tokens_per_item = decode ? 1 : static_cast<int>(std::min<std::int64_t>(tokens, o.block));
    made.rows_per_item = made.tokens_per_item * group; // of the portable kernel, which may have to do it
    made.segment_tokens = o.segment_tokens;
    if (decode)
    {
        portable::attention_shape shape = attention_shape_of(p, o);
        shape.few_queries = p.queries;
        shape.most_selected = list_capacity;
        made.runs = static_cast<int>(shape.runs_of({0, p.queries, p.keys}));
        if (!o.may_read_unselected) made.blocks_per_run = portable::blocks_per_run;
    }
    std::int64_t const queries = std::min<std::int64_t>(p.queries, o.segment_tokens);
    std::int64_t const tiles = queries / window_of(o).tile + 2;
    std::size_t const lists = static_cast<std::size_t>(p.batch * tiles * p.key_heads);
    made.list_bytes =
        align_workspace(lists * static_cast<std::size_t>(detail::list_capacity(p, o)) * 4) + align_workspace(lists * 4);
    if (made.runs > 1)
    {
        std::size_t const accumulator = p.element == element_kind::float64 ? 8 : 4;
        std::size_t const rows = static_cast<std::size_t>(p.batch * queries * p.query_heads * made.runs);
        made.partial_bytes = align_workspace(
            rows * static_cast<std::size_t>(portable::partial_tensor<float>::numbers_per_row(p.value_dim)) *
            accumulator);
    }
    if (decode)
        made.branch_bytes = tuned_decode_bytes<Exec>(made, p, o, list_capacity);
    else
        size_prefill<FeatureMap>(made, p, o, queries, list_capacity, wanted);
    made.workspace_bytes = made.list_bytes + made.partial_bytes + made.exact_row_bytes + made.feature_bytes +
                           made.summary_bytes + made.branch_bytes;
    made.team_scratch_bytes = p.element == element_kind::float64 ? most_team_scratch<Exec, double>(made, p, o)
                                                                 : most_team_scratch<Exec, float>(made, p, o);
    return made;
}

/// Kokkos counts a team's scratch in int.
inline void require_kernels(rule_checker& c, plan const& made)
{
    c.require(made.team_scratch_bytes < std::numeric_limits<int>::max() - 256, rule_kind::unsupported,
              "team scratch bytes", made.team_scratch_bytes, "below 2^31: fewer keys, or narrower heads and blocks");
}

/// The same for the branches that the options ask for.
template <class Exec, class Metric, class FeatureMap>
plan plan_of(char const* call, bool decode, problem const& p, options<Metric, FeatureMap> const& o,
             std::int64_t list_capacity)
{
    return plan_of<Exec>(call, decode, p, o, list_capacity, branches_of(o));
}

template <class Exec, class Metric, class FeatureMap>
plan make_plan(char const* call, bool decode, problem const& p, options<Metric, FeatureMap> const& o,
               std::int64_t list_capacity, backend::branches wanted)
{
    if (auto const found = check(p, o, call)) throw_violation(*found);
    plan made = plan_of<Exec>(call, decode, p, o, list_capacity, wanted);
    rule_checker c(call);
    require_kernels(c, made);
    c.throw_if_found();
    return made;
}
} // namespace detail

/// Plan of prefill() for these sizes: p.queries and p.keys are those of the call, or the most of several calls that
/// share a workspace. A caller's own lists with more entries than top_k: name their capacity.
/// @throws argument_error  what check() returns, or that a kernel would need more scratch than Kokkos can give a team
template <class Exec, class Metric, class FeatureMap>
plan plan_prefill(Exec const&, problem const& p, options<Metric, FeatureMap> const& o, std::int64_t list_capacity = 0)
{
    return detail::make_plan<Exec>("prefill", false, p, o, std::max<std::int64_t>(list_capacity, o.top_k),
                                   detail::branches_of(o));
}

/// Plan of decode(), rules as plan_prefill(): its workspace grows with p.keys, so name the most that the sequence will
/// have. A caller's own lists with more entries than top_k: name their capacity.
template <class Exec, class Metric, class FeatureMap>
plan plan_decode(Exec const&, problem const& p, options<Metric, FeatureMap> const& o, std::int64_t list_capacity = 0)
{
    return detail::make_plan<Exec>("decode", true, p, o, std::max<std::int64_t>(list_capacity, o.top_k),
                                   detail::branches_of(o));
}

namespace detail
{
/// Touches its team's scratch and nothing else.
template <class Exec>
struct no_work
{
    std::int64_t bytes;
    using team_type = typename Kokkos::TeamPolicy<Exec, Kokkos::Schedule<Kokkos::Dynamic>,
                                                  Kokkos::IndexType<std::int64_t>>::member_type;
    KOKKOS_FUNCTION void operator()(team_type const& team, std::int64_t) const { portable::team_base(team, bytes); }
};
} // namespace detail

/// Lets Kokkos grow its scratch to what the plan's calls (and append) need, and fences once. Before it, a first call
/// may allocate and fence inside Kokkos; after it, calls of this plan or smaller ones do not.
template <class Exec>
void warm_up(Exec const& exec, plan const& p)
{
    portable::launch("spla::warm_up", exec, exec.concurrency(), p.team_scratch_bytes,
                     detail::no_work<Exec>{p.team_scratch_bytes});
    exec.fence("spla::warm_up");
}

} // namespace spla
