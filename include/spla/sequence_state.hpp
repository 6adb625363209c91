// SPDX-FileCopyrightText: The spla authors
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once
#include "algorithm/buffer_carver.hpp"
#include "algorithm/causal_bounds.hpp"
#include "check.hpp"
#include "problem.hpp"

#include <Kokkos_Core.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string_view>
#include <utility>

namespace spla
{

/// Alignment of a state's buffer and of a workspace, in bytes: what Kokkos gives every view in every memory space.
inline constexpr std::size_t buffer_alignment = 64;

/// What a sequence state holds, and where its parts lie in its buffer. A call whose sizes or options mean another
/// content refuses the state, by the name of the first field that differs. Offsets in bytes, each a multiple of 256;
/// made by state_layout_of().
///
/// | part             | shape                                                    | type                      |
/// |------------------|----------------------------------------------------------|---------------------------|
/// | summaries        | [batch, block, key_head, sub_block, vector, head_dim]    | bf16, fp32 or int8        |
/// | scales           | [batch, block, key_head, sub_block, vector]              | fp32 (int8 summaries only)|
/// | linear           | [batch, key_head, features, value_dim]                   | accumulation type         |
/// | normaliser       | [batch, key_head, features]                              | accumulation type         |
/// | prefix, prefix_normaliser | the same with a slot index after batch          | accumulation type         |
/// | shared list      | [batch, key_head, top_k] and its length, or nothing      | int32 (first_query only)  |
///
/// The vectors of a sub-block are its mean, the covariance's vectors, then the kept keys.
struct state_layout
{
    std::int64_t batch = 0, key_heads = 0, head_dim = 0, value_dim = 0;
    std::int64_t residual_width = 0, features = 0;
    std::int64_t block = 0, sink_blocks = 0, local_blocks = 0;
    sharing_kind share = sharing_kind::per_token;
    std::int64_t tile = 1;
    std::int64_t blocks = 0; ///< capacity in complete blocks
    std::int64_t slots = 0;  ///< prefix states held at once
    std::int64_t sub_blocks = 0, kept_keys = 0, vectors = 0;
    std::int64_t top_k = 0;               ///< entries of the shared list: no more than blocks; 0 without one
    std::string_view metric, feature_map; ///< names of the types
    summary_storage storage = summary_storage::fp32;
    bool residual = false; ///< it has a linear part; not with sparse_only
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

namespace detail
{
/// "spla::taylor<spla::diagonal>", as the compiler spells it.
template <class T>
constexpr std::string_view type_name()
{
#if defined(_MSC_VER) && !defined(__clang__)
    return __FUNCSIG__;
#else
    std::string_view const all = __PRETTY_FUNCTION__;
    std::size_t const before = all.find("T = ");
    if (before == std::string_view::npos) return all;
    std::string_view const from = all.substr(before + 4);
    return from.substr(0, std::min(from.find(';'), from.rfind(']')));
#endif
}

/// Of sizes and options that check() has nothing against.
template <class Metric, class FeatureMap>
state_layout layout_of(problem const& capacity, options<Metric, FeatureMap> const& o)
{
    state_layout s;
    s.batch = capacity.batch;
    s.key_heads = capacity.key_heads;
    s.head_dim = capacity.head_dim;
    s.value_dim = capacity.value_dim;
    s.residual_width = capacity.residual_width();
    s.features = o.feature_map.features(static_cast<int>(capacity.residual_width()));
    s.block = o.block;
    s.sink_blocks = o.sink_blocks;
    s.local_blocks = o.local_blocks;
    s.share = o.share.kind;
    s.tile = window_of(o).tile;
    s.blocks = capacity.keys / o.block;
    s.sub_blocks = o.sub_blocks;
    s.kept_keys = o.kept_keys;
    s.vectors = 1 + Metric::covariance_vectors(static_cast<int>(capacity.head_dim)) + o.kept_keys;
    s.top_k = s.share == sharing_kind::first_query ? std::min<std::int64_t>(o.top_k, s.blocks) : 0;
    s.metric = type_name<Metric>();
    s.feature_map = type_name<FeatureMap>();
    s.storage = resolve(o.storage, capacity.element);
    s.normalised = o.normalised;
    s.reads_keys = Metric::reads_keys;
    s.accumulator = capacity.element == element_kind::float64 ? element_kind::float64 : element_kind::float32;
    s.residual = o.combine != combination_kind::sparse_only;
    // Blocks that can leave the window within one segment; with T > B they leave T / B at a time.
    std::int64_t const at_once = ceil_divide(s.tile, o.block);
    s.slots = s.residual ? std::min<std::int64_t>(ceil_divide(o.segment_tokens, o.block), s.blocks) + at_once : 0;

    std::size_t const accumulator = s.accumulator == element_kind::float64 ? 8 : 4;
    std::size_t const element = s.storage == summary_storage::fp32 ? 4 : (s.storage == summary_storage::bf16 ? 2 : 1);
    buffer_carver place;
    std::int64_t const heads = s.batch * s.key_heads;
    std::int64_t const matrix = s.residual ? heads * s.features * s.padded_value_dim() : 0;
    std::int64_t const vector = s.residual && s.normalised ? heads * s.features : 0;
    std::int64_t const summary = heads * s.blocks * s.summary_vectors();
    s.summaries = place(summary * s.head_dim, element);
    s.scales = place(s.storage == summary_storage::int8 ? summary : 0, 4);
    s.linear = place(matrix, accumulator);
    s.normaliser = place(vector, accumulator);
    s.prefix = place(matrix * s.slots, accumulator);
    s.prefix_normaliser = place(vector * s.slots, accumulator);
    s.shared_list = place(heads * s.top_k, 4);
    s.shared_length = place(s.share == sharing_kind::first_query ? heads : 0, 4);
    s.bytes = place(0, 1);
    return s;
}

/// The capacity with query heads that fit its key heads: a state does not depend on them.
inline problem without_queries(problem capacity)
{
    capacity.queries = 0;
    capacity.query_heads = capacity.key_heads;
    return capacity;
}
} // namespace detail

/// Layout of a state for `capacity.keys` tokens of `capacity.batch` sequences; capacity.queries and query_heads do not
/// matter.
/// @throws argument_error  what check() returns of the capacity and the options
template <class Metric, class FeatureMap>
state_layout state_layout_of(problem const& capacity, options<Metric, FeatureMap> const& o)
{
    if (auto const found = check(detail::without_queries(capacity), o, "state_layout_of")) throw_violation(*found);
    return detail::layout_of(capacity, o);
}

/// How far a sequence state has come.
struct sequence_progress
{
    std::int64_t tokens = 0;       ///< M: keys appended so far
    std::int64_t state_end = 0;    ///< first block not yet in the linear state
    std::int64_t prefix_first = 0; ///< slot i holds the state of blocks before prefix_first + i
    std::int64_t prefix_count = 0; ///< slots in use
    std::int64_t shared_tile = -1; ///< tile (position / T) that the shared list belongs to, -1: none
    std::int64_t summary_end = 0;  ///< blocks before this one have their summaries
    bool residual_keys = false;    ///< the linear state is of the residual branch's own keys
    bool rounds_features = false;  ///< phi of keys is rounded to bf16: in the state, and so in what is subtracted

