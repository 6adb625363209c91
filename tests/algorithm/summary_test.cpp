// SPDX-FileCopyrightText: The spla authors
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
// How a summary's vectors are stored, and what comes back.
#include "catch.hpp"

#include <spla/algorithm/block_summary.hpp>

#include <cmath>
#include <random>
#include <vector>

using spla::summary_storage;

namespace
{
/// One vector, stored and read again.
struct stored_vector
{
    std::vector<std::byte> bytes;
    float scale = -1;
    spla::detail::summary_tensor summary;

    stored_vector(std::vector<float> const& x, summary_storage storage) : bytes(4 * x.size())
    {
        summary.values = bytes.data(), summary.scales = &scale, summary.storage = storage;
        summary.head_dim = static_cast<std::int64_t>(x.size());
        summary.key_heads = summary.blocks = 1;
        summary.store(0, x.data());
    }
    int whole(int d) const { return summary.row<std::int8_t>(0)[d]; }
    std::vector<float> numbers() const
    {
        std::vector<float> x(summary.head_dim);
        for (std::int64_t d = 0; d < summary.head_dim; ++d)
            x[d] = summary.storage == summary_storage::int8   ? scale * static_cast<float>(whole(static_cast<int>(d)))
                   : summary.storage == summary_storage::bf16 ? static_cast<float>(summary.row<spla::bfloat16>(0)[d])
                                                              : summary.row<float>(0)[d];
        return x;
    }
};

std::vector<float> random_vector(unsigned seed, double size)
{
    std::mt19937 engine(seed);
    std::normal_distribution<double> normal(0.0, size);
    std::vector<float> x(1 + engine() % 70);
    for (float& e : x) e = static_cast<float>(normal(engine));
    return x;
}
} // namespace

TEST_CASE("int8: one scale a vector, the largest number at 127, ties to even", "[summary]")
{
    stored_vector const by_hand({127, 0.5f, 1.5f, 2.5f, -0.5f, -1.5f, -2.5f, 0.49f, -0.51f, 126.4f},
                                summary_storage::int8);
    CHECK(by_hand.scale == 1.0f);
    int const expected[] = {127, 0, 2, 2, 0, -2, -2, 0, -1, 126};
    for (int d = 0; d < 10; ++d) CHECK(by_hand.whole(d) == expected[d]);

    stored_vector const negative({-5.08f, 0.04f}, summary_storage::int8);
    CHECK(negative.scale == 5.08f / 127.0f);
    CHECK(negative.whole(0) == -127);
    CHECK(negative.whole(1) == 1);
}

TEST_CASE("int8: a zero vector has scale zero", "[summary]")
{
    stored_vector const zero({0, -0.0f, 0}, summary_storage::int8);
    CHECK(zero.scale == 0.0f);
    for (float x : zero.numbers()) CHECK(x == 0.0f);
}

TEST_CASE("int8: subnormal and non-finite vectors stay in range", "[summary]")
{
    // The scale of so small a vector is inexact: 190 units over a scale of 1 would be 190.
    stored_vector const tiny({190 * 0x1p-149f, -190 * 0x1p-149f}, summary_storage::int8);
    CHECK(tiny.whole(0) == 127);
    CHECK(tiny.whole(1) == -127);
    float const infinity = std::numeric_limits<float>::infinity();
    stored_vector const infinite({infinity, 1.0f, -infinity}, summary_storage::int8);
    CHECK(infinite.whole(0) == 0); // infinity over infinity has no value; the scale is infinite, and so no score
    CHECK(infinite.whole(1) == 0);
    CHECK(!(infinite.scale - infinite.scale == 0.0f));
}

TEST_CASE("int8: what comes back is within half a unit, and comes back once more unchanged", "[summary]")
{
    for (unsigned seed = 0; seed < 200; ++seed)
    {
        auto const x = random_vector(seed, seed % 3 ? 1.0 : 1e-20);
        stored_vector const stored(x, summary_storage::int8);
        auto const y = stored.numbers();
        int largest = 0;
        for (std::size_t d = 0; d < x.size(); ++d)
        {
            largest = std::max(largest, std::abs(stored.whole(static_cast<int>(d))));
            CHECK(std::abs(x[d] - y[d]) <= 0.5001f * stored.scale);
        }
        CHECK(largest == 127);
        stored_vector const again(y, summary_storage::int8);
        for (std::size_t d = 0; d < x.size(); ++d)
            CHECK(again.whole(static_cast<int>(d)) == stored.whole(static_cast<int>(d)));
    }
}

TEST_CASE("bf16 and fp32 summaries: nearest, and unchanged", "[summary]")
{
    for (unsigned seed = 0; seed < 50; ++seed)
    {
        auto const x = random_vector(seed, 3.0);
        CHECK(stored_vector(x, summary_storage::fp32).numbers() == x);
        auto const y = stored_vector(x, summary_storage::bf16).numbers();
        for (std::size_t d = 0; d < x.size(); ++d) CHECK(std::abs(x[d] - y[d]) <= 0x1p-8f * std::abs(x[d]));
        CHECK(stored_vector(y, summary_storage::bf16).numbers() == y);
    }
}

TEST_CASE("rounding to an integer agrees with the processor's", "[summary]")
{
    int wrong = 0;
    for (int i = -4000; i <= 4000; ++i)
        for (float const x : {i * 0.25f, i * 0.25f + 1e-3f, i * 1.0f})
            wrong += spla::detail::round_to_even(x) != std::nearbyint(x);
    CHECK(wrong == 0);
}
