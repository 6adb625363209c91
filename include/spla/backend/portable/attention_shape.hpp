// SPDX-FileCopyrightText: The spla authors
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once
#include "../../algorithm/combination.hpp"
#include "../../block_list.hpp"
#include "launch.hpp"
#include "state_kernel.hpp"

namespace spla::portable
{

/// Sizes and switches of one attention launch.
struct attention_shape
{
    std::int64_t batch, queries, keys, key_heads;
    int group, width, residual_width, features, value_dim;
    window bounds;
    std::int64_t first_tile; ///< tile (position / T) of the first list
    double scale;
    bool exact = true;      ///< compute the exact branch
    bool residual = true;   ///< compute the residual branch
    bool same_keys = false; ///< the residual branch has the exact branch's keys
    bool normalised = false;
    residual_mode mode = residual_mode::automatic;
    bool may_read_unselected = false;
    int tokens_per_item = 1; ///< tokens of one work item; never across a block boundary
    int runs = 1;            ///< logical runs of blocks, each a work item of its own
    int blocks_per_run = 0;  ///< visited blocks of one run; 0: all

    KOKKOS_FUNCTION std::int64_t first_position() const { return keys - queries; }
    /// Queries before position 0, which see nothing.
    KOKKOS_FUNCTION std::int64_t blind() const
    {
        return first_position() < 0 ? Kokkos::min(-first_position(), queries) : 0;
    }
    KOKKOS_FUNCTION std::int64_t tiles_per_block() const { return ceil_divide(bounds.block, tokens_per_item); }
    KOKKOS_FUNCTION std::int64_t blind_tiles() const { return ceil_divide(blind(), tokens_per_item); }
    /// Number of the tile of a position: tiles start anew with each block.
    KOKKOS_FUNCTION std::int64_t tile_of(std::int64_t position) const
    {
        return position / bounds.block * tiles_per_block() + position % bounds.block / tokens_per_item;
    }
    KOKKOS_FUNCTION std::int64_t first_seeing_tile() const { return tile_of(first_position() + blind()); }
    KOKKOS_FUNCTION std::int64_t tiles() const
    {
        return blind_tiles() + (queries > blind() ? tile_of(keys - 1) - first_seeing_tile() + 1 : 0);
    }
    /// Queries [begin, end) of the call's tile number t.
    KOKKOS_FUNCTION block_range tile_queries(std::int64_t t) const
    {
        if (t < blind_tiles()) return {t * tokens_per_item, Kokkos::min((t + 1) * tokens_per_item, blind())};
        t += first_seeing_tile() - blind_tiles();
        std::int64_t const own = t / tiles_per_block();
        std::int64_t const begin = own * bounds.block + t % tiles_per_block() * tokens_per_item;
        std::int64_t const end = Kokkos::min(Kokkos::min(begin + tokens_per_item, (own + 1) * bounds.block), keys);
        return {Kokkos::max(begin - first_position(), blind()), end - first_position()};
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

    /// Stores one finished row: sparse and residual are [value_dim]; zeros stay zeros. By one thread (vector).
    template <class Team>
    KOKKOS_FUNCTION void store(Team const& team, bool exact, bool with_residual, std::int64_t batch, std::int64_t token,
                               std::int64_t head, int value_dim, T const* o, T const* r, T log_sum) const
    {
        T const scale_o = rule.inverse_rms([&](int d) { return o[d]; }, value_dim);
        T const scale_r = with_residual ? rule.inverse_rms([&](int d) { return r[d]; }, value_dim) : T(0);
        Kokkos::parallel_for(Kokkos::ThreadVectorRange(team, value_dim), [&](int d) {
            T const residual_d = with_residual ? r[d] : T(0);
            if (sparse && exact) sparse.set(batch, token, head, d, o[d]);
            if (residual && with_residual) residual.set(batch, token, head, d, residual_d);
            if (output) output.set(batch, token, head, d, rule(head, d, o[d], scale_o, residual_d, scale_r));
        });
        if (lse && exact)
            Kokkos::single(Kokkos::PerThread(team), [&] {
                lse[batch * lse_stride[0] + token * lse_stride[1] + head * lse_stride[2]] = log_sum;
            });
    }
};

/// Unfinished rows of one run of blocks, in the workspace: largest, sum, denominator, its magnitude, O [Dv], R [Dv].
template <class T>
struct partial_tensor
{
    T* data = nullptr;
    std::int64_t row_numbers = 0;
    KOKKOS_FUNCTION T* row(std::int64_t number) const { return data + number * row_numbers; }
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

} // namespace spla::portable
