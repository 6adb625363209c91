// SPDX-FileCopyrightText: The spla authors
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
// Every feature map against loops by hand, for scalars and packs.
#include "catch.hpp"

#include <spla/feature_map.hpp>
#include <spla/reference/comparison.hpp>

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>
#include <string>
#include <type_traits>
#include <vector>

namespace
{
using numbers = std::vector<double>;

/// phi of one vector by its definition, and how far arithmetic of unit roundoff u may be from it.
struct expected
{
    numbers phi, bound;
};

/// A pack's exp is 0 where the result would be below this; no float below it is normal either.
constexpr double smallest = 2e-38;
/// Relative error of exp, in units of u: 2e-7 for packs of floats; and of its inverse, divided once more.
constexpr double exp_units = 5;

/// softmax(sign x). The shift is the same number in numerator and sum, so only the difference's rounding counts: u of
/// the spread at most. Then exp, a sum of positive terms, 1 / sum and the product.
void add_softmax(expected& e, numbers const& x, double sign, double u)
{
    auto const [low, high] = std::minmax_element(x.begin(), x.end());
    double const shift = sign > 0 ? *high : -*low;
    double sum = 0;
    for (double c : x) sum += std::exp(sign * c - shift);
    double const roundings = 2 * (*high - *low + exp_units) + static_cast<double>(x.size()) + 2;
    for (double c : x)
    {
        e.phi.push_back(std::exp(sign * c - shift) / sum);
        e.bound.push_back(std::expm1(roundings * u) * e.phi.back() + smallest);
    }
}

expected by_hand(spla::softmax, numbers const& x, double u)
{
    expected e;
    add_softmax(e, x, 1, u);
    return e;
}
expected by_hand(spla::softmax_pair, numbers const& x, double u)
{
    expected e;
    add_softmax(e, x, 1, u);
    add_softmax(e, x, -1, u);
    return e;
}
expected by_hand(spla::elu_plus_one, numbers const& x, double u)
{
    expected e;
    for (double c : x)
    {
        e.phi.push_back(c > 0 ? c + 1 : std::exp(c));
        e.bound.push_back((exp_units + 1) * u * e.phi.back() + smallest);
    }
    return e;
}
expected by_hand(spla::relu_pair, numbers const& x, double)
{
    expected e{{}, numbers(2 * x.size(), 0.0)};
    for (double c : x) e.phi.push_back(c > 0 ? c : 0);
    for (double c : x) e.phi.push_back(c < 0 ? -c : 0);
    return e;
}
expected by_hand(spla::identity, numbers const& x, double)
{
    return {x, numbers(x.size(), 0.0)};
}

/// phi of `x` vectors of one width, computed together: one pack of them, or one scalar. Components lie further apart
/// than a pack is wide; what lies between must stay.
template <class Pack, class Map>
std::vector<numbers> computed(Map const& phi, std::vector<numbers> const& x)
{
    using scalar = typename spla::vector_of<Pack>::scalar;
    int const count = static_cast<int>(x.size()), width = static_cast<int>(x.front().size()), stride = count + 3;
    int const features = phi.features(width);
    scalar const nan = std::numeric_limits<scalar>::quiet_NaN();
    std::vector<scalar> in(stride * width, nan), out(stride * features, nan);
    for (int i = 0; i < count; ++i)
        for (int d = 0; d < width; ++d) in[d * stride + i] = static_cast<scalar>(x[i][d]);
    phi.template operator()<Pack>(width, spla::vector_of<Pack>{in.data(), stride},
                                  spla::vector_of<Pack>{out.data(), stride});
    std::vector<numbers> made(count, numbers(features));
    for (int d = 0; d < features; ++d)
    {
        for (int i = 0; i < count; ++i) made[i][d] = out[d * stride + i];
        for (int i = count; i < stride; ++i) CHECK(std::isnan(out[d * stride + i]));
    }
    return made;
}

/// Vectors that a pack holds beside one another. Spread: components reach from -spread to spread, both included where
/// there are two. Narrow and wide ones lie side by side where `mixed`.
template <class T>
std::vector<numbers> vectors(int count, int width, double spread, bool mixed, unsigned seed)
{
    std::mt19937 engine(seed);
    std::vector<numbers> made(count, numbers(width));
    for (int i = 0; i < count; ++i)
    {
        double const reach = static_cast<double>(static_cast<T>(mixed && i % 2 ? 1.0 : spread));
        std::uniform_real_distribution<double> between(-reach, reach);
        for (double& c : made[i]) c = static_cast<double>(static_cast<T>(between(engine)));
        if (width > 1) made[i][i % width] = reach, made[i][(i + 1) % width] = -reach;
    }
    return made;
}

template <class Map>
void add(spla::reference::comparison& c, std::vector<numbers> const& made, Map const& phi,
         std::vector<numbers> const& x, double u)
{
    for (std::size_t i = 0; i < x.size(); ++i)
    {
        auto const truth = by_hand(phi, x[i], u);
        REQUIRE(truth.phi.size() == made[i].size());
        for (std::size_t d = 0; d < truth.phi.size(); ++d)
            c.add(made[i][d], truth.phi[d], truth.bound[d],
                  "vector " + std::to_string(i) + ", feature " + std::to_string(d));
    }
}

/// One map on packs of N (0: a scalar) of T, over widths and spreads.
template <class T, int N, class Map>
void hold(Map const& phi)
{
    using pack = std::conditional_t<N == 0, T, spla::lanes<T, N == 0 ? 1 : N>>;
    // The loops by hand round too.
    double const u = static_cast<double>(std::numeric_limits<T>::epsilon()) / 2 + 0x1p-53;
    int const count = N == 0 ? 1 : N;
    spla::reference::comparison all;
    unsigned seed = 0;
    for (int const width : {1, 3, 64})
        // softmax_pair goes another way where half the spread is 80 or more.
        for (double const spread : {0.0, 1e-3, 3.0, 79.5, 80.5, 200.0})
            for (bool const mixed : {false, true})
            {
                auto const x = vectors<T>(count, width, spread, mixed, ++seed);
                auto made = computed<pack>(phi, x);
                add(all, made, phi, x, u);

                // What the comparison is worth: one feature off by a thousandth, or not a number.
                auto& row = made[made.size() / 2];
                auto const largest = std::max_element(row.begin(), row.end());
                double const before = *largest;
                for (double const wrong : {before * 1.001 + 1e-30, std::numeric_limits<double>::quiet_NaN()})
                {
                    *largest = wrong;
                    spla::reference::comparison spoiled;
                    add(spoiled, made, phi, x, u);
                    CHECK(spoiled.failed == 1);
                }
            }
    INFO(Map::name << ", " << count << " of " << sizeof(T) << " bytes: " << all.text());
    CHECK(all.passed);
    CHECK(all.compared > 0);
}

template <class T, int N>
void hold_all()
{
    hold<T, N>(spla::softmax{});
    hold<T, N>(spla::softmax_pair{});
    hold<T, N>(spla::elu_plus_one{});
    hold<T, N>(spla::relu_pair{});
    hold<T, N>(spla::identity{});
}
} // namespace

TEMPLATE_TEST_CASE("feature maps are what their definitions say, by scalar and by pack", "[feature_map]", float, double)
{
    hold_all<TestType, 0>();
    hold_all<TestType, spla::native_lanes<TestType>>();
}
