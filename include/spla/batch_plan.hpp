// SPDX-FileCopyrightText: The spla authors
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once
#include "backend/portable/schedule_kernel.hpp"
#include "batch.hpp"
#include "plan.hpp"
#include "workspace.hpp"

namespace spla
{

/// What run_batch() will do for every step within its limits: made once, on the host, of sizes and options alone; small
/// and copyable. Its workspace serves any number of steps in the order of one execution space instance. Element: of
/// queries, keys and values.
template <class Element, class Options>
struct batch_plan
{
    using element_type = element_t<Element>;
    using options_type = Options;

    batch_limits limits;
    Options options;
    plan how; ///< kernel, tile and bytes; runs are those of a decoded token
    /// Sequences with no more new tokens are decoded: token by token, their blocks in fixed runs.
    std::int64_t decode_queries = 0;

    std::int64_t most_tiles = 0, most_choices = 0, most_lists = 0;
    std::int64_t most_completed = 0, most_entering = 0, most_decoded = 0;
    int lists_per_item = 1;
    bool rounds_features = false; ///< phi of keys, in states and in what is subtracted from them
    portable::tuned_work tuned;   ///< of sequences that are prefilled, where tuned kernels run
    std::int64_t most_tuned_choices = 0;
    stage_plan decode_selection, decode_attention; ///< of decoded tokens
    std::size_t counts = 0, lists = 0, lengths = 0, prefix = 0, prefix_normaliser = 0, partials = 0, features = 0,
                summaries = 0, exact_rows = 0, between = 0, masses = 0, decode_runs = 0; ///< in the workspace

