// SPDX-FileCopyrightText: The spla authors
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
// Summaries by plain loops, read from where sequence_state.hpp says that they lie.
#include "conformance/conforms.hpp"

#include <cmath>

using namespace spla_test;

namespace
{
/// Vector `v` of a sub-block's summary, stored in fp32.
template <class State>
std::vector<float> stored_vector(State const& state, int b, int block, int head, int sub, int v)
{
    auto const& l = state.layout();
    auto const bytes = Kokkos::create_mirror_view_and_copy(Kokkos::HostSpace{}, state.buffer());
    auto const number = (((b * l.blocks + block) * l.key_heads + head) * l.sub_blocks + sub) * l.vectors + v;
    std::vector<float> x(l.head_dim);
    std::memcpy(x.data(), bytes.data() + l.summaries + number * l.head_dim * sizeof(float), x.size() * sizeof(float));
    return x;
}
} // namespace

TEMPLATE_LIST_TEST_CASE("summaries: mean, variances and the keys farthest from the mean of all", "[statistics]", spaces)
{
    auto o = small_options();
    o.kept_keys = 2, o.sub_blocks = 2, o.segment_tokens = 128;
    data<TestType> const d({2, 100, 100, 2, 2, 12, 8}, 21);
    stepper<TestType> s(d, o);
    s.append(0, 37); // summaries are made when blocks become complete, whatever the appends
    s.append(37, 38);
    s.append(38, 100);
    s.exec.fence();
    auto const key = on_host(d.key);
    int const size = 8, width = 12;
    for (int b = 0; b < 2; ++b)
        for (int block = 0; block < 6; ++block)
            for (int h = 0; h < 2; ++h)
                for (int sub = 0; sub < 2; ++sub)
                {
                    auto const x = [&](int t, int i) {
                        return static_cast<double>(key(b, block * 16 + sub * size + t, h, i));
                    };
                    std::vector<std::pair<double, int>> distance; // farthest first
                    for (int t = 0; t < size; ++t)
                    {
                        double sum = 0;
                        for (int i = 0; i < width; ++i)
                        {
                            double mean = 0;
                            for (int u = 0; u < size; ++u) mean += x(u, i) / size;
                            sum += (x(t, i) - mean) * (x(t, i) - mean);
                        }
                        distance.push_back({-sum, t});
                    }
                    std::sort(distance.begin(), distance.end());
                    for (int n = 0; n < 2; ++n)
                    {
                        auto const kept = stored_vector(s.state, b, block, h, sub, 2 + n);
                        for (int i = 0; i < width; ++i) CHECK(kept[i] == static_cast<float>(x(distance[n].second, i)));
                    }
                    auto const mean = stored_vector(s.state, b, block, h, sub, 0);
                    auto const variance = stored_vector(s.state, b, block, h, sub, 1);
                    for (int i = 0; i < width; ++i)
                    {
                        double m = 0, v = 0, largest = 0;
                        for (int n = 2; n < size; ++n) m += x(distance[n].second, i) / (size - 2);
                        for (int n = 2; n < size; ++n)
                        {
                            v += std::pow(x(distance[n].second, i) - m, 2) / (size - 2);
                            largest = std::max(largest, std::abs(x(distance[n].second, i)));
                        }
                        CHECK(std::abs(mean[i] - m) <= size * 0x1p-24 * largest);
                        CHECK(std::abs(variance[i] - v) <= 4 * size * 0x1p-24 * largest * largest);
                    }
                }
}

TEMPLATE_LIST_TEST_CASE("summaries: of keys equally far from the mean the lower token is kept", "[statistics]", spaces)
{
    // Every key is +x or -x, as many of each: all are equally far from the mean, which is exactly zero.
    auto o = small_options();
    o.kept_keys = 3;
    data<TestType> const d({1, 32, 32, 1, 1, 8, 8}, 22);
    auto const key = on_host(d.key);
    bool const negative[16] = {true,  false, false, true,  true, true,  false, true,
                               false, true,  false, false, true, false, true,  false};
    for (int t = 0; t < 32; ++t)
        for (int i = 0; i < 8; ++i) key(0, t, 0, i) = (negative[t % 16] ? -1.0f : 1.0f) * static_cast<float>(1 + i);
    from_host(key, d.key);
    stepper<TestType> s(d, o);
    s.append(0, 32);
    s.exec.fence();
    for (int block = 0; block < 2; ++block)
        for (int n = 0; n < 3; ++n)
        {
            auto const kept = stored_vector(s.state, 0, block, 0, 0, 2 + n);
            for (int i = 0; i < 8; ++i) CHECK(kept[i] == key(0, block * 16 + n, 0, i));
        }
}
