// SPDX-FileCopyrightText: The spla authors
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once
#include "algorithm/sequence_table.hpp"
#include "problem.hpp"
#include "view_concepts.hpp"

#include <cstdint>
#include <type_traits>

/// What an engine hands over at each step: sequences of any length and at any stage, packed one after the other.
namespace spla
{

/// Sizes that no step exceeds. batch: sequences of a step; queries: new tokens of one sequence; keys: tokens of one
/// sequence, the new ones included; tokens: new tokens of all sequences together.
struct batch_limits : problem
{
    std::int64_t tokens = 0; ///< 0: batch * queries
    /// Tokens, earlier ones included, of all sequences together that a step prefills: those that have more new tokens
    /// than are decoded. 0: keys. Tuned kernels want memory for them; sequences beyond it get the portable kernel.
    std::int64_t prefilled = 0;

    constexpr std::int64_t most_tokens() const { return tokens > 0 ? tokens : batch * queries; }
    constexpr std::int64_t most_prefilled() const { return prefilled > 0 ? prefilled : keys; }
};

/// One step's sequences, read on the device when the work runs: a captured graph follows what they hold then.
///
/// A sequence without new tokens (offsets that do not grow) is padding: it costs nothing, and nothing of it is read or
/// written. So is one whose numbers break a rule below, and where an offset falls, all that follow; checked mode
/// (options.checked) says which instead.
template <class MemorySpace>
struct sequence_batch
{
    using view = Kokkos::View<std::int32_t const*, MemorySpace>;
    view offsets; ///< [sequences + 1] first new token of each among those of all: 0 or more, never falling
    view lengths; ///< [sequences] tokens of each, its new ones included
    view slots;   ///< [sequences] its slot in the pool (and in a slot_cache); no slot twice
};

/// A cache with a row for each slot: key [slot, token, Hk, D], value [slot, token, Hk, Dv].
template <tensor_view Key, tensor_view Value>
struct slot_cache
{
    Key key;
    Value value;
};

/// A cache in pages: key [page, token in page, Hk, D], value [page, token in page, Hk, Dv], page_table [sequence, page
/// of the sequence], int32. A page holds whole blocks; pages lie in any order, and sequences may share those that none
/// of them writes any more. Entries past a sequence's length are not read.
template <tensor_view Key, tensor_view Value, class Table>
struct paged_cache
{
    static_assert(Table::rank() == 2 && std::is_same_v<typename Table::non_const_value_type, std::int32_t>,
                  "spla::paged_cache: a page table is a view of rank 2, [sequence, page], of int32");
    Key key;
    Value value;
    Table page_table;
};
template <class Key, class Value, class Table>
paged_cache(Key, Value, Table) -> paged_cache<Key, Value, Table>;

/// All keys and values of every sequence, without a cache: key [token, Hk, D], value [token, Hk, Dv], sequence b from
/// token key_offsets[b] on. Summaries are the pool's, by slot.
template <class Key, class Value, class Offsets>
struct packed_keys
{
    static_assert(Offsets::rank() == 1 && std::is_same_v<typename Offsets::non_const_value_type, std::int32_t>,
                  "spla::packed_keys: offsets are a view of rank 1, [sequences + 1], of int32");
    Key key;
    Value value;
    Offsets key_offsets;
};
template <class Key, class Value, class Offsets>
packed_keys(Key, Value, Offsets) -> packed_keys<Key, Value, Offsets>;

/// Keys [token, Hk, D] and values [token, Hk, Dv] of a step's new tokens, packed as its queries.
template <class Key, class Value>
struct new_tokens
{
    static_assert(Key::rank() == 3 && Value::rank() == 3, "spla: new keys and values are packed, [token, head, dim]");
    Key key;
    Value value;
};
template <class Key, class Value>
new_tokens(Key, Value) -> new_tokens<Key, Value>;

/// A packed view [token, head, dim] as the fixed batch [1, token, head, dim] that attention_extras takes; the same for
/// [token, head] and [token, head, entry].
template <class V>
auto packed(V const& view)
{
    using value_type = typename V::value_type;
    using traits = Kokkos::MemoryTraits<Kokkos::Unmanaged>;
    constexpr int rank = static_cast<int>(V::rank());
    static_assert(rank >= 1 && rank <= 3, "spla::packed: a view of rank 1 to 3");
    Kokkos::LayoutStride layout;
    layout.dimension[0] = 1;
    layout.stride[0] = view.span() > 0 ? view.span() : 1;
    for (int i = 0; i < rank; ++i)
    {
        layout.dimension[i + 1] = view.extent(i);
        layout.stride[i + 1] = view.stride(i);
    }
    if constexpr (rank == 1)
        return Kokkos::View<value_type**, Kokkos::LayoutStride, typename V::device_type, traits>(view.data(), layout);
    else if constexpr (rank == 2)
        return Kokkos::View<value_type***, Kokkos::LayoutStride, typename V::device_type, traits>(view.data(), layout);
    else
        return Kokkos::View<value_type****, Kokkos::LayoutStride, typename V::device_type, traits>(view.data(), layout);
}

} // namespace spla
