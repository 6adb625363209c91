// SPDX-FileCopyrightText: The spla authors
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once
#include "results.hpp"

#include <spla/plan.hpp>
#include <spla/reference/block_selection.hpp>
#include <spla/reference/comparison.hpp>
#include <spla/reference/sparse_plus_linear.hpp>

namespace spla::reference
{
// The definitions for the core's options are compiled once, in verdict.cpp.
extern template selection select(sequence const&, options<> const&, summary_storage, double, double);
extern template attention attend(sequence const&, lists const&, options<> const&, double, double, matrix const&,
                                 matrix const&, matrix_rounding const&);
} // namespace spla::reference

namespace spla_test
{

/// One problem's results held against the reference: each branch with its computed bounds, and the lists.
struct verdict
{
    spla::reference::comparison sparse, residual, output, lse;
    int lists = 0, near_ties = 0, wrong_lists = 0;
    /// Lists that differ by more than the arithmetic's rounding, but by no more than that of the stored summaries: a
    /// number beside a rounding boundary fell to its other side. That bound is wide enough to hide a mistake, so few
    /// may use it.
    int rounding_ties = 0;
    std::string first_wrong;

    /// Within all bounds; lists right, and ties few.
    bool passed() const;
    std::string text() const;
};

/// Lists against the reference's masses: equal but for near-ties. What a list leaves out has no more mass than what it
/// holds, and with top_p no block is missing or needless, all up to the bound of the score's error.
/// arithmetic_error: the score's error without that of storing summaries.
void hold_lists(verdict& v, spla::reference::lists const& chosen, spla::reference::selection const& truth,
                std::vector<std::vector<double>> const& arithmetic_error, int top_k, double top_p);

/// What a call stored of one sequence, per query head.
struct stored_heads
{
    std::vector<spla::reference::matrix> sparse, residual, output; ///< [L, Dv]; empty where not asked for
    std::vector<spla::reference::vector> lse;
};

/// `place` names the sequence; smallest: absolute error of the outputs' type where they are subnormal.
void hold_branches(verdict& v, stored_heads const& made, spla::reference::attention const& truth, double smallest,
                   std::string const& place);

template <class Exec, class Element, class Out, class Options>
stored_heads heads_of(results<Exec, Element, Out> const& r, Options const& o, int b)
{
    stored_heads made;
    if (o.combine != spla::combination_kind::sparse_only)
    {
        made.sparse = matrices_of(r.sparse, b);
        made.residual = matrices_of(r.residual, b);
    }
    if (o.combine != spla::combination_kind::separate) made.output = matrices_of(r.output, b);
    for (auto const& column : matrices_of(r.lse, b)) made.lse.push_back(column.col(0));
    return made;
}

template <class Element>
constexpr double unit_roundoff()
{
    if constexpr (std::is_same_v<Element, double>) return 0x1p-53;
    if constexpr (std::is_same_v<Element, spla::bfloat16>) return 0x1p-8;
    if constexpr (std::is_same_v<Element, spla::float16>) return 0x1p-11;
    return 0x1p-24;
}

/// Branches, log-sum-exp and outputs against the definition for the lists that were used.
template <class Exec, class Element, class Out, class Options>
void hold_arithmetic(verdict& v, data<Exec, Element> const& d, results<Exec, Element, Out> const& r, Options const& o,
                     spla::reference::matrix_rounding const& lost)
{
    double const u = unit_roundoff<spla::accumulator_t<Element>>(), u_out = unit_roundoff<Out>();
    double const smallest = std::is_same_v<Out, spla::float16> ? 0x1p-25 : 0.0;
    for (int b = 0; b < d.size.batch && d.size.queries > 0; ++b)
        hold_branches(v, heads_of(r, o, b),
                      spla::reference::attend(d.host_sequence(b), r.chosen(b), o, u, u_out,
                                              d.matrix_of(d.sparse_weight), d.matrix_of(d.residual_weight), lost),
                      smallest, "batch " + std::to_string(b));
}

/// The lists against the definition.
template <class Exec, class Element, class Out, class Options>
void hold_selection(verdict& v, data<Exec, Element> const& d, results<Exec, Element, Out> const& r, Options const& o,
                    spla::reference::matrix_rounding const& lost)
{
    auto const storage = spla::resolve(o.storage, spla::kind_of<Element>());
    for (int b = 0; b < d.size.batch && d.size.queries > 0; ++b)
    {
        auto const x = d.host_sequence(b);
        auto const chosen = r.chosen(b);
        auto const truth = spla::reference::select(x, o, storage, 0x1p-24, lost.square);
        auto error = truth.score_error;
        if (chosen != truth.chosen && storage != spla::summary_storage::fp32)
            error = spla::reference::select(x, o, spla::summary_storage::fp32, 0x1p-24, lost.square).score_error;
        hold_lists(v, chosen, truth, error, o.top_k, o.top_p);
    }
}

/// What prefill's kernels for this problem lose of what their matrix units take.
template <class Exec, class Element, class Options>
spla::reference::matrix_rounding rounding_of(data<Exec, Element> const& d, Options const& o)
{
    using spla::reference::matrix_rounding;
    matrix_rounding lost;
    if constexpr (std::is_same_v<Element, spla::bfloat16> || std::is_same_v<Element, spla::float16>)
    {
        auto const how = spla::plan_prefill(Exec(), d.problem(), o);
        if (how.exact.matrix_units)
            lost = std::is_same_v<Element, spla::float16> ? matrix_rounding::float16_weights()
                                                          : matrix_rounding::bfloat16_weights();
        // A state is rounded for kernels on matrix units whether or not this call runs on them.
        auto const p = d.problem();
        if (spla::backend::rounds_features<Exec, typename Options::feature_map_type>(p.element, p.residual_width(),
                                                                                     p.value_dim, o.block))
            lost.feature = 0x1p-9;
        if (how.residual.matrix_units)
        {
            // Read as two numbers of 16 bits. Where a sum is carried from tile to tile, matrix units have added 16 keys
            // at a time before, and cut off: it changes in each tile by fewer blocks than are selected, and 4.
            double const changed = static_cast<double>(std::min<std::int64_t>(o.top_k, p.keys / o.block) + 4);
            lost.product = 0x1p-9;
            lost.state = 0x1p-16 + 0x1p-23 * how.carried_tiles * changed * (o.block / 16);
        }
        if (how.selection.matrix_units) lost.square = 0x1p-9;
    }
    return lost;
}

/// The same for what prefill's kernels lose.
template <class Exec, class Element, class Out, class Options>
void hold_selection(verdict& v, data<Exec, Element> const& d, results<Exec, Element, Out> const& r, Options const& o)
{
    hold_selection(v, d, r, o, rounding_of(d, o));
}
template <class Exec, class Element, class Out, class Options>
void hold_arithmetic(verdict& v, data<Exec, Element> const& d, results<Exec, Element, Out> const& r, Options const& o)
{
    hold_arithmetic(v, d, r, o, rounding_of(d, o));
}

template <class Exec, class Element, class Out, class Options>
verdict hold(data<Exec, Element> const& d, results<Exec, Element, Out> const& r, Options const& o)
{
    verdict v;
    auto const lost = rounding_of(d, o);
    hold_selection(v, d, r, o, lost);
    hold_arithmetic(v, d, r, o, lost);
    return v;
}

} // namespace spla_test
