// SPDX-FileCopyrightText: The spla authors
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#include "catch.hpp"

#include <spla/feature_map.hpp>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <vector>

using pack = spla::lanes<float, spla::native_lanes<float>>;

TEST_CASE("exp of a pack is exp", "[lanes]")
{
    double worst = 0;
    for (double x = -86.8; x < 88.7; x += 0.0173)
    {
        double const truth = std::exp(static_cast<double>(static_cast<float>(x)));
        worst = std::max(worst, std::abs(exp(pack(static_cast<float>(x)))[0] - truth) / truth);
    }
    CHECK(worst < 2e-7);
    float const infinity = std::numeric_limits<float>::infinity();
    CHECK(exp(pack(-infinity))[0] == 0.0f);
    CHECK(exp(pack(infinity))[0] == infinity);
    CHECK(std::isnan(exp(pack(std::nanf("")))[0]));
}

TEST_CASE("exp and its inverse come together", "[lanes]")
{
    double worst = 0;
    for (double at = -86; at <= 86; at += 0.0173)
    {
        float const x = static_cast<float>(at);
        double const truth = std::exp(static_cast<double>(x));
        pack inverse;
        pack const e = exp_with_inverse(pack(x), inverse);
        worst = std::max({worst, std::abs(e[0] - truth) / truth, std::abs(inverse[0] * truth - 1)});
    }
    CHECK(worst < 2e-7);
    for (std::uint32_t bits : {0x7fc00000u, 0x7f800001u, 0xffffffffu}) // NaN stays, whatever its payload
    {
        pack inverse;
        float x;
        std::memcpy(&x, &bits, sizeof(x));
        CHECK(std::isnan(exp_with_inverse(pack(x), inverse)[0]));
        CHECK(std::isnan(inverse[0]));
        CHECK(std::isnan(exp(pack(x))[0]));
    }
}

TEST_CASE("16-bit elements survive the way to float and back, by scalar and by pack", "[element_types]")
{
    int wrong = 0;
    for (unsigned u = 0; u < 0x10000u; ++u)
    {
        spla::float16 h;
        h.bits = static_cast<std::uint16_t>(u);
        float const x = static_cast<float>(h);
        std::vector<spla::float16> row(pack::width, h);
        float const y = spla::detail::load_lanes<float, pack::width>(row.data())[pack::width - 1];
        wrong += !(x == y || (std::isnan(x) && std::isnan(y)));
        wrong += !(spla::float16(x).bits == h.bits || std::isnan(x));
        spla::bfloat16 b;
        b.bits = h.bits;
        float const z = static_cast<float>(b);
        wrong += !(spla::bfloat16(z).bits == b.bits || std::isnan(z));
    }
    CHECK(wrong == 0);
    CHECK(static_cast<float>(spla::float16(65520.0f)) == std::numeric_limits<float>::infinity());
    CHECK(static_cast<float>(spla::float16(65519.0f)) == 65504.0f);
    CHECK(static_cast<float>(spla::bfloat16(1.00390625f)) == 1.0f); // a tie goes to even
}

TEST_CASE("a matrix of packs transposes", "[lanes]")
{
    pack rows[pack::width];
    for (int i = 0; i < pack::width; ++i)
    {
        std::vector<float> row(pack::width);
        for (int j = 0; j < pack::width; ++j) row[j] = static_cast<float>(100 * i + j);
        rows[i] = pack::load(row.data());
    }
    transpose(rows);
    for (int i = 0; i < pack::width; ++i)
        for (int j = 0; j < pack::width; ++j) CHECK(rows[i][j] == static_cast<float>(100 * j + i));
}
