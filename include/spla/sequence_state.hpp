// SPDX-FileCopyrightText: The spla authors
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once
#include "algorithm/causal_bounds.hpp"
#include "problem.hpp"

#include <Kokkos_Core.hpp>

#include <cstddef>

namespace spla
{

/// Where the parts of a sequence state lie in its buffer. Offsets in bytes, each a multiple of 256; made by
/// state_layout_of().
///
/// | part             | shape                                                    | type                      |
/// |------------------|----------------------------------------------------------|---------------------------|
/// | summaries        | [batch, block, key_head, sub_block, vector, head_dim]    | bf16, fp32 or int8        |
/// | scales           | [batch, block, key_head, sub_block, vector]              | fp32 (int8 summaries only)|
/// | linear           | [batch, key_head, features, value_dim]                   | accumulation type         |
/// | normaliser       | [batch, key_head, features]                              | accumulation type         |
/// | prefix, prefix_normaliser | the same with a slot index after batch          | accumulation type         |
/// | shared list      | [batch, key_head, top_k] and its length                  | int32                     |
///
/// The vectors of a sub-block are its mean, the covariance's vectors, then the kept keys.
struct state_layout
{
    std::int64_t batch = 0, key_heads = 0, head_dim = 0, value_dim = 0, features = 0;
    std::int64_t blocks = 0; ///< capacity in complete blocks
    std::int64_t slots = 0;  ///< prefix states held at once
    std::int64_t sub_blocks = 0, vectors = 0, top_k = 0;
    summary_storage storage = summary_storage::fp32;
    bool normalised = false;
    bool reads_keys = false;
    element_kind accumulator = element_kind::float32;

    std::size_t summaries = 0, scales = 0, linear = 0, normaliser = 0, prefix = 0, prefix_normaliser = 0,
                shared_list = 0, shared_length = 0;
    std::size_t bytes = 0; ///< of the whole buffer

    friend bool operator==(state_layout const&, state_layout const&) = default;

    std::int64_t summary_vectors() const { return reads_keys ? 0 : sub_blocks * vectors; }
    std::int64_t padded_value_dim() const { return (value_dim + 15) / 16 * 16; }
};

/// Layout of a state for `capacity.keys` tokens of `capacity.batch` sequences.
template <class Metric, class FeatureMap>
state_layout state_layout_of(problem const& capacity, options<Metric, FeatureMap> const& o)
{
    state_layout s;
    s.batch = capacity.batch;
    s.key_heads = capacity.key_heads;
    s.head_dim = capacity.head_dim;
    s.value_dim = capacity.value_dim;
    s.features = o.feature_map.features(static_cast<int>(capacity.residual_width()));
    s.blocks = capacity.keys / o.block;
    s.sub_blocks = o.sub_blocks;
    s.vectors = 1 + Metric::covariance_vectors(static_cast<int>(capacity.head_dim)) + o.kept_keys;
    s.top_k = o.top_k;
    s.storage = resolve(o.storage, capacity.element);
    s.normalised = o.normalised;
    s.reads_keys = Metric::reads_keys;
    s.accumulator = capacity.element == element_kind::float64 ? element_kind::float64 : element_kind::float32;
    // Blocks that can leave the window within one segment; with T > B they leave T / B at a time.
    std::int64_t const at_once = ceil_divide(window_of(o).tile, o.block);
    bool const has_residual = o.combine != combination_kind::sparse_only;
    s.slots = has_residual ? ceil_divide(o.segment_tokens, o.block) + at_once : 0;

    std::size_t const accumulator = s.accumulator == element_kind::float64 ? 8 : 4;
    std::size_t const element = s.storage == summary_storage::fp32 ? 4 : (s.storage == summary_storage::bf16 ? 2 : 1);
    std::size_t at = 0;
    auto const place = [&at](std::int64_t count, std::size_t size) {
        std::size_t const here = at;
        at = (at + static_cast<std::size_t>(count) * size + 255) / 256 * 256;
        return here;
    };
    std::int64_t const heads = s.batch * s.key_heads;
    std::int64_t const matrix = has_residual ? heads * s.features * s.padded_value_dim() : 0;
    std::int64_t const vector = has_residual && s.normalised ? heads * s.features : 0;
    std::int64_t const summary = heads * s.blocks * s.summary_vectors();
    s.summaries = place(summary * s.head_dim, element);
    s.scales = place(s.storage == summary_storage::int8 ? summary : 0, 4);
    s.linear = place(matrix, accumulator);
    s.normaliser = place(vector, accumulator);
    s.prefix = place(matrix * s.slots, accumulator);
    s.prefix_normaliser = place(vector * s.slots, accumulator);
    s.shared_list = place(heads * s.top_k, 4);
    s.shared_length = place(heads, 4);
    s.bytes = at;
    return s;
}

/// What persists between calls: block summaries, the linear state with its prefix states, and the current tile's list.
/// The bytes are the caller's (`view` of at least layout.bytes, 256-byte aligned), or come from make_sequence_state().
/// Copying the object shares the bytes. Sequences of a batch have equal lengths.
template <class MemorySpace>
class sequence_state
{
public:
    using memory_space = MemorySpace;
    using buffer_type = Kokkos::View<std::byte*, MemorySpace>;

    sequence_state() = default;
    sequence_state(state_layout const& layout, buffer_type buffer) : layout_(layout), buffer_(std::move(buffer)) {}

    state_layout const& layout() const { return layout_; }
    buffer_type const& buffer() const { return buffer_; }

    std::int64_t tokens = 0;       ///< M: keys appended so far
    std::int64_t state_end = 0;    ///< first block not yet in the linear state
    std::int64_t prefix_first = 0; ///< slot i holds the state of blocks before prefix_first + i
    std::int64_t prefix_count = 0; ///< slots in use
    std::int64_t shared_tile = -1; ///< tile (position / T) that the shared list belongs to, -1: none

    /// Forgets everything; the bytes are set again by the next append.
    void reset() { tokens = state_end = prefix_first = prefix_count = 0, shared_tile = -1; }

    template <class T>
    T* part(std::size_t offset) const
    {
        return reinterpret_cast<T*>(buffer_.data() + offset);
    }

private:
    state_layout layout_;
    buffer_type buffer_;
};

/// Allocates the bytes of a state once, uninitialised, on the instance's memory space.
template <class Exec, class Metric, class FeatureMap>
sequence_state<typename Exec::memory_space> make_sequence_state(Exec const& exec, problem const& capacity,
                                                                options<Metric, FeatureMap> const& o)
{
    state_layout const layout = state_layout_of(capacity, o);
    using state = sequence_state<typename Exec::memory_space>;
    typename state::buffer_type buffer(Kokkos::view_alloc(exec, Kokkos::WithoutInitializing, "spla::sequence_state"),
                                       layout.bytes);
    return state(layout, buffer);
}

} // namespace spla
