// SPDX-FileCopyrightText: The spla authors
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once
#include "../conformance/core.hpp"
#include "../conformance/step_core.hpp"

#include <vector>

/// A small engine around run_batch(): its cache, its pages, its arrays; and what each step returned, on the host. What
/// no sequence has written is NaN in all of them.
namespace spla_test
{

enum class cache_layout
{
    slots,
    pages,
    packed
};

/// Sizes of the tests' engines: blocks of 16 (small_options()), pages of 32.
struct engine_sizes
{
    int query_heads = 4, key_heads = 2, head_dim = 16, value_dim = 12;
    int sequences = 4, slots = 8, capacity = 320, queries = 96, rewind = 40;
    int page_tokens = 32, pages = 96;
};

/// One sequence's part of a step.
struct step_part
{
    int slot, length;                   ///< tokens with the new ones
    host_view<float> query, key, value; ///< [1, count, heads, dim] of the new tokens; empty: padding
    int count() const { return static_cast<int>(query.extent(1)); }
};

struct step_result
{
    host_view<float> output, lse; ///< [1, count, Hq, Dv or 1]
    spla::reference::lists chosen;
};

template <class Exec>
class engine
{
public:
    using space = typename Exec::memory_space;
    using options = spla::options<>;
    using indices = Kokkos::View<std::int32_t*, space>;
    using cache_view = Kokkos::View<float****, Kokkos::LayoutRight, space>;
    using token_view = Kokkos::View<float***, Kokkos::LayoutRight, space>;

    engine(engine_sizes const& sizes, options const& o, cache_layout layout);

    /// One step of the parts, in their order. Padding is what its slot and length say: they must not matter.
    std::vector<step_result> step(std::vector<step_part> const& parts);
    /// Slot `to` continues where slot `from` is, at `length` tokens; whole pages are shared.
    void fork(int from, int to, int length);
    void release(int slot);
    /// Page p of a slot, shared so far, becomes its own: a copy.
    void own_page(int slot, int p);
    spla::batch_limits limits() const;
    spla::pool_sizes pool_sizes() const;

