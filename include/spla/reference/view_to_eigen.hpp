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
    auto const host = Kokkos::create_mirror_view_and_copy(Kokkos::HostSpace{}, view);
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
