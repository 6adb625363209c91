// SPDX-FileCopyrightText: The spla authors
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once
#include "../conformance/core.hpp"
#include "../conformance/step_core.hpp"
#include "engine.hpp"

/// Problems of different sizes, packed into steps of one batch, so that the conformance suite holds each against the
/// reference as it holds a fixed batch.
namespace spla_test
{

/// A tensor as engines keep it: [token, head, dim], from what the sequences hold one after the other.
template <class T, class Space>
Kokkos::View<T***, Kokkos::LayoutRight, Space> packed_rows(std::vector<host_view<T>> const& parts, int heads, int dim)
{
    std::size_t total = 0;
    for (auto const& p : parts) total += p.extent(1);
    Kokkos::View<T***, Kokkos::LayoutRight, Space> const made("rows", total, heads, dim);
    auto const host = Kokkos::create_mirror_view(made);
    std::size_t at = 0;
    for (auto const& p : parts) at = std::copy_n(p.data(), p.size(), host.data() + at) - host.data();
    Kokkos::deep_copy(made, host);
    return made;
}

/// Tokens [begin, end) of a sequence, on the host.
template <class T>
host_view<T> rows_of(host_view<T> const& v, int begin, int end)
{
    host_view<T> const made("rows", 1, end - begin, v.extent(2), v.extent(3));
    std::copy_n(v.data() + static_cast<std::size_t>(begin) * v.extent(2) * v.extent(3), made.size(), made.data());
    return made;
}

template <class Exec, class Element>
class ragged_batch
{
public:
    using problem_data = data<Exec, Element>;
    using made_results = results<Exec, Element>;
    using space = typename Exec::memory_space;
    using options = spla::options<>;

    /// Every problem is a batch of one; heads, widths and weights are those of the first. Pages hold two blocks. least:
    /// limits that are raised to what the problems need. writes: the step with the queries puts its tokens into the
    /// cache, where NaN stands until then.
    ragged_batch(std::vector<problem_data> const& problems, options const& o, cache_layout layout,
                 spla::batch_limits const& least = {}, bool writes = false);

    spla::plan const& plan() const { return plan_.how; }
    /// Of the step with the queries.
    spla::batch_plan<Element, options> const& step_plan() const { return step_plan_; }

    /// All keys that come before a problem's queries in one step, then the queries of all in another, which has a plan
    /// of its own where all have few.
    std::vector<made_results> run();
    /// The same with a caller's lists, [tile] of each problem as results hold them.
    std::vector<made_results> run_with(std::vector<int_lists<space>> const& given);
    /// The queries of all one after another, each in a step of its own.
    std::vector<made_results> run_by_tokens();

private:
    using tokens_view = Kokkos::View<Element***, Kokkos::LayoutRight, space>;
    using cache_view = Kokkos::View<Element****, Kokkos::LayoutRight, space>;
    using indices = Kokkos::View<std::int32_t*, space>;
    using branches = Kokkos::View<spla::accumulator_t<Element>***, Kokkos::LayoutRight, space>;

    int count() const { return static_cast<int>(d_.size()); }
    indices numbers(std::vector<int> const& values) const;
    cache_view cache_of(std::vector<host_view<Element>> const& keys, int heads, int dim) const;
    /// Sequences interleaved, and from the cache's end.
    int page(int b, int i) const { return count() * width_ - 1 - (i * count() + b); }
    void step(std::vector<int> const& begin, std::vector<int> const& end, std::vector<made_results>* made,
              std::vector<int_lists<space>> const* given);