    engine_sizes sizes;
    options o;
    cache_layout layout;
    Exec exec;
    spla::batch_plan<float, options> plan;
    spla::state_pool<space> pool;
    spla::workspace<space> scratch;
    cache_view key, value;
    std::vector<std::vector<int>> pages; ///< of each slot
    std::vector<int> users;              ///< of each page
    /// packed: what each slot's sequence holds, on the host.
    std::vector<std::vector<float>> held_keys, held_values;

private:
    void reserve(int slot, int length);
    int free_page();
    void copy_page(int from, int to);
};

template <class Exec>
spla::batch_limits engine<Exec>::limits() const
{
    spla::batch_limits l;
    l.batch = sizes.sequences, l.queries = sizes.queries, l.keys = sizes.capacity;
    l.query_heads = sizes.query_heads, l.key_heads = sizes.key_heads;
    l.head_dim = sizes.head_dim, l.value_dim = sizes.value_dim;
    return l;
}

template <class Exec>
spla::pool_sizes engine<Exec>::pool_sizes() const
{
    if (layout == cache_layout::pages) return {sizes.slots, sizes.pages, sizes.page_tokens, sizes.rewind};
    return {sizes.slots, 0, sizes.capacity, sizes.rewind};
}

template <class Exec>
engine<Exec>::engine(engine_sizes const& given, options const& with, cache_layout in)
    : sizes(given), o(with), layout(in), plan(spla::plan_batch<float>(exec, limits(), with)),
      pool(spla::make_state_pool(exec, limits(), pool_sizes(), with)), scratch(spla::make_workspace(exec, plan)),
      pages(given.slots), users(given.pages, 0), held_keys(given.slots), held_values(given.slots)
{
    Kokkos::deep_copy(pool.buffer(), std::byte{0xff}); // NaN in every type
    Kokkos::deep_copy(scratch, std::byte{0xff});
    bool const in_pages = layout == cache_layout::pages;
    int const rows = in_pages ? sizes.pages : sizes.slots, tokens = in_pages ? sizes.page_tokens : sizes.capacity;
    key = cache_view("key cache", rows, tokens, sizes.key_heads, sizes.head_dim);
    value = cache_view("value cache", rows, tokens, sizes.key_heads, sizes.value_dim);
    Kokkos::deep_copy(key, std::numeric_limits<float>::quiet_NaN());
    Kokkos::deep_copy(value, std::numeric_limits<float>::quiet_NaN());
}

template <class Exec>
int engine<Exec>::free_page()
{
    for (int i = 0; i < sizes.pages; ++i) // a scattered order
        if (int const page = (i * 37 + 11) % sizes.pages; users[page] == 0) return page;
    return -1;
}

template <class Exec>
void engine<Exec>::reserve(int slot, int length)
{
    while (static_cast<int>(pages[slot].size()) * sizes.page_tokens < length)
    {
        pages[slot].push_back(free_page());
        ++users[pages[slot].back()];
    }
}

template <class Exec>
void engine<Exec>::release(int slot)
{
    for (int page : pages[slot]) --users[page];
    pages[slot].clear(), held_keys[slot].clear(), held_values[slot].clear();
}

template <class Exec>
void engine<Exec>::copy_page(int from, int to)
{
    indices const a("from", 1), b("to", 1);
    Kokkos::deep_copy(a, from), Kokkos::deep_copy(b, to);
    spla::fork_pages(exec, pool, a, b);
    Kokkos::deep_copy(exec, Kokkos::subview(key, to, Kokkos::ALL, Kokkos::ALL, Kokkos::ALL),
                      Kokkos::subview(key, from, Kokkos::ALL, Kokkos::ALL, Kokkos::ALL));
    Kokkos::deep_copy(exec, Kokkos::subview(value, to, Kokkos::ALL, Kokkos::ALL, Kokkos::ALL),
                      Kokkos::subview(value, from, Kokkos::ALL, Kokkos::ALL, Kokkos::ALL));
    exec.fence();
}

template <class Exec>
void engine<Exec>::own_page(int slot, int p)
{
    int const shared = pages[slot][p], own = free_page();
    copy_page(shared, own);
    --users[shared], ++users[own];
    pages[slot][p] = own;
}

template <class Exec>
void engine<Exec>::fork(int from, int to, int length)
{
    indices const a("from", 1), b("to", 1);
    Kokkos::deep_copy(a, from), Kokkos::deep_copy(b, to);
    spla::fork_slots(exec, pool, a, b);
    held_keys[to] = held_keys[from], held_values[to] = held_values[from];
    if (layout == cache_layout::slots)
    {
        Kokkos::deep_copy(exec, Kokkos::subview(key, to, Kokkos::ALL, Kokkos::ALL, Kokkos::ALL),
                          Kokkos::subview(key, from, Kokkos::ALL, Kokkos::ALL, Kokkos::ALL));
        Kokkos::deep_copy(exec, Kokkos::subview(value, to, Kokkos::ALL, Kokkos::ALL, Kokkos::ALL),
                          Kokkos::subview(value, from, Kokkos::ALL, Kokkos::ALL, Kokkos::ALL));
    }
    if (layout == cache_layout::pages)
        for (int p = 0; p * sizes.page_tokens < length; ++p)
        {
            int const page = pages[from][p];
            bool const whole = (p + 1) * sizes.page_tokens <= length;
            pages[to].push_back(whole ? page : free_page());
            ++users[pages[to].back()];
            if (whole) continue;
            copy_page(page, pages[to].back());
        }
    exec.fence();
}

template <class Exec>
std::vector<step_result> engine<Exec>::step(std::vector<step_part> const& parts)
{
    int const n = static_cast<int>(parts.size());
    int total = 0, keys = 0;
    for (auto const& p : parts)
    {
        total += p.count();
        if (p.count() > 0) keys += p.length;
    }
    indices const offsets("offsets", n + 1), lengths("lengths", n), slots("slots", n),
        key_offsets("key offsets", n + 1);
    int const width = sizes.capacity / sizes.page_tokens;
    Kokkos::View<std::int32_t**, Kokkos::LayoutRight, space> const table("page table", n, width);
    token_view const query("query", total, sizes.query_heads, sizes.head_dim);
    token_view const new_key("new key", total, sizes.key_heads, sizes.head_dim);
    token_view const new_value("new value", total, sizes.key_heads, sizes.value_dim);
    bool const packs = layout == cache_layout::packed;
    token_view const all_keys("keys", packs ? keys : 0, sizes.key_heads, sizes.head_dim);
    token_view const all_values("values", packs ? keys : 0, sizes.key_heads, sizes.value_dim);
    token_view const output("output", total, sizes.query_heads, sizes.value_dim);
    Kokkos::View<float**, Kokkos::LayoutRight, space> const lse("lse", total, sizes.query_heads);
    auto const tile = spla::window_of(o).tile;
    int const list_rows = static_cast<int>(spla::detail::most_lists(total, n, tile));
    auto const lists = unwritten_lists<space>(1, list_rows, sizes.key_heads, o.top_k);
    {
        auto const mirror = [](auto const& v) { return Kokkos::create_mirror_view(v); };
        auto const off = mirror(offsets), len = mirror(lengths), at = mirror(slots), koff = mirror(key_offsets);
        auto const pg = mirror(table);
        auto const q = mirror(query), nk = mirror(new_key), nv = mirror(new_value);
        auto const ks = mirror(all_keys), vs = mirror(all_values);
        Kokkos::deep_copy(pg, -7); // never a page
        int row = 0, key_row = 0;
        for (int b = 0; b < n; ++b)
        {
            auto const& p = parts[b];
            off(b) = row, koff(b) = p.count() > 0 ? key_row : -3, len(b) = p.length, at(b) = p.slot;
            if (p.count() == 0) continue;
            std::copy_n(p.query.data(), p.query.size(), q.data() + static_cast<std::size_t>(row) * q.stride(0));
            std::copy_n(p.key.data(), p.key.size(), nk.data() + static_cast<std::size_t>(row) * nk.stride(0));
            std::copy_n(p.value.data(), p.value.size(), nv.data() + static_cast<std::size_t>(row) * nv.stride(0));
            int const before = p.length - p.count();
            auto& hk = held_keys[p.slot];
            auto& hv = held_values[p.slot];
            hk.resize(static_cast<std::size_t>(before) * sizes.key_heads * sizes.head_dim);
            hv.resize(static_cast<std::size_t>(before) * sizes.key_heads * sizes.value_dim);
            hk.insert(hk.end(), p.key.data(), p.key.data() + p.key.size());
            hv.insert(hv.end(), p.value.data(), p.value.data() + p.value.size());
            if (packs)
            {
                std::copy(hk.begin(), hk.end(), ks.data() + static_cast<std::size_t>(key_row) * ks.stride(0));
                std::copy(hv.begin(), hv.end(), vs.data() + static_cast<std::size_t>(key_row) * vs.stride(0));
            }
            if (layout == cache_layout::pages)
            {
                reserve(p.slot, p.length);
                for (std::size_t i = 0; i < pages[p.slot].size(); ++i) pg(b, i) = pages[p.slot][i];
            }
            row += p.count(), key_row += p.length;
        }
        off(n) = row, koff(n) = key_row;
        Kokkos::deep_copy(offsets, off), Kokkos::deep_copy(lengths, len), Kokkos::deep_copy(slots, at);
        Kokkos::deep_copy(key_offsets, koff), Kokkos::deep_copy(table, pg), Kokkos::deep_copy(query, q);
        Kokkos::deep_copy(new_key, nk), Kokkos::deep_copy(new_value, nv);
        Kokkos::deep_copy(all_keys, ks), Kokkos::deep_copy(all_values, vs);
    }
    spla::sequence_batch<space> const batch{offsets, lengths, slots};
    auto const packed_lse = spla::packed(lse);
    spla::attention_extras<float> extras;
    extras.return_lse(packed_lse).return_lists(lists);
    if (layout == cache_layout::packed)
        spla::run_batch(exec, plan, batch, query, spla::packed_keys{all_keys, all_values, key_offsets}, output, pool,
                        scratch, extras);
    else if (layout == cache_layout::pages)
    {
        spla::paged_cache const cache{key, value, table};
        spla::write_cache(exec, plan, batch, new_key, new_value, cache, pool);
        spla::run_batch(exec, plan, batch, query, cache, output, pool, scratch, extras);
    }
    else
    {
        spla::slot_cache<cache_view, cache_view> const cache{key, value};
        spla::write_cache(exec, plan, batch, new_key, new_value, cache, pool);
        spla::run_batch(exec, plan, batch, query, cache, output, pool, scratch, extras);
    }
    exec.fence();
    auto const out = Kokkos::create_mirror_view_and_copy(Kokkos::HostSpace{}, output);
    auto const sums = Kokkos::create_mirror_view_and_copy(Kokkos::HostSpace{}, lse);
    auto const chosen = lists_of(on_host(lists), 0);
    std::vector<step_result> made(n);
    int row = 0, list = 0;
    for (int b = 0; b < n; ++b)
    {
        auto const& p = parts[b];
        made[b].output = host_view<float>("output", 1, p.count(), sizes.query_heads, sizes.value_dim);
        made[b].lse = host_view<float>("lse", 1, p.count(), sizes.query_heads, 1);
        if (p.count() == 0) continue;
        std::copy_n(out.data() + static_cast<std::size_t>(row) * out.stride(0), made[b].output.size(),
                    made[b].output.data());
        std::copy_n(sums.data() + static_cast<std::size_t>(row) * sums.stride(0), made[b].lse.size(),
                    made[b].lse.data());
        int const tiles = static_cast<int>(spla::tile_count(p.count(), p.length, tile));
        made[b].chosen.assign(chosen.begin() + list, chosen.begin() + list + tiles);
        row += p.count(), list += tiles;
    }
    return made;
}

extern template class engine<host>;
#if defined(SPLA_TEST_HAS_DEVICE)
extern template class engine<device>;
#endif
#if defined(SPLA_TEST_HAS_SERIAL)
extern template class engine<Kokkos::Serial>;
#endif

} // namespace spla_test
