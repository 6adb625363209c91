// SPDX-FileCopyrightText: The spla authors
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once
#include "../../algorithm/combination.hpp"
#include "../../block_list.hpp"
#include "launch.hpp"
#include "state_kernel.hpp"

namespace spla::portable
{

/// Blocks that one logical run of a decode step visits. Runs depend on the list alone, so their merged sum does not
/// depend on how many processors there are, nor on what else is in the batch.
inline constexpr int blocks_per_run = 8;

/// Sizes and switches of one attention launch.
struct attention_shape
{
    detail::sequence_table sequences;
    std::int64_t key_heads;
    int group, width, residual_width, features, value_dim;
    window bounds;
    double scale;
    bool exact = true;       ///< compute the exact branch
    bool residual = true;    ///< compute the residual branch
    bool everything = false; ///< every block that competes is selected: no list says so, and the residual is zero
    bool same_keys = false;  ///< the residual branch has the exact branch's keys
    bool normalised = false;
    residual_mode mode = residual_mode::automatic;
    bool may_read_unselected = false;
    int tokens_per_item = 1;        ///< most tokens of one work item, which never crosses a block boundary
    std::int64_t few_queries = 0;   ///< sequences with no more are decoded: token by token, in runs of blocks
    std::int64_t most_selected = 0; ///< entries of a list
    std::int64_t most_runs = 1;     ///< of any token

    KOKKOS_FUNCTION bool decodes(detail::sequence const& s) const { return s.queries <= few_queries; }
    KOKKOS_FUNCTION int tokens_of(detail::sequence const& s) const { return decodes(s) ? 1 : tokens_per_item; }
    /// Most blocks that one query of a sequence of `keys` visits exactly.
    KOKKOS_FUNCTION std::int64_t most_visited(std::int64_t keys) const
    {
        std::int64_t const blocks = ceil_divide(keys, bounds.block);
        std::int64_t const wanted = bounds.sink_blocks + Kokkos::min(most_selected, blocks) + bounds.local_blocks +
                                    ceil_divide(bounds.tile, bounds.block);
        return Kokkos::min(wanted, blocks);
    }
    /// Logical runs of each of its tokens, work items of their own. Direct summation may visit any number of blocks, so
    /// it runs undivided.
    KOKKOS_FUNCTION std::int64_t runs_of(detail::sequence const& s) const
    {
        if (!decodes(s) || may_read_unselected) return 1;
        return Kokkos::max<std::int64_t>(1, ceil_divide(most_visited(s.keys), blocks_per_run));
    }
    /// Queries before position 0, which see nothing.
    KOKKOS_FUNCTION static std::int64_t blind(detail::sequence const& s)
    {
        return s.first_position() < 0 ? Kokkos::min(-s.first_position(), s.queries) : 0;
    }
    KOKKOS_FUNCTION std::int64_t blind_tiles(detail::sequence const& s) const
    {
        return ceil_divide(blind(s), tokens_of(s));
    }
    KOKKOS_FUNCTION std::int64_t tiles_per_block(detail::sequence const& s) const
    {
        return ceil_divide(bounds.block, tokens_of(s));
    }
    /// Number of the tile of a position: tiles start anew with each block.
    KOKKOS_FUNCTION std::int64_t tile_of(detail::sequence const& s, std::int64_t position) const
    {
        return position / bounds.block * tiles_per_block(s) + position % bounds.block / tokens_of(s);
    }
    KOKKOS_FUNCTION std::int64_t first_seeing_tile(detail::sequence const& s) const
    {
        return tile_of(s, s.first_position() + blind(s));
    }
    KOKKOS_FUNCTION std::int64_t tiles(detail::sequence const& s) const
    {
        if (s.queries <= 0) return 0;
        return blind_tiles(s) + (s.queries > blind(s) ? tile_of(s, s.keys - 1) - first_seeing_tile(s) + 1 : 0);
    }
    /// Queries [begin, end) of the sequence's tile number t.
    KOKKOS_FUNCTION block_range tile_queries(detail::sequence const& s, std::int64_t t) const
    {
        std::int64_t const tokens = tokens_of(s);
        if (t < blind_tiles(s)) return {t * tokens, Kokkos::min((t + 1) * tokens, blind(s))};
        t += first_seeing_tile(s) - blind_tiles(s);
        std::int64_t const own = t / tiles_per_block(s);
        std::int64_t const begin = own * bounds.block + t % tiles_per_block(s) * tokens;
        std::int64_t const end = Kokkos::min(Kokkos::min(begin + tokens, (own + 1) * bounds.block), s.keys);
        return {Kokkos::max(begin - s.first_position(), blind(s)), end - s.first_position()};
    }
};

/// Where the results of the attention kernels go; absent outputs are null.
template <class Element>
struct attention_outputs
{
    using T = accumulator_t<Element>;
    detail::output_tensor<Element> output, sparse, residual;
    T* lse = nullptr; ///< [batch, query, query_head]
    std::int64_t lse_stride[3] = {0, 0, 0};
    detail::token_map lse_map;
    detail::combination_rule<T> rule;

