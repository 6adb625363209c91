// SPDX-FileCopyrightText: The spla authors
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#include "catch.hpp"
#include "conformance/core.hpp"

using namespace spla_test;

/// A user's own: scaled squares, products of neighbours and a one; a width that is no multiple of anything.
struct squares_and_one
{
    float gain = 1;
    KOKKOS_FUNCTION constexpr int features(int width) const { return 2 * width + 1; }

    template <class T>
    KOKKOS_FUNCTION void operator()(int width, spla::vector_of<T> x, spla::vector_of<T> phi) const
    {
        for (int d = 0; d < width; ++d)
        {
            phi.set(d, T(gain) * x[d] * x[d]);
            phi.set(width + d, x[d] * x[d + 1 < width ? d + 1 : 0]);
        }
        phi.set(2 * width, T(1));
    }
};

namespace
{
template <class Exec, class FeatureMap>
void conforms(FeatureMap const& phi)
{
    auto o = small_options<spla::taylor<>, FeatureMap>();
    o.feature_map = phi;
    data<Exec> const d({1, 240, 240, 4, 2, 16, 16}, 1);
    for (bool const normalised : {false, true})
        for (bool const direct : {false, true})
        {
            o.normalised = normalised, o.may_read_unselected = direct;
            o.residual = direct ? spla::residual_mode::direct : spla::residual_mode::subtract;
            verdict v; // a feature map has no part in selection
            hold_arithmetic(v, d, run_prefill(d, o), o);
            INFO(v.text());
            CHECK(v.passed());
            CHECK(v.residual.worst > 0); // there was something to sum
        }
}
} // namespace

TEMPLATE_LIST_TEST_CASE("feature maps: softmax, elu_plus_one, relu_pair, identity", "[conformance][feature_map]",
                        host_and_device)
{
    conforms<TestType>(spla::softmax{});
    conforms<TestType>(spla::elu_plus_one{});
    conforms<TestType>(spla::relu_pair{});
    conforms<TestType>(spla::identity{});
}

TEMPLATE_LIST_TEST_CASE("a user's own feature map", "[conformance][feature_map]", host_and_device)
{
    conforms<TestType>(squares_and_one{0.25f});
}
