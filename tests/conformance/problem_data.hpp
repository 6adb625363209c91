// SPDX-FileCopyrightText: The spla authors
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once
#include "views.hpp"

#include <random>
#include <string>

namespace spla_test
{

struct shape
{
    int batch, queries, keys, query_heads, key_heads, head_dim, value_dim;
    int residual_dim = 0; ///< width of the residual branch's own queries and keys; 0: it has none

    std::string text() const
    {
        auto const n = [](int x) { return std::to_string(x); };
        return "batch " + n(batch) + " L " + n(queries) + " M " + n(keys) + " heads " + n(query_heads) + "/" +
               n(key_heads) + " D " + n(head_dim) + " Dv " + n(value_dim) + " Dr " + n(residual_dim);
    }
};

/// Small blocks, so that a few hundred keys have many competing blocks.
template <class Metric = spla::taylor<>, class FeatureMap = spla::softmax_pair>
spla::options<Metric, FeatureMap> small_options()
{
    spla::options<Metric, FeatureMap> o;
    o.block = 16, o.local_blocks = 2, o.top_k = 4, o.segment_tokens = 128;
    return o;
}

/// Blocks that matrix units take, few of them selected.
inline spla::options<> block_options(int top_k = 5)
{
    spla::options<> o;
    o.local_blocks = 1, o.top_k = top_k;
    return o;
}

/// Sizes without numbers, of what matrix units take.
inline spla::problem bare_sizes(std::int64_t queries, std::int64_t keys)
{
    spla::problem p;
    p.element = spla::element_kind::bfloat16;
    p.batch = 2, p.queries = queries, p.keys = keys;
    p.query_heads = 8, p.key_heads = 2, p.head_dim = p.value_dim = 64;
    return p;
}

/// A view of numbers that drift slowly along the tokens, so that blocks differ as real ones do.
template <class Element, class Space>
any_view<Element, Space> drifting_view(std::mt19937& engine, double scale, int batch, int tokens, int heads, int dim,
                                       bool padded = false)
{
    host_view<Element> const made("made", batch, tokens, heads, dim);
    std::normal_distribution<double> normal;
    for (int b = 0; b < batch; ++b)
        for (int h = 0; h < heads; ++h)
            for (int d = 0; d < dim; ++d)
            {
                double drift = normal(engine);
                for (int t = 0; t < tokens; ++t)
                {
                    drift = 0.98 * drift + 0.2 * normal(engine);
                    made(b, t, h, d) = narrow<Element>(scale * (drift + 0.5 * normal(engine)));
                }
            }
    auto const v = empty_view<Element, Space>(batch, tokens, heads, dim, padded);
    from_host(made, v);
    return v;
}

/// The inputs of one problem on a space.
template <class Exec, class Element = float>
struct data
{
    using space = typename Exec::memory_space;
    using accumulator = spla::accumulator_t<Element>;
    using view = any_view<Element, space>;
    using weights = Kokkos::View<accumulator**, Kokkos::LayoutRight, space>;

    shape size;
    view query, key, value, residual_query, residual_key;
    weights sparse_weight, residual_weight; ///< [Hq, Dv]; empty where they are ones

    data(shape s, unsigned seed, bool padded = false, bool weighted = false);

    /// Sizes of a call of `queries` tokens against `keys`.
    spla::problem problem(int queries, int keys) const
    {
        spla::problem p;
        p.batch = size.batch, p.queries = queries, p.keys = keys;
        p.query_heads = size.query_heads, p.key_heads = size.key_heads;
        p.head_dim = size.head_dim, p.value_dim = size.value_dim, p.residual_dim = size.residual_dim;
        p.element = spla::kind_of<Element>();
        return p;
    }
    spla::problem problem() const { return problem(size.queries, size.keys); }

    /// Adds the residual branch's own inputs (query tokens [begin, end), `keys` keys) and the weights, where there are
    /// any.
    void give_inputs(spla::attention_extras<Element>& e, int begin, int end, int keys) const
    {
        if (size.residual_dim > 0) e.residual_inputs(tokens(residual_query, begin, end), tokens(residual_key, 0, keys));
        if (sparse_weight.size() > 0) e.norm_weights(sparse_weight, residual_weight);
    }

    /// Sequence b as the reference takes it.
    spla::reference::sequence host_sequence(int b) const;
    static spla::reference::matrix matrix_of(weights const& w);
};

template <class Exec, class Element>
data<Exec, Element>::data(shape s, unsigned seed, bool padded, bool weighted) : size(s)
{
    std::mt19937 engine(seed);
    auto const made = [&](int count, int heads, int dim, double scale) {
        return drifting_view<Element, space>(engine, scale, s.batch, count, heads, dim, padded);
    };
    query = made(s.queries, s.query_heads, s.head_dim, 1.5);
    key = made(s.keys, s.key_heads, s.head_dim, 1.5);
    value = made(s.keys, s.key_heads, s.value_dim, 1.0);
    if (s.residual_dim > 0)
    {
        residual_query = made(s.queries, s.query_heads, s.residual_dim, 1.5);
        residual_key = made(s.keys, s.key_heads, s.residual_dim, 1.5);
    }
    if (!weighted) return;
    auto const random_weights = [&] {
        weights const w("weights", s.query_heads, s.value_dim);
        auto const host = Kokkos::create_mirror_view(w);
        std::uniform_real_distribution<double> between(-2.0, 2.0);
        for (std::size_t i = 0; i < host.size(); ++i) host.data()[i] = static_cast<accumulator>(between(engine));
        Kokkos::deep_copy(w, host);
        return w;
    };
    sparse_weight = random_weights();
    residual_weight = random_weights();
}

template <class Exec, class Element>
spla::reference::sequence data<Exec, Element>::host_sequence(int b) const
{
    spla::reference::sequence s;
    s.query = matrices_of(query, b);
    s.key = matrices_of(key, b);
    s.value = matrices_of(value, b);
    s.residual_query = size.residual_dim > 0 ? matrices_of(residual_query, b) : s.query;
    s.residual_key = size.residual_dim > 0 ? matrices_of(residual_key, b) : s.key;
    return s;
}

template <class Exec, class Element>
spla::reference::matrix data<Exec, Element>::matrix_of(weights const& w)
{
    auto const host = Kokkos::create_mirror_view_and_copy(Kokkos::HostSpace{}, w);
    spla::reference::matrix m(w.extent(0), w.extent(1));
    for (Eigen::Index h = 0; h < m.rows(); ++h)
        for (Eigen::Index d = 0; d < m.cols(); ++d) m(h, d) = host(h, d);
    return m;
}

} // namespace spla_test
