// SPDX-FileCopyrightText: The spla authors
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once
#include <spla/reference/reference.hpp>
#include <spla/spla.hpp>

#include <random>
#include <string>

/// One problem run on a space and held against the reference: selection, both branches, log-sum-exp and combination.
namespace spla_test
{

template <class T, class Space>
using view4 = Kokkos::View<T****, Kokkos::LayoutRight, Space>;
template <class Space>
using int_lists = spla::block_list<Kokkos::View<std::int32_t****, Kokkos::LayoutRight, Space>,
                                   Kokkos::View<std::int32_t***, Kokkos::LayoutRight, Space>>;

struct shape
{
    int batch, queries, keys, query_heads, key_heads, head_dim, value_dim;
};

/// A view of `batch` x `tokens` x `heads` x `dim` filled by a generator, drifting slowly so that blocks differ as real ones do.
/// padded: a window of a larger allocation, so that every stride but the last is odd.
template <class Element, class Space>
auto random_view(std::mt19937& engine, int batch, int tokens, int heads, int dim, bool padded, double scale = 1.0)
{
    int const extra = padded ? 3 : 0;
    view4<Element, Space> all("data", batch, tokens + extra, heads + extra, dim + extra);
    auto const host = Kokkos::create_mirror_view(all);
    std::normal_distribution<double> normal;
    for (std::size_t b = 0; b < host.extent(0); ++b)
        for (std::size_t h = 0; h < host.extent(2); ++h)
            for (std::size_t d = 0; d < host.extent(3); ++d)
            {
                double drift = normal(engine);
                for (std::size_t t = 0; t < host.extent(1); ++t)
                {
                    drift = 0.98 * drift + 0.2 * normal(engine);
                    host(b, t, h, d) = static_cast<Element>(static_cast<float>(scale * (drift + 0.5 * normal(engine))));
                }
            }
    Kokkos::deep_copy(all, host);
    using pair = std::pair<int, int>;
    return Kokkos::subview(all, pair(0, batch), pair(0, tokens), pair(0, heads), pair(0, dim));
}

template <class Exec, class Element>
struct data
{
    using space = typename Exec::memory_space;
    using view = decltype(random_view<Element, space>(std::declval<std::mt19937&>(), 1, 1, 1, 1, false));
    using accumulator = spla::accumulator_t<Element>;
    shape size;
    view query, key, value;

    data(shape s, unsigned seed, bool padded = false) : size(s)
    {
        std::mt19937 engine(seed);
        query = random_view<Element, space>(engine, s.batch, s.queries, s.query_heads, s.head_dim, padded, 1.5);
        key = random_view<Element, space>(engine, s.batch, s.keys, s.key_heads, s.head_dim, padded, 1.5);
        value = random_view<Element, space>(engine, s.batch, s.keys, s.key_heads, s.value_dim, padded);
    }
    spla::problem problem() const
    {
        spla::problem p;
        p.batch = size.batch, p.queries = size.queries, p.keys = size.keys;
        p.query_heads = size.query_heads, p.key_heads = size.key_heads, p.head_dim = size.head_dim, p.value_dim = size.value_dim;
        p.element = spla::kind_of<Element>();
        return p;
    }
    spla::reference::sequence sequence(int b) const
    {
        spla::reference::sequence s;
        s.query = s.residual_query = spla::reference::heads_of(query, b);
        s.key = s.residual_key = spla::reference::heads_of(key, b);
        s.value = spla::reference::heads_of(value, b);
        return s;
    }
};

/// What one run returns, in the accumulation type.
template <class Exec, class Element>
struct results
{
    using T = spla::accumulator_t<Element>;
    using space = typename Exec::memory_space;
    view4<T, space> output, sparse, residual;
    Kokkos::View<T***, Kokkos::LayoutRight, space> lse;
    int_lists<space> lists;

