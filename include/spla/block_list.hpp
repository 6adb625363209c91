// SPDX-FileCopyrightText: The spla authors
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once
#include "view_concepts.hpp"

#include <cstdint>
#include <type_traits>

namespace spla
{

/// Lists of selected blocks, the interchange form: per (tile, key head) an ascending int32 list of block indices padded
/// with -1, and its length. Rank-4 indices [batch, tile, key_head, entry] (last dimension contiguous, at least top_k
/// entries where spla writes it) and rank-3 lengths [batch, tile, key_head] in any strides. Tiles are those of
/// tile_count() or more, the first that of the first query. Lists that spla writes are views of int32, not of const
/// int32.
template <class Indices, class Lengths>
struct block_list
{
    Indices indices;
    Lengths lengths;
};

namespace detail
{
/// What kernels see of block lists.
struct list_tensor
{
    std::int32_t* indices = nullptr;
    std::int32_t* lengths = nullptr;
    std::int64_t stride[3] = {0, 0, 0};
    std::int64_t length_stride[3] = {0, 0, 0};
    std::int64_t capacity = 0;
    token_map map; ///< in tiles

    KOKKOS_FUNCTION explicit operator bool() const { return indices != nullptr; }
    KOKKOS_FUNCTION std::int32_t* list(std::int64_t sequence, std::int64_t tile, std::int64_t head) const
    {
        auto const at = map(sequence, tile);
        return indices + at.batch * stride[0] + at.token * stride[1] + head * stride[2];
    }
    KOKKOS_FUNCTION std::int32_t& length(std::int64_t sequence, std::int64_t tile, std::int64_t head) const
    {
        auto const at = map(sequence, tile);
        return lengths[at.batch * length_stride[0] + at.token * length_stride[1] + head * length_stride[2]];
    }
    list_tensor from_tile(std::int64_t first) const
    {
        list_tensor part = *this;
        if (part.indices)
        {
            part.indices += first * stride[1];
            part.lengths += first * length_stride[1];
        }
        return part;
    }
};

/// Copies one list, by one team.
template <class Team>
KOKKOS_FUNCTION void copy(Team const& team, list_tensor const& from, std::int64_t from_sequence, std::int64_t from_tile,
                          list_tensor const& to, std::int64_t to_sequence, std::int64_t to_tile, std::int64_t head)
{
    std::int64_t const held = from.length(from_sequence, from_tile, head);
    std::int64_t const length = held < to.capacity ? held : to.capacity;
    std::int32_t const* const source = from.list(from_sequence, from_tile, head);
    std::int32_t* const target = to.list(to_sequence, to_tile, head);
    Kokkos::single(Kokkos::PerTeam(team),
                   [&] { to.length(to_sequence, to_tile, head) = static_cast<std::int32_t>(length); });
    Kokkos::parallel_for(Kokkos::TeamVectorRange(team, to.capacity),
                         [&](std::int64_t j) { target[j] = j < length ? source[j] : -1; });
}

template <class Indices, class Lengths>
list_tensor list_of(block_list<Indices, Lengths> const& lists)
{
    static_assert(Indices::rank() == 4 && Lengths::rank() == 3,
                  "spla::block_list: indices of rank 4, lengths of rank 3");
    static_assert(std::is_same_v<typename Indices::non_const_value_type, std::int32_t> &&
                      std::is_same_v<typename Lengths::non_const_value_type, std::int32_t>,
                  "spla::block_list: entries and lengths are int32");
    list_tensor t;
    t.indices = const_cast<std::int32_t*>(lists.indices.data());
    t.lengths = const_cast<std::int32_t*>(lists.lengths.data());
    if (!t.indices) t.indices = t.lengths; // lists without entries have no memory, but are given all the same
    for (int i = 0; i < 3; ++i)
    {
        t.stride[i] = static_cast<std::int64_t>(lists.indices.stride(i));
        t.length_stride[i] = static_cast<std::int64_t>(lists.lengths.stride(i));
    }
    t.capacity = static_cast<std::int64_t>(lists.indices.extent(3));
    return t;
}

template <class Indices, class Lengths>
inline constexpr bool writable_list =
    !std::is_const_v<typename Indices::value_type> && !std::is_const_v<typename Lengths::value_type>;
} // namespace detail

} // namespace spla
