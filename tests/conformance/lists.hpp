// SPDX-FileCopyrightText: The spla authors
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once
#include "../spaces.hpp"

#include <spla/block_list.hpp>
#include <spla/reference/sequence.hpp>

/// Lists of selected blocks, on a space and on the host.
namespace spla_test
{

template <class Space>
using int_lists = spla::block_list<Kokkos::View<std::int32_t****, Kokkos::LayoutRight, Space>,
                                   Kokkos::View<std::int32_t***, Kokkos::LayoutRight, Space>>;
using host_lists = int_lists<Kokkos::HostSpace>;

/// Room for lists of `capacity` entries, at least one; every entry and length holds -7, which no call writes.
template <class Space>
int_lists<Space> unwritten_lists(int batch, std::int64_t tiles, int key_heads, int capacity)
{
    using lists = int_lists<Space>;
    std::size_t const n = batch, t = tiles, h = key_heads, c = capacity > 0 ? capacity : 1;
    lists const made{decltype(lists::indices)("lists", n, t, h, c), decltype(lists::lengths)("lengths", n, t, h)};
    Kokkos::deep_copy(made.indices, -7);
    Kokkos::deep_copy(made.lengths, -7);
    return made;
}

template <class Space>
host_lists on_host(int_lists<Space> const& l)
{
    host_lists const copy{{"lists", l.indices.extent(0), l.indices.extent(1), l.indices.extent(2), l.indices.extent(3)},
                          {"lengths", l.lengths.extent(0), l.lengths.extent(1), l.lengths.extent(2)}};
    Kokkos::deep_copy(copy.indices, l.indices);
    Kokkos::deep_copy(copy.lengths, l.lengths);
    return copy;
}
template <class Space>
void from_host(host_lists const& from, int_lists<Space> const& to)
{
    Kokkos::deep_copy(to.indices, from.indices);
    Kokkos::deep_copy(to.lengths, from.lengths);
}

/// Copies the first lists of one set to tiles from `tile` on of another, as many as there are.
void copy_tiles(host_lists const& from, host_lists const& to, int tile);

/// The same entries, lengths and padding.
bool same_bits(host_lists const& a, host_lists const& b);

/// The lists of sequence b; entries beyond what a list can hold are not read.
spla::reference::lists lists_of(host_lists const& l, int b);

#define SPLA_TEST_LISTS(how, Space)                                                                                    \
    how template int_lists<Space> unwritten_lists<Space>(int, std::int64_t, int, int);                                 \
    how template host_lists on_host(int_lists<Space> const&);                                                          \
    how template void from_host(host_lists const&, int_lists<Space> const&);
SPLA_TEST_LISTS(extern, host::memory_space)
#if defined(SPLA_TEST_HAS_DEVICE)
SPLA_TEST_LISTS(extern, device::memory_space)
#endif

} // namespace spla_test
