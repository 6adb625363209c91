// SPDX-FileCopyrightText: The spla authors
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
// What the paper implies, by plain loops that know neither the kernels nor the reference.
#include "conformance/conforms.hpp"

#include <cmath>

using namespace spla_test;
using spla::reference::matrix;

namespace
{
/// Softmax attention of query row i of one head over the keys that `sees` allows, and its log-sum-exp.
template <class Sees>
std::pair<std::vector<double>, double> softmax_attention(matrix const& q, matrix const& k, matrix const& v, int i,
                                                         double scale, Sees const& sees)
{
    std::vector<double> out(v.cols(), 0.0);
    double sum = 0, largest = -1e300;
    auto const logit = [&](int j) {
        double x = 0;
        for (int d = 0; d < q.cols(); ++d) x += q(i, d) * k(j, d);
        return scale * x;
    };
    for (int j = 0; j < k.rows(); ++j)
        if (sees(j)) largest = std::max(largest, logit(j));
    for (int j = 0; j < k.rows(); ++j)
    {
        if (!sees(j)) continue;
        double const e = std::exp(logit(j) - largest);
        sum += e;
        for (int d = 0; d < v.cols(); ++d) out[d] += e * v(j, d);
    }
    for (double& x : out) x /= sum;
    return {out, largest + std::log(sum)};
}

/// [softmax(x), softmax(-x)] of row i.
std::vector<double> softmax_pair_of(matrix const& x, int i)
{
    int const n = static_cast<int>(x.cols());
    std::vector<double> phi(2 * n);
    double plus = 0, minus = 0;
    for (int d = 0; d < n; ++d) plus += phi[d] = std::exp(x(i, d)), minus += phi[n + d] = std::exp(-x(i, d));
    for (int d = 0; d < n; ++d) phi[d] /= plus, phi[n + d] /= minus;
    return phi;
}

double rms(std::vector<double> const& x)
{
    double sum = 0;
    for (double e : x) sum += e * e;
    return std::sqrt(sum / static_cast<double>(x.size()) + 1e-6);
}
} // namespace

TEMPLATE_LIST_TEST_CASE("everything selected is dense attention, and there is no residual", "[identities]", spaces)
{
    for (auto const kind :
         {spla::combination_kind::sparse_only, spla::combination_kind::sum, spla::combination_kind::separate})
    {
        auto o = small_options();
        o.top_k = 1000, o.combine = kind;
        data<TestType> const d({1, 180, 200, 2, 1, 16, 16}, 7);
        auto const r = run_prefill(d, o);
        bool const both = kind != spla::combination_kind::sparse_only;
        if (both)
        {
            auto const residual = on_host(r.residual);
            CHECK(std::all_of(residual.data(), residual.data() + residual.size(), [](float x) { return x == 0.0f; }));
        }
        auto const x = d.host_sequence(0);
        auto const truth = spla::reference::attend(x, r.chosen(0), o, 0x1p-24, 0x1p-24, {}, {});
        auto const made = on_host(kind == spla::combination_kind::separate ? r.sparse : r.output);
        auto const lse = on_host(r.lse);
        spla::reference::comparison c;
        for (int h = 0; h < 2; ++h)
            for (int i = 0; i < 180; ++i)
            {
                auto const [dense, log_sum] =
                    softmax_attention(x.query[h], x.key[0], x.value[0], i, 0.25, [&](int j) { return j <= i + 20; });
                for (int e = 0; e < 16; ++e)
                    c.add(made(0, i, h, e), dense[e], truth.sparse_bound[h](i, e), "output " + std::to_string(i));
                c.add(lse(0, i, h, 0), log_sum, truth.lse_bound[h][i], "lse " + std::to_string(i));
            }
        INFO(c.text());
        CHECK(c.passed);
    }
}

TEMPLATE_LIST_TEST_CASE("top_k 0 is sinks, window and linear attention over the rest", "[identities]", spaces)
{
    auto o = small_options();
    o.top_k = 0, o.sink_blocks = 2, o.local_blocks = 1;
    data<TestType> const d({1, 200, 200, 2, 1, 16, 12}, 8);
    auto const x = d.host_sequence(0);
    for (bool const decodes : {false, true})
    {
        stepper<TestType> s(d, o);
        s.prefill(0, decodes ? 120 : 200);
        for (int t = 120; decodes && t < 200; ++t) s.step(t, t + 1);
        auto const output = on_host(s.r.output), sparse = on_host(s.r.sparse), residual = on_host(s.r.residual);
        auto const truth = spla::reference::attend(x, s.r.chosen(0), o, 0x1p-24, 0x1p-24, {}, {});
        spla::reference::comparison c;
        int with_residual = 0;
        for (int h = 0; h < 2; ++h)
            for (int i = 0; i < 200; ++i)
            {
                int const own = i / 16;
                auto const rest = [&](int j) { return j / 16 >= 2 && j / 16 < own - 1; };
                auto const exact = softmax_attention(x.query[h], x.key[0], x.value[0], i, 0.25, [&](int j) {
                                       return j <= i && !rest(j);
                                   }).first;
                std::vector<double> linear(12, 0.0);
                auto const phi_q = softmax_pair_of(x.query[h], i);
                for (int j = 0; j <= i; ++j)
                {
                    if (!rest(j)) continue;
                    auto const phi_k = softmax_pair_of(x.key[0], j);
                    double product = 0;
                    for (std::size_t f = 0; f < phi_q.size(); ++f) product += phi_q[f] * phi_k[f];
                    for (int e = 0; e < 12; ++e) linear[e] += product * x.value[0](j, e);
                }
                with_residual += rest(32);
                for (int e = 0; e < 12; ++e)
                {
                    std::string const place = std::to_string(i).append(", ").append(std::to_string(e));
                    c.add(sparse(0, i, h, e), exact[e], truth.sparse_bound[h](i, e), "sparse " + place);
                    c.add(residual(0, i, h, e), linear[e], truth.residual_bound[h](i, e), "residual " + place);
                    c.add(output(0, i, h, e), exact[e] / rms(exact) + linear[e] / rms(linear),
                          truth.output_bound[h](i, e), "output " + place);
                }
            }
        CHECK(with_residual > 200);
        INFO(c.text());
        CHECK(c.passed);
    }
}
