// SPDX-FileCopyrightText: The spla authors
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once
#include "../../algorithm/causal_bounds.hpp"
#include "../../block_list.hpp"

/// The blocks that a tile of neighbouring tokens visits, in ascending order, and which tokens visit each for what: the
/// per-token lists of the tile merged on the fly, so that a block's keys are loaded once for all tokens that selected
/// it.
namespace spla::portable
{

struct walk_token
{
    std::int32_t const* list; ///< the token's list; null: nothing selected
    int length, cursor;
    int selected;  ///< valid entries
    bool direct;   ///< residual sums the unselected blocks instead of subtracting the selected
    bool complete; ///< everything competing is selected: the residual is zero by construction
};

/// Moves the cursor to the next valid entry: inside the competing range and above `last`. Anything else in a caller's
/// list (out of range, duplicate, descending, padding) is passed over and never dereferenced. Returns the block or -1.
KOKKOS_INLINE_FUNCTION std::int64_t next_selected(walk_token& token, block_range const& competing, std::int64_t last)
{
    for (; token.cursor < token.length; ++token.cursor)
    {
        std::int64_t const b = token.list[token.cursor];
        if (competing.contains(b) && b > last) return b;
    }
    return -1;
}

KOKKOS_INLINE_FUNCTION void open_walk(walk_token& token, block_range const& competing, residual_mode mode,
                                      bool may_read_unselected)
{
    token.cursor = 0;
    token.selected = 0;
    std::int64_t last = -1;
    for (std::int64_t b; (b = next_selected(token, competing, last)) >= 0; last = b) ++token.selected;
    token.cursor = 0;
    std::int64_t const unselected = competing.count() - token.selected;
    token.complete = unselected == 0;
    token.direct =
        !token.complete && (mode == residual_mode::direct ||
                            (mode == residual_mode::automatic && may_read_unselected && unselected < token.selected));
}

} // namespace spla::portable