    std::size_t workspace_bytes() const { return how.workspace_bytes; }
    friend std::ostream& operator<<(std::ostream& out, batch_plan const& p)
    {
        out << p.how << "; at most " << p.limits.batch << " sequences, " << p.limits.most_tokens() << " new tokens, "
            << p.limits.keys << " tokens a sequence; up to " << p.decode_queries
            << " new tokens of a sequence are decoded";
        if (p.tuned.tile_tokens > 0 || p.decode_selection.matrix_units || p.decode_attention.matrix_units)
            out << ": selection " << p.decode_selection << ", attention " << p.decode_attention;
        return out;
    }
};

namespace detail
{
/// Lists of all sequences of a step together, at most.
inline std::int64_t most_lists(std::int64_t tokens, std::int64_t sequences, std::int64_t tile)
{
    return tile == 1 ? tokens : tokens / tile + 2 * sequences;
}

template <class Metric, class FeatureMap>
std::optional<violation> check_limits(char const* call, batch_limits const& l, options<Metric, FeatureMap> const& o)
{
    if (auto const found = check(static_cast<problem const&>(l), o, call)) return found;
    rule_checker c(call);
    c.require(l.tokens >= 0, rule_kind::value, "tokens", l.tokens, "0 (batch * queries) or more");
    c.require(l.queries <= l.keys, rule_kind::value, "queries", l.queries,
              phrase{"at most keys, ", l.keys, ": new tokens are among them"});
    double const most = 0x1p30; // running counts are int32
    auto const number = [](std::int64_t n) { return static_cast<double>(n); };
    double const runs = number(l.keys) / o.block / portable::blocks_per_run + 2;
    c.require(l.prefilled >= 0, rule_kind::value, "prefilled", l.prefilled, "0 (keys) or more");
    double const items = number(l.batch) * (number(l.queries) + number(l.most_prefilled()) / o.block) +
                         number(l.tokens) + number(l.batch) * number(decode_queries) * runs + number(l.keys);
    c.require(items < most, rule_kind::unsupported, "batch * queries, or keys", items,
              "below 2^30 work items; name fewer queries");
    return c.found();
}

/// What prefilled sequences are to the kernels that are tuned for them. Nothing where the plan has no such kernels for
/// both branches, or no sequence is prefilled.
template <class Exec, class Element, class Metric, class FeatureMap>
void plan_tuned_work(batch_plan<Element, options<Metric, FeatureMap>>& made, std::int64_t entries)
{
    auto const& o = made.options;
    batch_limits const& l = made.limits;
    plan& how = made.how;
    how.feature_bytes = how.summary_bytes = how.exact_row_bytes = how.branch_bytes = 0;
    how.carried_tiles = 0;
    for (stage_plan* const stage : {&how.selection, &how.exact, &how.residual})
        if (stage->matrix_units && l.queries <= made.decode_queries) *stage = {true, false, "decode"};
    if (!how.exact.matrix_units)
    {
        if (how.selection.matrix_units) how.selection = {true, false, how.exact.reason};
        return;
    }
    std::int64_t const tokens = l.most_tokens();
    portable::attention_shape shape = attention_shape_of(l, o);
    shape.sequences = {l.batch, std::min(l.queries, tokens), l.keys};
    shape.residual = how.residual.runs;
    auto const facts = backend::facts_of_branches(shape, std::max<std::int64_t>(entries, o.top_k), tokens);
    how.carried_tiles = facts.carried_tiles;
    how.branch_bytes = align_workspace(facts.bytes);
    portable::tuned_work& tuned = made.tuned;
    tuned.context_tokens = ceil_divide(l.most_prefilled(), o.block) * o.block;
    tuned.tile_tokens = facts.tile_tokens, tuned.base_tokens = facts.base_tokens;
    tuned.chain_tokens = facts.base_tokens * facts.carried_tiles;
    if (how.residual.runs)
    {
        problem context = l;
        context.batch = 1, context.keys = tuned.context_tokens;
        how.feature_bytes = align_workspace(backend::feature_bytes<FeatureMap>(context));
        how.exact_row_bytes = align_workspace(static_cast<std::size_t>(tokens * l.query_heads * l.value_dim) * 4);
    }
    if (!how.selection.matrix_units) return;
    auto const selection = selection_shape_of(l, o, {l.batch, l.queries, l.keys});
    tuned.lists_per_item = backend::lists_of_tuned_item(selection);
    made.most_tuned_choices = made.most_lists / tuned.lists_per_item + l.batch;
    how.summary_bytes =
        align_workspace(backend::copied_summary_bytes(summaries_of(l, o), tuned.context_tokens / o.block));
}

/// Of limits and options that the rules have nothing against.
template <class Element, class Exec, class Metric, class FeatureMap>
batch_plan<Element, options<Metric, FeatureMap>>
batch_plan_of(batch_limits const& l, options<Metric, FeatureMap> const& o, std::int64_t entries)
{
    batch_plan<Element, options<Metric, FeatureMap>> made;
    made.limits = l;
    made.options = o;
    made.how = plan_of<Exec>("run_batch", false, l, o, entries);
    made.rounds_features =
        backend::rounds_features<Exec, FeatureMap>(l.element, l.residual_width(), l.value_dim, o.block);
    made.decode_queries = decode_queries;
    window const bounds = window_of(o);
    std::int64_t const tokens = std::min(l.most_tokens(), l.batch * l.queries), sequences = l.batch;

    portable::attention_shape shape = attention_shape_of(l, o);
    shape.few_queries = made.decode_queries;
    shape.most_selected = entries;
    made.how.runs = static_cast<int>(shape.runs_of({0, 1, l.keys}));
    made.how.blocks_per_run = o.may_read_unselected ? 0 : portable::blocks_per_run;
    std::int64_t const tiles_per_block = ceil_divide(o.block, made.how.tokens_per_item);
    made.most_decoded = std::min(tokens, sequences * std::min(l.queries, made.decode_queries));
    made.most_tiles = (tokens / o.block + 2 * sequences) * tiles_per_block + made.most_decoded * made.how.runs;
    made.most_lists = most_lists(tokens, sequences, bounds.tile);
    auto const selection = selection_shape_of(l, o, {sequences, l.queries, l.keys});
    int const rows = portable::selection_queries<Exec, accumulator_t<Element>>(selection);
    made.lists_per_item = o.share.kind == sharing_kind::tile_sum ? 1 : rows;
    made.most_choices = made.most_lists / made.lists_per_item + sequences;
    made.most_completed = tokens / o.block + sequences;
    made.most_entering = tokens / o.block + sequences * ceil_divide(bounds.tile, o.block) + sequences;

    std::size_t const accumulator = sizeof(accumulator_t<Element>);
    bool const residual = o.combine != combination_kind::sparse_only;
    std::int64_t const features = o.feature_map.features(static_cast<int>(l.residual_width()));
    std::int64_t const width = (l.value_dim + 15) / 16 * 16;
    buffer_carver place;
    made.counts = place(portable::schedule::parts * (sequences + 1), 4);
    made.lists = place(made.most_lists * l.key_heads * detail::list_capacity(l, o), 4);
    made.lengths = place(made.most_lists * l.key_heads, 4);
    std::int64_t const states = residual ? made.most_entering * l.key_heads * features : 0;
    made.prefix = place(states * width, accumulator);
    made.prefix_normaliser = place(o.normalised ? states : 0, accumulator);
    std::int64_t const rows_unmerged = made.how.runs > 1 ? made.most_decoded * l.query_heads * made.how.runs : 0;
    made.partials = place(rows_unmerged * portable::partial_tensor<float>::numbers_per_row(l.value_dim), accumulator);
    plan_tuned_work<Exec>(made, entries);
    made.features = place(static_cast<std::int64_t>(made.how.feature_bytes), 1);
    made.summaries = place(static_cast<std::int64_t>(made.how.summary_bytes), 1);
    made.exact_rows = place(static_cast<std::int64_t>(made.how.exact_row_bytes), 1);
    made.between = place(static_cast<std::int64_t>(made.how.branch_bytes), 1);
    detail::sequence_table decoded{l.batch, l.queries, l.keys};
    decoded.tokens = tokens;
    auto const decode_shape = selection_shape_of(l, o, decoded);
    char const* const why = backend::why_portable_decode_selection<Exec, Metric>(
        l.element, decode_shape, summaries_of(l, o), made.decode_queries);
    made.decode_selection = {true, !why, why ? why : ""};
    if (!why)
        made.masses =
            place(static_cast<std::int64_t>(backend::facts_of_decode_selection<Metric>(decode_shape, summaries_of(l, o),
                                                                                       made.decode_queries, nullptr)
                                                .bytes),
                  1);
    char const* const why_attention =
        backend::why_portable_decode_attention<Exec>(static_cast<problem const&>(l), o, made.most_decoded);
    made.decode_attention = {true, !why_attention, why_attention ? why_attention : ""};
    if (!why_attention)
    {
        shape.sequences = decoded;
        shape.residual = residual;
        made.decode_runs =
            place(static_cast<std::int64_t>(backend::decode_attention_bytes(shape, entries, made.most_decoded)), 1);
    }
    made.how.workspace_bytes = place(0, 1);
    return made;
}
} // namespace detail

/// plan_batch<Element>(...): plan of run_batch() for all steps within `limits`. A caller's own lists with more entries
/// than top_k: name them.
/// @throws argument_error  what check() returns of limits and options, or a rule on limits
template <class Element, class Exec, class Metric, class FeatureMap>
batch_plan<element_t<Element>, options<Metric, FeatureMap>>
plan_batch(Exec const&, batch_limits limits, options<Metric, FeatureMap> const& o, std::int64_t list_entries = 0)
{
    limits.element = kind_of<element_t<Element>>();
    if (auto const found = detail::check_limits("plan_batch", limits, o)) throw_violation(*found);
    auto const made =
        detail::batch_plan_of<element_t<Element>, Exec>(limits, o, std::max<std::int64_t>(list_entries, o.top_k));
    detail::rule_checker c("plan_batch");
    detail::require_kernels(c, made.how);
    c.throw_if_found();
    return made;
}

template <class Exec, class Element, class Options>
workspace<typename Exec::memory_space> make_workspace(Exec const& exec, batch_plan<Element, Options> const& p)
{
    return make_workspace(exec, p.how);
}

} // namespace spla
