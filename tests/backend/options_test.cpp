// SPDX-FileCopyrightText: The spla authors
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#include "conformance/conforms.hpp"

using namespace spla_test;
using spla::combination_kind;

TEMPLATE_LIST_TEST_CASE("every combination and residual mode", "[conformance]", spaces)
{
    shape const s{1, 240, 240, 4, 2, 16, 16};
    for (auto const kind :
         {combination_kind::rms_sum, combination_kind::sum, combination_kind::separate, combination_kind::sparse_only})
        for (bool const normalised : {false, true})
        {
            auto o = small_options();
            o.combine = kind, o.normalised = normalised;
            conforms<TestType>(s, o);
            o.may_read_unselected = true;
            conforms<TestType>(s, o);
            o.residual = spla::residual_mode::direct;
            conforms<TestType>(s, o);
        }
}

TEMPLATE_LIST_TEST_CASE("top_k, top_p, windows, scale, epsilon and block sizes", "[conformance]", spaces)
{
    shape const s{1, 200, 260, 3, 1, 16, 16};
    for (int const top_k : {0, 1, 100})
    {
        auto o = small_options();
        o.top_k = top_k;
        conforms<TestType>(s, o);
    }
    for (double const top_p : {0.3, 0.9})
    {
        auto o = small_options();
        o.top_k = 8, o.top_p = top_p;
        conforms<TestType>(s, o);
    }
    for (int const sinks : {0, 3})
        for (int const local : {0, 5})
        {
            auto o = small_options();
            o.sink_blocks = sinks, o.local_blocks = local, o.scale = 0.4;
            conforms<TestType>(s, o);
        }
    for (double const epsilon : {1e-12, 0.1})
    {
        auto o = small_options();
        o.epsilon = epsilon;
        conforms<TestType>(s, o);
    }
    for (int const block : {1, 5, 24, 64})
    {
        auto o = small_options();
        o.block = block, o.kept_keys = block > 1 ? 1 : 0;
        conforms<TestType>(s, o);
    }
}

TEMPLATE_LIST_TEST_CASE("every storage, sub-block and number of kept keys", "[conformance]", spaces)
{
    shape const s{1, 230, 230, 4, 2, 16, 16};
    for (auto const storage : {spla::summary_storage::bf16, spla::summary_storage::int8, spla::summary_storage::fp32})
        for (int const sub : {1, 2, 4})
            for (int const kept : {0, 1, 3})
            {
                auto o = small_options();
                o.storage = storage, o.sub_blocks = sub, o.kept_keys = kept;
                conforms<TestType>(s, o);
            }
}
