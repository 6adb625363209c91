// SPDX-FileCopyrightText: The spla authors
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once
#include "../view_concepts.hpp"
#include "sequence.hpp"

namespace spla::reference
{

/// Heads of one sequence of a view [batch, token, head, dim], copied to host matrices [token, dim].
template <tensor_view V>
std::vector<matrix> heads_of(V const& view, std::int64_t batch)
{
    using Element = element_t<typename V::value_type>;
    // Packed where it lies first: strided views do not cross memory spaces.
    Kokkos::View<typename V::non_const_value_type****, Kokkos::LayoutRight, typename V::memory_space> const packed(
        Kokkos::view_alloc(Kokkos::WithoutInitializing, "spla::reference::packed"), view.extent(0), view.extent(1),
        view.extent(2), view.extent(3));
    Kokkos::deep_copy(packed, view);
    auto const host = Kokkos::create_mirror_view_and_copy(Kokkos::HostSpace{}, packed);
    std::vector<matrix> heads;
    for (std::size_t h = 0; h < host.extent(2); ++h)
    {
        matrix m(host.extent(1), host.extent(3));
        for (std::size_t t = 0; t < host.extent(1); ++t)
            for (std::size_t d = 0; d < host.extent(3); ++d)
            {
                auto const x = host(batch, t, h, d);
                m(t, d) = detail::widen<double>(Kokkos::bit_cast<Element>(x));
            }
        heads.push_back(m);
    }
    return heads;
}

} // namespace spla::reference
