// SPDX-FileCopyrightText: The spla authors
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
// Lesson 7: a shared prefix. A system prompt is prefilled once; every request that begins with it is a fork: its state
// is copied from slot to slot, and its whole pages are shared by naming them in more than one page table. Their block
// summaries lie with the pages, so nothing of the prefix is computed or stored again.
//
// Prints:
//     a prefix of 600 tokens: 4 pages shared by 3 requests, 1 page copied for each
//     request 1: 40 tokens after the prefix, the same bits as without sharing: yes
//     ...
#include <spla/spla.hpp>

#include <algorithm>
#include <cstdio>
#include <vector>

using space = Kokkos::DefaultExecutionSpace;
using memory = space::memory_space;
using tokens_view = Kokkos::View<float***, Kokkos::LayoutRight, memory>;
using cache_view = Kokkos::View<float****, Kokkos::LayoutRight, memory>;
using indices = Kokkos::View<std::int32_t*, memory>;

constexpr int query_heads = 4, key_heads = 2, width = 32;
constexpr int prefix = 600, requests = 3, page_tokens = 128, pages = 32, longest = 1024, chunk = 256;

/// What a model would compute: numbers made of who says the token and where. The prefix is said by nobody in
/// particular.
void model(int who, int position, float* row, int numbers, unsigned what)
{
    unsigned seed = static_cast<unsigned>((position < prefix ? 0 : who) * 7919 + position) * 2654435761u + what;
    for (int i = 0; i < numbers; ++i)
    {
        seed = seed * 1664525u + 1013904223u;
        row[i] = static_cast<float>(seed >> 8) * 0x1p-23f - 1.0f;
    }
}

/// An engine for one sequence a step.
struct server
{
    space exec;
    spla::options<> options{.top_k = 4};
    spla::batch_limits limits = sizes();
    spla::batch_plan<float, spla::options<>> plan = spla::plan_batch<float>(exec, limits, options);
    spla::workspace<memory> scratch = spla::make_workspace(exec, plan);
    spla::state_pool<memory> pool = spla::make_state_pool(
        exec, limits, {.slots = requests + 1, .pages = pages, .page_tokens = page_tokens}, options);
    cache_view keys{"keys", pages, page_tokens, key_heads, width},
        values{"values", pages, page_tokens, key_heads, width};
    int used_pages = 0;

    static spla::batch_limits sizes()
    {
        spla::batch_limits l;
        l.batch = 1, l.queries = chunk, l.keys = longest;
        l.query_heads = query_heads, l.key_heads = key_heads, l.head_dim = l.value_dim = width;
        return l;
    }
    /// Tokens [begin, end) of a request; the output of the last.
    std::vector<float> step(int who, int slot, std::vector<int>& own, int begin, int end)
    {
        while (static_cast<int>(own.size()) * page_tokens < end) own.push_back(used_pages++);
        int const n = end - begin;
        indices const offsets("offsets", 2), lengths("lengths", 1), slots("slots", 1);
        Kokkos::View<std::int32_t**, Kokkos::LayoutRight, memory> const table("table", 1, longest / page_tokens);
        tokens_view const query("query", n, query_heads, width), key("key", n, key_heads, width),
            value("value", n, key_heads, width), output("output", n, query_heads, width);
        auto const put = [](auto const& view, auto const& fill) {
            auto const host = Kokkos::create_mirror_view(view);
            fill(host);
            Kokkos::deep_copy(view, host);
        };
        put(offsets, [&](auto const& h) { h(0) = 0, h(1) = n; });
        put(lengths, [&](auto const& h) { h(0) = end; });
        put(slots, [&](auto const& h) { h(0) = slot; });
        put(table, [&](auto const& h) { std::copy(own.begin(), own.end(), h.data()); });
        put(query, [&](auto const& h) {
            for (int t = 0; t < n; ++t) model(who, begin + t, &h(t, 0, 0), query_heads * width, 1);
        });
        put(key, [&](auto const& h) {
            for (int t = 0; t < n; ++t) model(who, begin + t, &h(t, 0, 0), key_heads * width, 2);
        });
        put(value, [&](auto const& h) {
            for (int t = 0; t < n; ++t) model(who, begin + t, &h(t, 0, 0), key_heads * width, 3);
        });
        spla::sequence_batch<memory> const batch{offsets, lengths, slots};
        spla::paged_cache const cache{keys, values, table};
        spla::write_cache(exec, plan, batch, key, value, cache, pool);
        spla::run_batch(exec, plan, batch, query, cache, output, pool, scratch);
        exec.fence();
        auto const host = Kokkos::create_mirror_view_and_copy(Kokkos::HostSpace{}, output);
        float const* const last = &host(n - 1, 0, 0);
        return {last, last + query_heads * width};
    }
    void prefill(int who, int slot, std::vector<int>& own)
    {
        for (int at = 0; at < prefix; at += chunk) step(who, slot, own, at, std::min(at + chunk, prefix));
    }
    /// The pages of a fork: whole ones shared, the one that both would write copied, with its summaries.
    std::vector<int> fork(int from, int to, std::vector<int> const& of)
    {
        auto const one = [](int number) {
            indices const v("number", 1);
            Kokkos::deep_copy(v, number);
            return v;
        };
        spla::fork_slots(exec, pool, one(from), one(to));
        std::vector<int> own = of;
        if (prefix % page_tokens != 0)
        {
            int const shared = own.back();
            own.back() = used_pages++;
            spla::fork_pages(exec, pool, one(shared), one(own.back()));
            auto const copy = [&](cache_view const& cache) {
                Kokkos::deep_copy(exec, Kokkos::subview(cache, own.back(), Kokkos::ALL, Kokkos::ALL, Kokkos::ALL),
                                  Kokkos::subview(cache, shared, Kokkos::ALL, Kokkos::ALL, Kokkos::ALL));
            };
            copy(keys), copy(values);
        }
        exec.fence();
        return own;
    }
};

int main(int count, char* arguments[])
{
    Kokkos::ScopeGuard const kokkos(count, arguments);
    int const after[requests] = {40, 1, 200};
    server shared;
    std::vector<int> of_prefix;
    shared.prefill(0, 0, of_prefix);
    std::printf("a prefix of %d tokens: %d pages shared by %d requests, 1 page copied for each\n", prefix,
                prefix / page_tokens, requests);
    bool all = true;
    std::vector<float> before;
    for (int r = 1; r <= requests; ++r)
    {
        auto own = shared.fork(0, r, of_prefix);
        server alone;
        std::vector<int> unshared;
        alone.prefill(r, 0, unshared);
        std::vector<float> forked, whole;
        for (int t = prefix; t < prefix + after[r - 1]; ++t)
        {
            forked = shared.step(r, r, own, t, t + 1);
            whole = alone.step(r, 0, unshared, t, t + 1);
        }
        bool const same = forked == whole && forked != before; // requests do differ
        before = forked;
        all = all && same;
        std::printf("request %d: %d tokens after the prefix, the same bits as without sharing: %s\n", r, after[r - 1],
                    same ? "yes" : "NO");
    }
    return all ? 0 : 1;
}