    std::vector<problem_data> const& d_;
    options o_;
    cache_layout layout_;
    bool writes_;
    int page_tokens_, capacity_, width_ = 1;
    Exec exec_;
    std::vector<host_view<Element>> query_, key_, value_, residual_query_, residual_key_;
    cache_view keys_, values_, residual_keys_;
    spla::batch_plan<Element, options> plan_, step_plan_;
    spla::state_pool<space> pool_;
    spla::workspace<space> scratch_, step_scratch_;
};

template <class Exec, class Element>
ragged_batch<Exec, Element>::ragged_batch(std::vector<problem_data> const& problems, options const& o,
                                          cache_layout layout, spla::batch_limits const& least, bool writes)
    : d_(problems), o_(o), layout_(layout), writes_(writes), page_tokens_(2 * o.block), capacity_(page_tokens_)
{
    shape const& z = d_[0].size;
    for (auto const& d : d_)
    {
        while (capacity_ < d.size.keys) capacity_ += page_tokens_;
        query_.push_back(on_host(d.query)), key_.push_back(on_host(d.key)), value_.push_back(on_host(d.value));
        if (z.residual_dim > 0)
            residual_query_.push_back(on_host(d.residual_query)), residual_key_.push_back(on_host(d.residual_key));
    }
    width_ = capacity_ / page_tokens_;
    keys_ = cache_of(key_, z.key_heads, z.head_dim);
    values_ = cache_of(value_, z.key_heads, z.value_dim);
    if (z.residual_dim > 0) residual_keys_ = cache_of(residual_key_, z.key_heads, z.residual_dim);
    spla::batch_limits l;
    static_cast<spla::problem&>(l) = d_[0].problem();
    l.batch = count(), l.queries = l.keys = std::max<std::int64_t>(capacity_, least.keys);
    l.prefilled = least.prefilled, l.tokens = least.tokens;
    bool const pages = layout_ == cache_layout::pages;
    spla::pool_sizes const sizes{count(), pages ? count() * width_ : 0, pages ? page_tokens_ : capacity_, 0};
    plan_ = spla::plan_batch<Element>(exec_, l, o_, 20);
    pool_ = spla::make_state_pool(exec_, l, sizes, o_);
    scratch_ = spla::make_workspace(exec_, plan_);
    // Engines that decode alone plan for it.
    int most = 0;
    for (auto const& d : d_) most = std::max(most, d.size.queries);
    step_plan_ = plan_, step_scratch_ = scratch_;
    if (most <= spla::detail::decode_queries)
    {
        l.queries = std::max(most, 1), l.tokens = 0;
        step_plan_ = spla::plan_batch<Element>(exec_, l, o_, 20);
        step_scratch_ = spla::make_workspace(exec_, step_plan_);
        Kokkos::deep_copy(step_scratch_, std::byte{0xff});
    }
    Kokkos::deep_copy(pool_.buffer(), std::byte{0xff}); // NaN in every type
    Kokkos::deep_copy(scratch_, std::byte{0xff});
}

template <class Exec, class Element>
auto ragged_batch<Exec, Element>::numbers(std::vector<int> const& values) const -> indices
{
    indices const made("numbers", values.size());
    auto const host = Kokkos::create_mirror_view(made);
    std::copy(values.begin(), values.end(), host.data());
    Kokkos::deep_copy(made, host);
    return made;
}

template <class Exec, class Element>
auto ragged_batch<Exec, Element>::cache_of(std::vector<host_view<Element>> const& keys, int heads, int dim) const
    -> cache_view
{
    bool const pages = layout_ == cache_layout::pages;
    int const rows = pages ? count() * width_ : count(), tokens = pages ? page_tokens_ : capacity_;
    cache_view const made("cache", rows, tokens, heads, dim);
    auto const host = Kokkos::create_mirror_view(made);
    std::fill_n(host.data(), host.size(), narrow<Element>(std::numeric_limits<double>::quiet_NaN()));
    std::size_t const token = static_cast<std::size_t>(heads) * dim;
    for (int b = 0; b < count(); ++b)
        for (int t = 0; t < d_[b].size.keys - (writes_ ? d_[b].size.queries : 0); ++t)
        {
            std::size_t const at =
                pages ? page(b, t / page_tokens_) * page_tokens_ + t % page_tokens_ : b * capacity_ + t;
            std::copy_n(keys[b].data() + t * token, token, host.data() + at * token);
        }
    Kokkos::deep_copy(made, host);
    return made;
}

template <class Exec, class Element>
void ragged_batch<Exec, Element>::step(std::vector<int> const& begin, std::vector<int> const& end,
                                       std::vector<made_results>* made, std::vector<int_lists<space>> const* given)
{
    shape const& z = d_[0].size;
    int const n = count();
    auto const tile = spla::window_of(o_).tile;
    std::vector<int> first{0}, first_key{0}, slot;
    std::vector<host_view<Element>> query, residual_query, key, value, residual_key, new_key, new_value;
    for (int b = 0; b < n; ++b)
    {
        first.push_back(first.back() + end[b] - begin[b]);
        first_key.push_back(first_key.back() + end[b]);
        slot.push_back((b + 1) % n);
        if (layout_ == cache_layout::slots) slot.back() = b; // the cache's row
        int const before = d_[b].size.keys - d_[b].size.queries;
        auto const part = [&](std::vector<host_view<Element>> const& of) {
            if (made) return rows_of(of[b], begin[b] - before, end[b] - before);
            return host_view<Element>("zeros", 1, end[b] - begin[b], of[b].extent(2), of[b].extent(3));
        };
        query.push_back(part(query_));
        key.push_back(rows_of(key_[b], 0, end[b])), value.push_back(rows_of(value_[b], 0, end[b]));
        new_key.push_back(rows_of(key_[b], begin[b], end[b])),
            new_value.push_back(rows_of(value_[b], begin[b], end[b]));
        if (z.residual_dim == 0) continue;
        residual_query.push_back(part(residual_query_)), residual_key.push_back(rows_of(residual_key_[b], 0, end[b]));
    }
    int const total = first.back();
    auto const q = packed_rows<Element, space>(query, z.query_heads, z.head_dim);
    branches const output("output", total, z.query_heads, z.value_dim), sparse("sparse", output.layout()),
        residual("residual", output.layout());
    Kokkos::View<spla::accumulator_t<Element>**, Kokkos::LayoutRight, space> const lse("lse", total, z.query_heads);
    auto const lists = unwritten_lists<space>(1, spla::detail::most_lists(total, n, tile), z.key_heads, o_.top_k);
    auto const own = unwritten_lists<space>(1, lists.indices.extent(1), z.key_heads, 20);
    if (given)
    {
        auto const all = on_host(own);
        int row = 0;
        for (int b = 0; b < n; ++b)
        {
            auto const from = on_host((*given)[b]);
            for (int t = 0; t < spla::tile_count(end[b] - begin[b], end[b], tile); ++t, ++row)
                for (int h = 0; h < z.key_heads; ++h)
                {
                    all.lengths(0, row, h) = from.lengths(0, t, h);
                    for (std::size_t i = 0; i < from.indices.extent(3); ++i)
                        all.indices(0, row, h, i) = from.indices(0, t, h, i);
                }
        }
        from_host(all, own);
    }
    auto const packed_lse = spla::packed(lse);
    spla::attention_extras<Element> e;
    e.return_lse(packed_lse);
    if (given)
        e.use_lists(own);
    else
        e.return_lists(lists);
    if (o_.combine != spla::combination_kind::sparse_only)
        e.return_branches(spla::packed(sparse), spla::packed(residual));
    if (d_[0].sparse_weight.size() > 0) e.norm_weights(d_[0].sparse_weight, d_[0].residual_weight);
    spla::sequence_batch<space> const batch{numbers(first), numbers(end), numbers(slot)};
    auto const residual_q = packed_rows<Element, space>(residual_query, z.query_heads, z.residual_dim);
    spla::new_tokens const fresh{packed_rows<Element, space>(new_key, z.key_heads, z.head_dim),
                                 packed_rows<Element, space>(new_value, z.key_heads, z.value_dim)};
    auto const run = [&](auto const& cache, auto const& residual_cache) {
        if (z.residual_dim > 0) e.residual_inputs(spla::packed(residual_q), residual_cache);
        if constexpr (!requires { cache.key_offsets; })
            if (made && writes_)
                return spla::run_batch(exec_, step_plan_, batch, q, fresh, cache, output, pool_, step_scratch_, e);
        if (made)
            spla::run_batch(exec_, step_plan_, batch, q, cache, output, pool_, step_scratch_, e);
        else
            spla::run_batch(exec_, plan_, batch, q, cache, output, pool_, scratch_, e);
    };
    if (layout_ == cache_layout::packed)
    {
        auto const k = packed_rows<Element, space>(key, z.key_heads, z.head_dim);
        auto const v = packed_rows<Element, space>(value, z.key_heads, z.value_dim);
        auto const r = packed_rows<Element, space>(residual_key, z.key_heads, z.residual_dim);
        run(spla::packed_keys{k, v, numbers(first_key)}, spla::packed(r));
        exec_.fence();
    }
    else if (layout_ == cache_layout::slots)
        run(spla::slot_cache<cache_view, cache_view>{keys_, values_}, residual_keys_);
    else
    {
        Kokkos::View<std::int32_t**, Kokkos::LayoutRight, space> const table("table", n, width_);
        auto const host = Kokkos::create_mirror_view(table);
        for (int b = 0; b < n; ++b)
            for (int i = 0; i < width_; ++i) host(b, i) = page(b, i);
        Kokkos::deep_copy(table, host);
        run(spla::paged_cache{keys_, values_, table}, residual_keys_);
    }
    exec_.fence();
    if (!made) return;

    auto const chosen = on_host(given ? own : lists);
    int row = 0;
    for (int b = 0; b < n; ++b)
    {
        shape s = d_[b].size;
        s.queries = end[b] - begin[b], s.keys = end[b];
        std::int64_t const tiles = spla::tile_count(s.queries, s.keys, tile);
        made_results r(s, tiles, static_cast<int>(chosen.indices.extent(3)));
        auto const take = [&](auto const& packed, auto const& to) {
            auto const host = Kokkos::create_mirror_view_and_copy(Kokkos::HostSpace{}, packed);
            auto const mine = on_host(to);
            std::copy_n(host.data() + first[b] * (mine.extent(2) * mine.extent(3)), mine.size(), mine.data());
            from_host(mine, to);
        };
        take(output, r.output), take(sparse, r.sparse), take(residual, r.residual), take(lse, r.lse);
        auto const mine = on_host(r.lists);
        for (std::int64_t t = 0; t < tiles; ++t, ++row)
            for (int h = 0; h < s.key_heads; ++h)
            {
                mine.lengths(0, t, h) = chosen.lengths(0, row, h);
                for (std::size_t i = 0; i < mine.indices.extent(3); ++i)
                    mine.indices(0, t, h, i) = chosen.indices(0, row, h, i);
            }
        from_host(mine, r.lists);
        made->push_back(r);
    }
}

template <class Exec, class Element>
auto ragged_batch<Exec, Element>::run_with(std::vector<int_lists<space>> const& given) -> std::vector<made_results>
{
    std::vector<int> none, before, all;
    for (auto const& d : d_)
        none.push_back(0), before.push_back(d.size.keys - d.size.queries), all.push_back(d.size.keys);
    std::vector<made_results> made;
    step(none, before, nullptr, nullptr);
    step(before, all, &made, given.empty() ? nullptr : &given);
    return made;
}

template <class Exec, class Element>
auto ragged_batch<Exec, Element>::run() -> std::vector<made_results>
{
    return run_with({});
}

template <class Exec, class Element>
auto ragged_batch<Exec, Element>::run_by_tokens() -> std::vector<made_results>
{
    std::vector<int> none, before;
    std::vector<made_results> all;
    int steps = 0;
    for (auto const& d : d_)
    {
        none.push_back(0), before.push_back(d.size.keys - d.size.queries);
        steps = std::max(steps, d.size.queries);
        all.emplace_back(d.size, o_);
    }
    step(none, before, nullptr, nullptr);
    for (int t = 0; t < steps; ++t)
    {
        std::vector<int> begin, end;
        for (int b = 0; b < count(); ++b)
        {
            begin.push_back(std::min(before[b] + t, d_[b].size.keys));
            end.push_back(std::min(before[b] + t + 1, d_[b].size.keys));
        }
        std::vector<made_results> made;
        step(begin, end, &made, nullptr);
        for (int b = 0; b < count(); ++b)
        {
            if (begin[b] == end[b]) continue;
            auto const place = [&](auto const& row, auto const& rows) {
                std::copy_n(row.data(), row.size(), rows.data() + t * row.size());
            };
            auto const place_row = [&](auto const& from, auto const& to) {
                auto const rows = on_host(to);
                place(on_host(from), rows);
                from_host(rows, to);
            };
            place_row(made[b].output, all[b].output), place_row(made[b].sparse, all[b].sparse);
            place_row(made[b].residual, all[b].residual), place_row(made[b].lse, all[b].lse);
            auto const from = on_host(made[b].lists), to = on_host(all[b].lists);
            place(from.indices, to.indices), place(from.lengths, to.lengths);
            from_host(to, all[b].lists);
        }
    }
    return all;
}

} // namespace spla_test
