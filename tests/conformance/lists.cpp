// SPDX-FileCopyrightText: The spla authors
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#include "lists.hpp"

#include <algorithm>
#include <cstring>

namespace spla_test
{

SPLA_TEST_LISTS(, host::memory_space)
#if defined(SPLA_TEST_HAS_DEVICE)
SPLA_TEST_LISTS(, device::memory_space)
#endif

void copy_tiles(host_lists const& from, host_lists const& to, int tile)
{
    for (std::size_t b = 0; b < from.lengths.extent(0); ++b)
        for (std::size_t t = 0; t < from.lengths.extent(1); ++t)
            for (std::size_t h = 0; h < from.lengths.extent(2); ++h)
            {
                to.lengths(b, tile + t, h) = from.lengths(b, t, h);
                for (std::size_t i = 0; i < from.indices.extent(3); ++i)
                    to.indices(b, tile + t, h, i) = from.indices(b, t, h, i);
            }
}

bool same_bits(host_lists const& a, host_lists const& b)
{
    auto const same = [](auto const& x, auto const& y) {
        return x.layout() == y.layout() && std::memcmp(x.data(), y.data(), x.size() * sizeof(std::int32_t)) == 0;
    };
    return same(a.indices, b.indices) && same(a.lengths, b.lengths);
}

spla::reference::lists lists_of(host_lists const& l, int b)
{
    spla::reference::lists made(l.indices.extent(1));
    for (std::size_t t = 0; t < l.indices.extent(1); ++t)
        for (std::size_t h = 0; h < l.indices.extent(2); ++h)
        {
            int const length = std::min<int>(l.lengths(b, t, h), static_cast<int>(l.indices.extent(3)));
            made[t].emplace_back();
            for (int i = 0; i < length; ++i) made[t].back().push_back(l.indices(b, t, h, i));
        }
    return made;
}

} // namespace spla_test