    attention_outputs from_token(std::int64_t first) const
    {
        attention_outputs part = *this;
        auto const move = [first](detail::output_tensor<Element>& t) {
            if (t)
                t.data = static_cast<char*>(t.data) +
                         first * t.stride[1] * static_cast<std::int64_t>(t.wide ? sizeof(T) : sizeof(Element));
        };
        move(part.output), move(part.sparse), move(part.residual);
        if (part.lse) part.lse += first * lse_stride[1];
        return part;
    }

    KOKKOS_FUNCTION T& lse_of(std::int64_t sequence, std::int64_t token, std::int64_t head) const
    {
        auto const at = lse_map(sequence, token);
        return lse[at.batch * lse_stride[0] + at.token * lse_stride[1] + head * lse_stride[2]];
    }
    /// Stores one finished row: sparse and residual are [value_dim]; zeros stay zeros. By one thread (vector).
    template <class Team>
    KOKKOS_FUNCTION void store(Team const& team, bool exact, bool with_residual, std::int64_t sequence,
                               std::int64_t token, std::int64_t head, int value_dim, T const* o, T const* r,
                               T log_sum) const
    {
        T const scale_o = rule.inverse_rms([&](int d) { return o[d]; }, value_dim);
        T const scale_r = with_residual ? rule.inverse_rms([&](int d) { return r[d]; }, value_dim) : T(0);
        auto const to_sparse = sparse.row(sequence, token, head), to_residual = residual.row(sequence, token, head);
        auto const to_output = output.row(sequence, token, head);
        Kokkos::parallel_for(Kokkos::ThreadVectorRange(team, value_dim), [&](int d) {
            T const residual_d = with_residual ? r[d] : T(0);
            if (sparse && exact) to_sparse.set(d, o[d]);
            if (residual && with_residual) to_residual.set(d, residual_d);
            if (output) to_output.set(d, rule(head, d, o[d], scale_o, residual_d, scale_r));
        });
        if (lse && exact) Kokkos::single(Kokkos::PerThread(team), [&] { lse_of(sequence, token, head) = log_sum; });
    }
};

/// Unfinished rows of the runs of decoded tokens, in the workspace: largest, sum, denominator, its magnitude, O [Dv], R
/// [Dv].
template <class T>
struct partial_tensor
{
    T* data = nullptr;
    std::int64_t row_numbers = 0;
    std::int64_t heads = 0, most_runs = 0;
    detail::item_table tokens; ///< decoded tokens

    KOKKOS_FUNCTION T* row(detail::sequence const& s, std::int64_t token, std::int64_t head, std::int64_t run) const
    {
        return data + (((tokens.begin(s.number) + token) * heads + head) * most_runs + run) * row_numbers;
    }
    static constexpr std::int64_t numbers_per_row(std::int64_t value_dim) { return 4 + 2 * value_dim; }
};

/// The residual of a finished row: divided by its denominator where normalised, zero where that is within its own
/// rounding of zero (spec section 5).
template <class T>
KOKKOS_INLINE_FUNCTION T residual_factor(bool normalised, T denominator, T magnitude)
{
    if (!normalised) return T(1);
    T const bound = T(32) * Kokkos::Experimental::epsilon_v<T> * magnitude;
    return Kokkos::abs(denominator) > bound ? T(1) / denominator : T(0);
}

/// Rows [query, head, value_dim] of all sequences as they wait between a call's kernels, from `first` on: those of
/// variable lengths lie as the queries do.
template <class T>
detail::tensor<T> rows_between(attention_shape const& shape, T* first)
{
    detail::sequence_table const& s = shape.sequences;
    std::int64_t const heads = shape.key_heads * shape.group, width = shape.value_dim;
    std::int64_t const queries = s.offsets ? s.tokens : s.queries;
    detail::tensor<T> rows{
        first, {width * heads * queries, width * heads, width}, {s.offsets ? 1 : s.count, queries, heads, width}, {}};
    if (s.offsets) rows.map = detail::token_map::packed(s.offsets), rows.stride[0] = 0;
    return rows;
}

} // namespace spla::portable