    /// Forgets everything; the bytes are set again by the next append.
    void reset() { *this = {}; }
};

/// What persists between calls: block summaries, the linear state with its prefix states, and the current tile's list.
/// The bytes are the caller's (a view of at least layout.bytes, aligned to buffer_alignment), or come from
/// make_sequence_state(). Copying the object shares the bytes, and copies the progress. Sequences of a batch have equal
/// lengths.
template <class MemorySpace>
class sequence_state : public sequence_progress
{
public:
    using memory_space = MemorySpace;
    using buffer_type = Kokkos::View<std::byte*, MemorySpace>;

    sequence_state() = default;
    sequence_state(state_layout const& layout, buffer_type buffer) : layout_(layout), buffer_(std::move(buffer)) {}

    state_layout const& layout() const { return layout_; }
    buffer_type const& buffer() const { return buffer_; }

    template <class T>
    T* part(std::size_t offset) const
    {
        return reinterpret_cast<T*>(buffer_.data() + offset);
    }

private:
    state_layout layout_;
    buffer_type buffer_;
};

/// Allocates the bytes of a state once, uninitialised, on the instance's memory space: room for capacity.keys tokens.
/// @throws argument_error  what check() returns of the capacity and the options
template <class Exec, class Metric, class FeatureMap>
sequence_state<typename Exec::memory_space> make_sequence_state(Exec const& exec, problem const& capacity,
                                                                options<Metric, FeatureMap> const& o)
{
    if (auto const found = check(detail::without_queries(capacity), o, "make_sequence_state")) throw_violation(*found);
    state_layout const layout = detail::layout_of(capacity, o);
    using state = sequence_state<typename Exec::memory_space>;
    typename state::buffer_type buffer(Kokkos::view_alloc(exec, Kokkos::WithoutInitializing, "spla::sequence_state"),
                                       layout.bytes);
    return state(layout, buffer);
}

} // namespace spla
