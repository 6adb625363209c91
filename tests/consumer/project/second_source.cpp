// SPDX-FileCopyrightText: The spla authors
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
// The same headers in a second source of the same program: nothing may be defined twice.
#include <spla/spla.hpp>
#if defined(CONSUMER_HAS_REFERENCE)
#include <spla/reference/reference.hpp>
#endif

int second_source()
{
#if defined(CONSUMER_HAS_REFERENCE)
    // One key, seen by one query: the exact branch is its value.
    spla::reference::sequence x;
    x.query = x.residual_query = x.key = x.residual_key = {spla::reference::matrix::Ones(1, 2)};
    x.value = {spla::reference::matrix::Constant(1, 2, 7.0)};
    spla::reference::lists const nothing_selected(1, std::vector<std::vector<int>>(1));
    auto const truth = spla::reference::attend(x, nothing_selected, spla::options<>{}, 0x1p-24, 0x1p-24);
    if (truth.sparse[0](0, 0) != 7.0) return 2;
#endif
    return 0;
}