    template <class Options>
    results(shape const& s, Options const& o)
        : output("output", s.batch, s.queries, s.query_heads, s.value_dim), sparse("sparse", s.batch, s.queries, s.query_heads, s.value_dim),
          residual("residual", s.batch, s.queries, s.query_heads, s.value_dim), lse("lse", s.batch, s.queries, s.query_heads)
    {
        auto const tiles = spla::tile_count(s.queries, s.keys, spla::window_of(o).tile);
        lists.indices = decltype(lists.indices)("lists", s.batch, tiles, s.key_heads, std::max(1, o.top_k));
        lists.lengths = decltype(lists.lengths)("lengths", s.batch, tiles, s.key_heads);
        Kokkos::deep_copy(output, std::numeric_limits<T>::quiet_NaN()); // every element must be written
        Kokkos::deep_copy(sparse, output);
        Kokkos::deep_copy(residual, output);
        Kokkos::deep_copy(lists.indices, -7);
        Kokkos::deep_copy(lists.lengths, -7);
    }
    spla::attention_extras<Element> extras(bool with_residual = true) const
    {
        spla::attention_extras<Element> e;
        e.return_lists(lists).return_lse(lse);
        if (with_residual) e.return_branches(sparse, residual);
        return e;
    }
    spla::reference::lists chosen(int b) const
    {
        auto const indices = Kokkos::create_mirror_view_and_copy(Kokkos::HostSpace{}, lists.indices);
        auto const lengths = Kokkos::create_mirror_view_and_copy(Kokkos::HostSpace{}, lists.lengths);
        spla::reference::lists made(indices.extent(1));
        for (std::size_t t = 0; t < indices.extent(1); ++t)
            for (std::size_t h = 0; h < indices.extent(2); ++h)
            {
                made[t].emplace_back();
                for (int i = 0; i < lengths(b, t, h); ++i) made[t].back().push_back(indices(b, t, h, i));
            }
        return made;
    }
};

template <class Exec, class Element, class Metric, class FeatureMap>
results<Exec, Element> run_prefill(data<Exec, Element> const& d, spla::options<Metric, FeatureMap> const& o)
{
    Exec const exec;
    results<Exec, Element> r(d.size, o);
    auto state = spla::make_sequence_state(exec, d.problem(), o);
    auto const scratch = spla::make_workspace(exec, spla::plan_prefill(exec, d.problem(), o));
    spla::prefill(exec, d.query, d.key, d.value, r.output, state, o, scratch,
                  r.extras(o.combine != spla::combination_kind::sparse_only));
    exec.fence();
    return r;
}

struct verdict
{
    spla::reference::comparison arithmetic;
    int lists = 0, near_ties = 0, wrong_lists = 0;
    std::string first_wrong;
    bool passed() const { return arithmetic.passed && wrong_lists == 0; }
    std::string text() const
    {
        return arithmetic.text() + "; " + std::to_string(lists) + " lists, " + std::to_string(near_ties) + " near-ties, " +
               std::to_string(wrong_lists) + " wrong " + first_wrong;
    }
};

/// Lists equal to the reference's but for near-ties: where they differ, every block of one side alone has a mass within
/// the score bound of the mass at the cut.
inline void hold_lists(verdict& v, spla::reference::lists const& chosen, spla::reference::selection const& truth, bool with_top_p)
{
    for (std::size_t t = 0; t < chosen.size(); ++t)
        for (std::size_t h = 0; h < chosen[t].size(); ++h)
        {
            ++v.lists;
            auto const& a = chosen[t][h];
            auto const& b = truth.chosen[t][h];
            if (a == b) continue;
            auto const& mass = truth.mass[t][h];
            double cut = std::numeric_limits<double>::infinity();
            for (int block : b) cut = std::min(cut, mass[block - truth.first[t]]);
            double const tolerance = std::expm1(4 * truth.score_error[t][h]);
            bool fine = std::is_sorted(a.begin(), a.end()) && (with_top_p || a.size() == b.size());
            for (int block : a)
                fine = fine && block >= truth.first[t] && block < truth.first[t] + static_cast<int>(mass.size()) &&
                       (std::binary_search(b.begin(), b.end(), block) || mass[block - truth.first[t]] >= cut * (1 - tolerance));
            for (int block : b)
                fine = fine && (std::binary_search(a.begin(), a.end(), block) || mass[block - truth.first[t]] <= cut * (1 + tolerance) || with_top_p);
            if (fine)
                ++v.near_ties;
            else if (!v.wrong_lists++)
                v.first_wrong = "(tile " + std::to_string(t) + ", key head " + std::to_string(h) + ")";
        }
}

template <class View>
spla::reference::matrix head_of(View const& view, int batch, int head)
{
    return spla::reference::heads_of(view, batch)[head];
}

/// Holds results against the reference, branch by branch, with bounds computed from types and sizes.
template <class Exec, class Element, class Metric, class FeatureMap>
verdict hold(data<Exec, Element> const& d, results<Exec, Element> const& r, spla::options<Metric, FeatureMap> const& o)
{
    using T = spla::accumulator_t<Element>;
    verdict v;
    double const u = std::is_same_v<T, double> ? 0x1p-53 : 0x1p-24;
    bool const residual = o.combine != spla::combination_kind::sparse_only;
    for (int b = 0; b < d.size.batch; ++b)
    {
        auto const x = d.sequence(b);
        if (d.size.queries == 0 || d.size.keys == 0) continue;
        auto const chosen = r.chosen(b);
        hold_lists(v, chosen, spla::reference::select(x, o, spla::resolve(o.storage, spla::kind_of<Element>()), 0x1p-24), o.top_p < 1);
        auto const truth = spla::reference::attend(x, chosen, o, u, u);
        auto const lse = Kokkos::create_mirror_view_and_copy(Kokkos::HostSpace{}, r.lse);
        for (int h = 0; h < d.size.query_heads; ++h)
        {
            std::string const at = "[batch " + std::to_string(b) + ", head " + std::to_string(h) + "]";
            if (residual)
            {
                v.arithmetic.add("sparse" + at, head_of(r.sparse, b, h), truth.sparse[h], truth.sparse_bound[h]);
                v.arithmetic.add("residual" + at, head_of(r.residual, b, h), truth.residual[h], truth.residual_bound[h]);
            }
            if (o.combine != spla::combination_kind::separate)
                v.arithmetic.add("output" + at, head_of(r.output, b, h), truth.output[h], truth.output_bound[h]);
            for (int i = 0; i < d.size.queries; ++i)
                v.arithmetic.add(lse(b, i, h), truth.lse[h][i], truth.lse_bound[h][i], "lse" + at + std::to_string(i));
        }
    }
    return v;
}

} // namespace spla_test
