// SPDX-FileCopyrightText: The spla authors
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
// The way of views to the reference: every layout and element type, bit by bit.
#include "../catch.hpp"

#include <spla/reference/view_to_eigen.hpp>

namespace
{
using host = Kokkos::HostSpace;
using range = std::pair<int, int>;

/// A number that says where it stands, small enough for every element type.
float number_at(int b, int t, int h, int d)
{
    return static_cast<float>(b * 64 + t * 16 + h * 4 + d) / 4;
}

template <class View>
void holds(View const& view)
{
    using Element = typename View::non_const_value_type;
    for (std::size_t b = 0; b < view.extent(0); ++b)
        for (std::size_t t = 0; t < view.extent(1); ++t)
            for (std::size_t h = 0; h < view.extent(2); ++h)
                for (std::size_t d = 0; d < view.extent(3); ++d)
                    view(b, t, h, d) = static_cast<Element>(number_at(b, t, h, d));
    for (std::size_t b = 0; b < view.extent(0); ++b)
    {
        auto const heads = spla::reference::heads_of(view, static_cast<std::int64_t>(b));
        REQUIRE(heads.size() == view.extent(2));
        for (std::size_t h = 0; h < heads.size(); ++h)
        {
            REQUIRE(heads[h].rows() == static_cast<Eigen::Index>(view.extent(1)));
            REQUIRE(heads[h].cols() == static_cast<Eigen::Index>(view.extent(3)));
            for (Eigen::Index t = 0; t < heads[h].rows(); ++t)
                for (Eigen::Index d = 0; d < heads[h].cols(); ++d) CHECK(heads[h](t, d) == number_at(b, t, h, d));
        }
    }
}
} // namespace

TEST_CASE("views of every element type become matrices", "[view_to_eigen]")
{
    holds(Kokkos::View<float****, Kokkos::LayoutRight, host>("v", 2, 4, 3, 4));
    holds(Kokkos::View<double****, Kokkos::LayoutRight, host>("v", 2, 4, 3, 4));
    holds(Kokkos::View<spla::bfloat16****, Kokkos::LayoutRight, host>("v", 2, 4, 3, 4));
    holds(Kokkos::View<spla::float16****, Kokkos::LayoutRight, host>("v", 2, 4, 3, 4));
}

TEST_CASE("views of every layout become matrices", "[view_to_eigen]")
{
    holds(Kokkos::View<float****, Kokkos::LayoutLeft, host>("v", 2, 4, 3, 4));
    Kokkos::View<float****, Kokkos::LayoutRight, host> const all("v", 3, 7, 5, 9);
    holds(Kokkos::subview(all, range(1, 3), range(2, 6), range(0, 3), range(5, 9)));
    holds(Kokkos::View<float****, Kokkos::LayoutRight, host>("v", 2, 0, 3, 4));
    holds(Kokkos::View<float****, Kokkos::LayoutRight, host>("v", 0, 4, 3, 4));
}
