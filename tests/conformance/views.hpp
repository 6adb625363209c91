// SPDX-FileCopyrightText: The spla authors
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once
#include "../spaces.hpp"

#include <spla/reference/sequence.hpp>
#include <spla/spla.hpp>

#include <algorithm>
#include <cstring>
#include <utility>

/// Views of one type, their parts, and their way to the host and back.
namespace spla_test
{

template <class T, class Space>
using any_view = Kokkos::View<T****, Kokkos::LayoutStride, Space>;
template <class T, class Space>
using packed_view = Kokkos::View<T****, Kokkos::LayoutRight, Space>;
template <class T>
using host_view = packed_view<T, Kokkos::HostSpace>;

using range = std::pair<int, int>;

/// Tokens [begin, end) of a view: no copy.
template <class T, class Space>
any_view<T, Space> tokens(any_view<T, Space> const& v, int begin, int end)
{
    return Kokkos::subview(v, Kokkos::ALL, range(begin, end), Kokkos::ALL, Kokkos::ALL);
}
/// Sequence b of a batch, a batch of one: no copy.
template <class T, class Space>
any_view<T, Space> sequence(any_view<T, Space> const& v, int b)
{
    return Kokkos::subview(v, range(b, b + 1), Kokkos::ALL, Kokkos::ALL, Kokkos::ALL);
}

/// `batch` x `tokens` x `heads` x `dim` zeros; padded: a window of a larger allocation, so that every stride is odd.
template <class T, class Space>
any_view<T, Space> empty_view(int batch, int tokens, int heads, int dim, bool padded = false)
{
    int const extra = padded ? 3 : 0;
    packed_view<T, Space> const all("data", batch, tokens + extra, heads + extra, dim + extra);
    return Kokkos::subview(all, range(0, batch), range(0, tokens), range(0, heads), range(0, dim));
}

/// A copy on the host, and the way back. The suite copies through these two alone, for Kokkos's strided
/// copies take long to compile.
template <class T, class Space>
host_view<T> on_host(any_view<T, Space> const& v)
{
    packed_view<T, Space> const packed("packed", v.extent(0), v.extent(1), v.extent(2), v.extent(3));
    Kokkos::deep_copy(packed, v);
    host_view<T> const copy("copy", v.extent(0), v.extent(1), v.extent(2), v.extent(3));
    Kokkos::deep_copy(copy, packed);
    return copy;
}
template <class T, class Space>
void from_host(host_view<T> const& from, any_view<T, Space> const& to)
{
    packed_view<T, Space> const packed("packed", to.extent(0), to.extent(1), to.extent(2), to.extent(3));
    Kokkos::deep_copy(packed, from);
    Kokkos::deep_copy(to, packed);
}

/// Heads of sequence b as the reference takes them.
template <class T, class Space>
std::vector<spla::reference::matrix> matrices_of(any_view<T, Space> const& v, int b)
{
    auto const copy = on_host(v);
    std::vector<spla::reference::matrix> heads;
    for (std::size_t h = 0; h < v.extent(2); ++h)
    {
        heads.emplace_back(v.extent(1), v.extent(3));
        for (std::size_t t = 0; t < v.extent(1); ++t)
            for (std::size_t d = 0; d < v.extent(3); ++d)
                heads.back()(t, d) = spla::detail::widen<double>(copy(b, t, h, d));
    }
    return heads;
}

// Instantiated in views.cpp.
#define SPLA_TEST_COPIES(how, T, Exec)                                                                                 \
    how template host_view<T> on_host(any_view<T, Exec::memory_space> const&);                                         \
    how template void from_host(host_view<T> const&, any_view<T, Exec::memory_space> const&);                          \
    how template std::vector<spla::reference::matrix> matrices_of(any_view<T, Exec::memory_space> const&, int);
#define SPLA_TEST_ALL_COPIES(how, Exec)                                                                                \
    SPLA_TEST_COPIES(how, float, Exec)                                                                                 \
    SPLA_TEST_COPIES(how, double, Exec)                                                                                \
    SPLA_TEST_COPIES(how, spla::bfloat16, Exec)                                                                        \
    SPLA_TEST_COPIES(how, spla::float16, Exec)
SPLA_TEST_ALL_COPIES(extern, host)
#if defined(SPLA_TEST_HAS_DEVICE)
SPLA_TEST_ALL_COPIES(extern, device)
#endif

template <class Element>
Element narrow(double x)
{
    if constexpr (std::is_same_v<Element, double>)
        return x;
    else
        return static_cast<Element>(static_cast<float>(x));
}

/// Two views hold the same bits, NaN included. Of different shapes: never.
template <class T>
bool same_bits(host_view<T> const& a, host_view<T> const& b)
{
    for (int i = 0; i < 4; ++i)
        if (a.extent(i) != b.extent(i)) return false;
    return std::memcmp(a.data(), b.data(), a.size() * sizeof(T)) == 0;
}
template <class T, class Space>
bool same_bits(any_view<T, Space> const& a, any_view<T, Space> const& b)
{
    return same_bits(on_host(a), on_host(b));
}

} // namespace spla_test
