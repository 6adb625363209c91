// SPDX-FileCopyrightText: The spla authors
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once
#include "../../sequence_state.hpp"
#include "../../view_concepts.hpp"
#include "launch.hpp"

#include <algorithm>

namespace spla::portable
{

/// End of the linear state (the first block that is not in it) before and after the queries of a sequence.
KOKKOS_INLINE_FUNCTION std::int64_t end_before(window const& bounds, detail::sequence const& s)
{
    return s.first_position() > 0 ? bounds.state_end(s.first_position() - 1) : bounds.sink_blocks;
}
KOKKOS_INLINE_FUNCTION std::int64_t end_after(window const& bounds, detail::sequence const& s)
{
    return s.keys > 0 ? bounds.state_end(s.keys - 1) : bounds.sink_blocks;
}

/// The linear states of a call's sequences as kernels see them: F x Dv matrices (rows padded) and F vectors.
template <class T>
struct linear_tensor
{
    T *running = nullptr, *running_normaliser = nullptr, *prefix = nullptr, *prefix_normaliser = nullptr;
    std::int64_t key_heads = 1, features = 0, leading = 0;
    bool normalised = false;
    bool rounds_features = false;  ///< phi of keys, to bf16
    std::int64_t state_end = 0;    ///< of a fixed batch: first block not yet in the running states
    std::int64_t prefix_first = 0; ///< of a fixed batch: its first prefix state is that of the blocks before this one
    detail::item_table prefixes;   ///< prefix states
    /// Of variable lengths: a slot keeps the last `kept` running states (kept - 1 can be gone back to), of ends `step`
    /// blocks apart.
    bool of_slots = false;
    window bounds = {1, 0, 0, 1};
    std::int64_t kept = 1, step = 1;
    std::int32_t const* slots = nullptr;

    /// End of the running state before and after the call's tokens.
    KOKKOS_FUNCTION std::int64_t end_before(detail::sequence const& s) const
    {
        return of_slots ? portable::end_before(bounds, s) : prefix_first;
    }
    KOKKOS_FUNCTION std::int64_t end_after(detail::sequence const& s) const
    {
        return of_slots ? portable::end_after(bounds, s) : state_end;
    }
    /// Number of the running state of the blocks before `end`, among the matrices of all heads.
    KOKKOS_FUNCTION std::int64_t running_number(detail::sequence const& s, std::int64_t end) const
    {
        if (!of_slots) return s.number * key_heads;
        return (slots[s.number] * kept + (end - bounds.sink_blocks) / step % kept) * key_heads;
    }
    KOKKOS_FUNCTION std::int64_t prefix_number(detail::sequence const& s, std::int64_t i) const
    {
        return (prefixes.begin(s.number) + i) * key_heads;
    }
    /// State of the blocks before `end`: the running one, or the prefix state kept for it.
    KOKKOS_FUNCTION T const* matrix(detail::sequence const& s, std::int64_t head, std::int64_t end) const
    {
        return find(running, prefix, s, head, end, features * leading);
    }
    KOKKOS_FUNCTION T const* normaliser(detail::sequence const& s, std::int64_t head, std::int64_t end) const
    {
        return find(running_normaliser, prefix_normaliser, s, head, end, features);
    }

private:
    KOKKOS_FUNCTION T const* find(T const* of_running, T const* of_prefix, detail::sequence const& s, std::int64_t head,
                                  std::int64_t end, std::int64_t numbers) const
    {
        if (end == end_after(s)) return of_running + (running_number(s, end) + head) * numbers;
        return of_prefix + (prefix_number(s, end - end_before(s)) + head) * numbers;
    }
};

template <class T, class State>
linear_tensor<T> linear_of(State const& state)
{
    auto const& l = state.layout();
    linear_tensor<T> t;
    t.running = state.template part<T>(l.linear);
    t.running_normaliser = state.template part<T>(l.normaliser);
    t.prefix = state.template part<T>(l.prefix);
    t.prefix_normaliser = state.template part<T>(l.prefix_normaliser);
    t.key_heads = l.key_heads;
    t.features = l.features;
    t.leading = l.padded_value_dim();
    t.normalised = l.normalised;
    t.rounds_features = state.rounds_features;
    t.state_end = state.state_end;
    t.prefix_first = state.prefix_first;
    t.prefixes = {l.batch, l.slots};
    return t;
}

/// phi(K_b)^T V_b of the blocks that enter the state, each into the prefix state of its number: one work item a block
/// and key head.
template <class Exec, class FeatureMap, class Element>
struct block_state_kernel
{
    using T = accumulator_t<Element>;
    using team_type = team_of<Exec>;

    detail::tensor<Element const> key, value;
    linear_tensor<T> state;
    FeatureMap phi;
    detail::sequence_table sequences;
    detail::item_table items; ///< blocks that enter
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

