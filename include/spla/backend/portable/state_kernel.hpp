// SPDX-FileCopyrightText: The spla authors
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once
#include "../../sequence_state.hpp"
#include "../../view_concepts.hpp"
#include "launch.hpp"

namespace spla::portable
{

/// The linear state of one sequence state as kernels see it: F x Dv matrices (rows padded) and F vectors.
template <class T>
struct linear_tensor
{
    T *running, *running_normaliser, *prefix, *prefix_normaliser;
    std::int64_t batch, key_heads, features, leading, slots, state_end, prefix_first;
    bool normalised;

    KOKKOS_FUNCTION std::int64_t slot_number(std::int64_t b, std::int64_t slot, std::int64_t head) const
    {
        return (b * slots + slot) * key_heads + head;
    }
    /// State of the blocks before `end`: the running one, or the prefix state kept for it.
    KOKKOS_FUNCTION T const* matrix(std::int64_t b, std::int64_t head, std::int64_t end) const
    {
        return end == state_end ? running + (b * key_heads + head) * features * leading
                                : prefix + slot_number(b, end - prefix_first, head) * features * leading;
    }
    KOKKOS_FUNCTION T const* normaliser(std::int64_t b, std::int64_t head, std::int64_t end) const
    {
        return end == state_end ? running_normaliser + (b * key_heads + head) * features
                                : prefix_normaliser + slot_number(b, end - prefix_first, head) * features;
    }
};

template <class T, class State>
linear_tensor<T> linear_of(State const& state)
{
    auto const& l = state.layout();
    return {state.template part<T>(l.linear),
            state.template part<T>(l.normaliser),
            state.template part<T>(l.prefix),
            state.template part<T>(l.prefix_normaliser),
            l.batch,
            l.key_heads,
            l.features,
            l.padded_value_dim(),
            l.slots,
            state.state_end,
            state.prefix_first,
            l.normalised};
}

/// phi(K_b)^T V_b of blocks [first, first + count), each into the prefix slot of its number: one work item a block and
/// key head.
template <class Exec, class FeatureMap, class Element>
struct block_state_kernel
{
    using T = accumulator_t<Element>;
    using team_type = team_of<Exec>;

    detail::tensor<Element const> key, value;
    linear_tensor<T> state;
    FeatureMap phi;
    std::int64_t first, count;
    int block, width, value_dim;
    std::int64_t scratch_bytes = 0;

    struct memory
    {
        T *keys, *features, *values;
        std::int64_t bytes;
    };
    KOKKOS_FUNCTION int block_leading() const { return static_cast<int>(detail::padded<Exec, T>(block)); }
    KOKKOS_FUNCTION memory carve(void* base) const
    {
        scratch_carver c(base);
        memory m;
        m.keys = c.take<T>(static_cast<std::int64_t>(width) * block_leading());
        m.features = c.take<T>(state.features * block_leading());
        m.values = c.take<T>(block * state.leading);
        m.bytes = c.used();
        return m;
    }

    KOKKOS_FUNCTION void operator()(team_type const& team, std::int64_t item) const
    {
        std::int64_t const head = item % state.key_heads;
        std::int64_t const slot = item / state.key_heads % count;
        std::int64_t const batch = item / state.key_heads / count;
        std::int64_t const token = (first + slot) * block;
        memory const m = carve(team_base(team, scratch_bytes));
        int const leading = block_leading();
        int const features = static_cast<int>(state.features);
        int const columns = static_cast<int>(state.leading);
        detail::load_transposed(team, block, width, key.rows(batch, token, head), m.keys, leading);
        detail::apply_feature_map(team, phi, leading, width, m.keys, m.features, leading);
        detail::load_panel(team, block, value_dim, value.rows(batch, token, head), T(1), m.values, columns);
        std::int64_t const number = state.slot_number(batch, slot, head);
        T* const to = state.prefix + number * features * columns;
        detail::multiply<detail::product::set>(team, features, block, columns,
                                               detail::row_set<T const>{m.features, leading}, m.values, columns,
                                               detail::row_set<T>{to, columns});
        if (state.normalised)
            Kokkos::parallel_for(Kokkos::TeamThreadRange(team, features), [&](int f) {
                T sum = T(0);
                for (int r = 0; r < block; ++r) sum += m.features[f * leading + r];
                state.prefix_normaliser[number * features + f] = sum;
            });
    }
};

/// Turns per-block states in the slots into prefix states: slot i becomes the state before block i, the running state
/// the state after the last; each element sums its blocks in ascending order, however many calls they came in.
template <class Exec, class T>
struct prefix_scan
{
    T *running, *prefix;
    std::int64_t numbers, slots, count; ///< numbers: of one state and all key heads, in strips

    /// Numbers of one work item: what a first-level cache holds of a state.
    static constexpr std::int64_t strip = 2048;
    std::int64_t items(std::int64_t batch) const { return batch * ceil_divide(numbers, strip); }

    KOKKOS_FUNCTION void operator()(team_of<Exec> const& team, std::int64_t item) const
    {
        std::int64_t const strips = ceil_divide(numbers, strip);
        std::int64_t const batch = item / strips, first = item % strips * strip;
        std::int64_t const width = numbers - first < strip ? numbers - first : strip;
        T* const sum = running + batch * numbers + first;
        T* const slot = prefix + batch * slots * numbers + first;
        for (std::int64_t s = 0; s < count; ++s)
            Kokkos::parallel_for(Kokkos::TeamVectorRange(team, width), [&](std::int64_t i) {
                T const block = slot[s * numbers + i];
                slot[s * numbers + i] = sum[i];
                sum[i] += block;
            });
    }
};

/// The state before anything: zeros.
template <class Exec, class T>
struct empty_state
{
    T* to;
    std::int64_t numbers;
    static constexpr std::int64_t strip = 2048;
    std::int64_t items() const { return ceil_divide(numbers, strip); }

    KOKKOS_FUNCTION void operator()(team_of<Exec> const& team, std::int64_t item) const
    {
        std::int64_t const first = item * strip;
        std::int64_t const width = numbers - first < strip ? numbers - first : strip;
        Kokkos::parallel_for(Kokkos::TeamVectorRange(team, width), [&](std::int64_t i) { to[first + i] = T(0); });
    }
};

/// Adds blocks [first, first + count) to the linear state and leaves their prefix states in the slots.
template <class Exec, class FeatureMap, class Element>
void enter_blocks(Exec const& exec, detail::tensor<Element const> const& key,
                  detail::tensor<Element const> const& value, linear_tensor<accumulator_t<Element>> const& state,
                  FeatureMap const& phi, std::int64_t first, std::int64_t count, int block, int width, int value_dim)
{
    using T = accumulator_t<Element>;
    if (count <= 0) return;
    block_state_kernel<Exec, FeatureMap, Element> kernel{key, value, state, phi, first, count, block, width, value_dim};
    kernel.scratch_bytes = kernel.carve(nullptr).bytes;
    launch("spla::append::block_states", exec, state.batch * count * state.key_heads, kernel.scratch_bytes, kernel);
    auto const scan = [&](char const* label, T* running, T* prefix, std::int64_t numbers) {
        prefix_scan<Exec, T> const sums{running, prefix, state.key_heads * numbers, state.slots, count};
        launch(label, exec, sums.items(state.batch), 0, sums);
    };
    scan("spla::append::prefix_states", state.running, state.prefix, state.features * state.leading);
    if (state.normalised)
        scan("spla::append::prefix_normalisers", state.running_normaliser, state.prefix_normaliser, state.features);
}

} // namespace spla::portable
