// SPDX-FileCopyrightText: The spla authors
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#include "catch.hpp"
#include "conformance.hpp"
#include "spaces.hpp"

using namespace spla_test;
using spla::combination_kind;
using spla::sharing;

namespace
{
/// Small blocks, so that a few hundred keys have many competing blocks.
template <class Metric = spla::taylor<>, class FeatureMap = spla::softmax_pair>
spla::options<Metric, FeatureMap> small_options()
{
    spla::options<Metric, FeatureMap> o;
    o.block = 16, o.sink_blocks = 1, o.local_blocks = 2, o.top_k = 4, o.segment_tokens = 128;
    return o;
}

template <class Exec, class Element = float, class Options>
void conforms(shape const& s, Options const& o, unsigned seed = 1, bool padded = false)
{
    data<Exec, Element> const d(s, seed, padded);
    auto const r = run_prefill<Exec>(d, o);
    auto const v = hold(d, r, o);
    INFO("seed " << seed << ": L " << s.queries << " M " << s.keys << " heads " << s.query_heads << "/" << s.key_heads << " D " << s.head_dim
                 << " Dv " << s.value_dim << " block " << o.block << " T " << o.share.tile << ": " << v.text());
    CHECK(v.passed());
    CHECK(10 * v.near_ties <= v.lists + 10);
}
} // namespace

TEMPLATE_LIST_TEST_CASE("prefill agrees with the definition over ragged sizes and odd head ratios", "[conformance]", spaces)
{
    auto const o = small_options();
    for (auto const& s : {shape{1, 300, 300, 2, 1, 16, 16}, shape{2, 97, 97, 3, 3, 8, 12}, shape{1, 33, 250, 7, 1, 20, 5},
                          shape{1, 1, 161, 5, 1, 16, 16}, shape{1, 15, 15, 4, 2, 16, 16}, shape{1, 16, 16, 4, 2, 16, 16},
                          shape{1, 17, 17, 4, 2, 16, 16}, shape{1, 1, 1, 2, 2, 4, 4}, shape{1, 40, 30, 2, 1, 8, 8},
                          shape{1, 20, 0, 2, 1, 8, 8}, shape{1, 0, 50, 2, 1, 8, 8}, shape{0, 5, 5, 2, 1, 8, 8}, shape{1, 259, 259, 16, 1, 33, 17}})
    {
        conforms<TestType>(s, o, 7, false);
        conforms<TestType>(s, o, 8, true);
    }
}

TEMPLATE_LIST_TEST_CASE("every element type", "[conformance]", spaces)
{
    shape const s{1, 220, 220, 4, 2, 16, 24};
    conforms<TestType, float>(s, small_options());
    conforms<TestType, double>(s, small_options());
    conforms<TestType, spla::bfloat16>(s, small_options());
    conforms<TestType, spla::float16>(s, small_options());
}

TEMPLATE_LIST_TEST_CASE("every metric, storage and sub-block", "[conformance]", spaces)
{
    shape const s{1, 230, 230, 4, 2, 16, 16};
    auto const both = [&](auto o) {
        o.kept_keys = 0;
        conforms<TestType>(s, o);
        o.kept_keys = 2;
        conforms<TestType>(s, o);
    };
    both(small_options<spla::mean_only>());
    both(small_options<spla::taylor<spla::diagonal>>());
    both(small_options<spla::taylor<spla::low_rank<2>>>());
    both(small_options<spla::taylor<spla::full>>());
    both(small_options<spla::cumulant<spla::diagonal>>());
    both(small_options<spla::cumulant<spla::full>>());
    conforms<TestType>(s, small_options<spla::exact_mass>());
    for (auto const storage : {spla::summary_storage::bf16, spla::summary_storage::int8, spla::summary_storage::fp32})
        for (int const sub : {1, 2, 4})
        {
            auto o = small_options();
            o.storage = storage, o.sub_blocks = sub;
            conforms<TestType>(s, o);
        }
}

TEMPLATE_LIST_TEST_CASE("every sharing", "[conformance]", spaces)
{
    shape const s{1, 300, 331, 4, 2, 16, 16};
    for (int const tile : {2, 8, 16, 32, 64})
    {
        auto o = small_options();
        o.share = sharing::tile_sum(tile);
        conforms<TestType>(s, o);
        o.share = sharing::tile_sum(tile, 3);
        conforms<TestType>(s, o);
        o.share = sharing::first_query(tile);
        conforms<TestType>({1, 331, 331, 4, 2, 16, 16}, o);
    }
}

TEMPLATE_LIST_TEST_CASE("every feature map, combination and residual mode", "[conformance]", spaces)
{
    shape const s{1, 240, 240, 4, 2, 16, 16};
    conforms<TestType>(s, small_options<spla::taylor<>, spla::softmax>());
    conforms<TestType>(s, small_options<spla::taylor<>, spla::elu_plus_one>());
    conforms<TestType>(s, small_options<spla::taylor<>, spla::relu_pair>());
    conforms<TestType>(s, small_options<spla::taylor<>, spla::identity>());
    for (auto const kind : {combination_kind::rms_sum, combination_kind::sum, combination_kind::separate, combination_kind::sparse_only})
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

TEMPLATE_LIST_TEST_CASE("top_k, top_p, windows, scale and block sizes", "[conformance]", spaces)
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
    for (int const block : {1, 5, 24, 64})
    {
        auto o = small_options();
        o.block = block, o.kept_keys = block > 1 ? 1 : 0;
        conforms<TestType>(s, o);
    }
}

TEMPLATE_LIST_TEST_CASE("large tiles use the state form and stay within bounds", "[conformance]", spaces)
{
    auto o = small_options();
    o.block = 64, o.top_k = 2, o.share = sharing::first_query(64), o.segment_tokens = 256;
    conforms<TestType>({1, 700, 700, 8, 1, 8, 8}, o);
    o.normalised = true;
    conforms<TestType>({1, 700, 700, 8, 1, 8, 8}, o);
}

TEMPLATE_LIST_TEST_CASE("random problems", "[conformance][property]", spaces)
{
    for (unsigned seed = 100; seed < 160; ++seed)
    {
        std::mt19937 engine(seed);
        auto const pick = [&](int low, int high) { return static_cast<int>(low + engine() % (high - low + 1)); };
        auto o = small_options();
        o.block = 4 * pick(1, 8), o.sink_blocks = pick(0, 2), o.local_blocks = pick(0, 3), o.top_k = pick(0, 8);
        o.kept_keys = pick(0, 2), o.sub_blocks = pick(0, 1) ? 2 : 1;
        if (o.kept_keys >= o.block / o.sub_blocks) o.kept_keys = 0;
        o.normalised = pick(0, 1), o.combine = static_cast<combination_kind>(pick(0, 3));
        o.segment_tokens = 64 + 16 * pick(0, 8);
        int const hk = pick(1, 3), keys = pick(1, 300);
        conforms<TestType>({pick(1, 2), pick(1, keys), keys, hk * pick(1, 5), hk, pick(1, 40), pick(1, 40)}, o, seed, pick(0, 1));
    }
}
