// SPDX-FileCopyrightText: The spla authors
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#include "rules.hpp"

namespace spla_test
{

checked_call append_call()
{
    return {"append",
            [](arguments const& x) {
                return arguments::call::check_append(x.exec, x.new_key, x.new_value, x.key, x.value, x.state, x.o,
                                                     x.extras);
            },
            [](arguments& x) {
                arguments::call::append(x.exec, x.new_key, x.new_value, x.key, x.value, x.state, x.o, x.extras);
            }};
}

checked_call prefill_call()
{
    return {"prefill",
            [](arguments const& x) {
                return arguments::call::check_prefill(x.exec, x.query, x.key, x.value, x.output, x.state, x.o,
                                                      x.scratch, x.extras);
            },
            [](arguments& x) {
                arguments::call::prefill(x.exec, x.query, x.key, x.value, x.output, x.state, x.o, x.scratch, x.extras);
            }};
}

checked_call decode_call()
{
    return {"decode",
            [](arguments const& x) {
                return arguments::call::check_decode(x.exec, x.query, x.key, x.value, x.output, x.state, x.o, x.scratch,
                                                     x.extras);
            },
            [](arguments& x) {
                arguments::call::decode(x.exec, x.query, x.key, x.value, x.output, x.state, x.o, x.scratch, x.extras);
            }};
}

checked_call select_call()
{
    return {"select",
            [](arguments const& x) { return spla::check_select(x.exec, x.query, x.key, x.state, x.lists, x.o); },
            [](arguments& x) { arguments::call::select(x.exec, x.query, x.key, x.state, x.lists, x.o); }};
}

checked_call block_statistics_call()
{
    return {
        "block_statistics",
        [](arguments const& x) {
            return spla::check_block_statistics(x.exec, x.key, x.state, x.first_block, x.blocks, x.o);
        },
        [](arguments& x) { arguments::call::block_statistics(x.exec, x.key, x.state, x.first_block, x.blocks, x.o); }};
}

checked_call selected_attention_call()
{
    return {"selected_attention",
            [](arguments const& x) {
                return spla::check_selected_attention(x.exec, x.query, x.key, x.value, x.output, x.o, x.extras);
            },
            [](arguments& x) {
                arguments::call::selected_attention(x.exec, x.query, x.key, x.value, x.output, x.o, x.extras);
            }};
}

checked_call residual_attention_call()
{
    return {"residual_attention",
            [](arguments const& x) {
                return spla::check_residual_attention(x.exec, x.query, x.key, x.value, x.output, x.state, x.o,
                                                      x.extras);
            },
            [](arguments& x) {
                arguments::call::residual_attention(x.exec, x.query, x.key, x.value, x.output, x.state, x.o, x.extras);
            }};
}

checked_call combine_call()
{
    return {
        "combine",
        [](arguments const& x) { return spla::check_combine(x.exec, x.sparse, x.residual, x.output, x.o, x.extras); },
        [](arguments& x) { arguments::call::combine(x.exec, x.sparse, x.residual, x.output, x.o, x.extras); }};
}

} // namespace spla_test