    KOKKOS_FUNCTION std::int64_t items_there() const { return items.count() * state.key_heads; }
    KOKKOS_FUNCTION void operator()(team_type const& team, std::int64_t item) const
    {
        std::int64_t const head = item % state.key_heads;
        auto const place = items.find(item / state.key_heads);
        if (place.sequence >= sequences.count) return;
        detail::sequence const s = sequences[place.sequence];
        if (state.of_slots && s.queries <= 0) return; // others see to it
        std::int64_t const token = (state.end_before(s) + place.item) * block;
        memory const m = carve(team_base(team, scratch_bytes));
        int const leading = block_leading();
        int const features = static_cast<int>(state.features);
        int const columns = static_cast<int>(state.leading);
        detail::load_transposed(team, block, width, key.rows(s.number, token, head), m.keys, leading);
        detail::apply_feature_map(team, phi, leading, width, m.keys, m.features, leading, state.rounds_features);
        detail::load_panel(team, block, value_dim, value.rows(s.number, token, head), T(1), m.values, columns);
        std::int64_t const number = state.prefix_number(s, place.item) + head;
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

/// Numbers of a state that one work item adds up: what a first-level cache holds.
inline constexpr std::int64_t state_strip = 2048;

/// Turns the states of single blocks into prefix states: the i-th becomes the state before block i, the running state
/// that after the last; each number sums its blocks in ascending order, however many calls they came in. One work item
/// a sequence and strip of the numbers of all its key heads.
template <class Exec, class T>
struct prefix_scan
{
    linear_tensor<T> state;
    T *running, *prefix;
    std::int64_t numbers; ///< of one head
    detail::sequence_table sequences;
    detail::item_table items; ///< blocks that enter

    KOKKOS_FUNCTION std::int64_t strips() const { return ceil_divide(state.key_heads * numbers, state_strip); }
    /// A step in which no block enters has nothing to add up: most steps of decoded tokens are so.
    KOKKOS_FUNCTION std::int64_t items_there() const
    {
        return state.of_slots && items.count() == 0 ? 0 : sequences.count * strips();
    }

    KOKKOS_FUNCTION void operator()(team_of<Exec> const& team, std::int64_t item) const
    {
        detail::sequence const s = sequences[item / strips()];
        if (s.queries <= 0 && state.of_slots) return; // passed over: nothing of it may be touched
        std::int64_t const before = state.end_before(s), after = state.end_after(s);
        if (after == before) return;
        std::int64_t const all = state.key_heads * numbers, first = item % strips() * state_strip;
        std::int64_t const width = all - first < state_strip ? all - first : state_strip;
        T const* const start = running + state.running_number(s, before) * numbers + first;
        T* const finish = running + state.running_number(s, after) * numbers + first;
        T* const block = prefix + state.prefix_number(s, 0) * numbers + first;
        // A slot's first state is nothing, whatever its bytes are.
        bool const empty = state.of_slots && before == state.bounds.sink_blocks;
        Kokkos::parallel_for(Kokkos::TeamVectorRange(team, width),
                             [&](std::int64_t i) { finish[i] = empty ? T(0) : start[i]; });
        for (std::int64_t b = 0; b < after - before; ++b)
        {
            T* const slot = block + b * all;
            // What the sequence may go back to.
            std::int64_t const end = before + b;
            bool const keeps = state.of_slots && b > 0 && end + (state.kept - 1) * state.step >= after &&
                               (after - end) % state.step == 0;
            T* const kept = running + state.running_number(s, end) * numbers + first;
            Kokkos::parallel_for(Kokkos::TeamVectorRange(team, width), [&](std::int64_t i) {
                T const sum = finish[i], one = slot[i];
                slot[i] = sum;
                if (keeps) kept[i] = sum;
                finish[i] = sum + one;
            });
        }
    }
};

/// The state before anything: zeros.
template <class Exec, class T>
struct empty_state
{
    T* to;
    std::int64_t numbers;
    std::int64_t items() const { return ceil_divide(numbers, state_strip); }

    KOKKOS_FUNCTION void operator()(team_of<Exec> const& team, std::int64_t item) const
    {
        std::int64_t const first = item * state_strip;
        std::int64_t const width = numbers - first < state_strip ? numbers - first : state_strip;
        Kokkos::parallel_for(Kokkos::TeamVectorRange(team, width), [&](std::int64_t i) { to[first + i] = T(0); });
    }
};

/// Adds the blocks that enter (`most` of all sequences together, or fewer) to the linear states, and leaves their
/// prefix states. most_teams: of launch().
template <class Exec, class FeatureMap, class Element>
void enter_blocks(Exec const& exec, block_state_kernel<Exec, FeatureMap, Element> kernel, std::int64_t most,
                  std::int64_t most_teams = std::numeric_limits<std::int64_t>::max())
{
    using T = accumulator_t<Element>;
    linear_tensor<T> const& state = kernel.state;
    if (most <= 0) return;
    kernel.scratch_bytes = kernel.carve(nullptr).bytes;
    launch("spla::append::block_states", exec, most * state.key_heads, kernel.scratch_bytes, kernel, most_teams);
    auto const scan = [&](char const* label, T* running, T* prefix, std::int64_t numbers) {
        prefix_scan<Exec, T> const sums{state, running, prefix, numbers, kernel.sequences, kernel.items};
        launch(label, exec, std::max<std::int64_t>(kernel.sequences.count, 1) * sums.strips(), 0, sums, few_teams);
    };
    scan("spla::append::prefix_states", state.running, state.prefix, state.features * state.leading);
    if (state.normalised)
        scan("spla::append::prefix_normalisers", state.running_normaliser, state.prefix_normaliser, state.features);
}

} // namespace spla::portable
