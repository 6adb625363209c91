// SPDX-FileCopyrightText: The spla authors
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
// Lesson 6: an engine. Requests come and go; their keys and values lie in pages of one cache, their states in slots of
// one pool. Every step serves whatever there is in one call: chunks of long prompts beside single new tokens. Slots and
// pages of finished requests go to others. What a request gets does not depend on who is served with it, bit for bit.
//
// Prints (the times are of one machine):
//     spla::run_batch: portable kernel (host space), ...
//     request   prompt   new tokens   first step   last step
//           1      900           24            1          31
//           ...
//     9 requests in 61 steps, 4 at a time; alone each gets the same bits: yes
#include <spla/spla.hpp>

#include <algorithm>
#include <cstdio>
#include <deque>
#include <iostream>
#include <vector>

using space = Kokkos::DefaultExecutionSpace;
using memory = space::memory_space;
using tokens_view = Kokkos::View<float***, Kokkos::LayoutRight, memory>;
using cache_view = Kokkos::View<float****, Kokkos::LayoutRight, memory>;
using table_view = Kokkos::View<std::int32_t**, Kokkos::LayoutRight, memory>;

constexpr int query_heads = 6, key_heads = 2, width = 32;
constexpr int at_once = 4, chunk = 128, longest = 1024, page_tokens = 128, page_count = 24;

struct request
{
    int number, prompt, wanted;
    int length = 0, slot = -1, first_step = 0, last_step = 0;
    std::vector<int> pages = {};
    std::vector<float> last_output = {}; ///< of its last token
    int end() const { return prompt + wanted; }
    bool finished() const { return length == end(); }
    /// New tokens of its next step: a chunk of the prompt, or one.
    int next() const { return length < prompt ? std::min(chunk, prompt - length) : 1; }
};

/// What a model would compute for a token: here numbers made of the request and the position.
void model(request const& r, int position, float* row, int numbers, unsigned what)
{
    unsigned seed = static_cast<unsigned>(r.number * 7919 + position) * 2654435761u + what;
    for (int i = 0; i < numbers; ++i)
    {
        seed = seed * 1664525u + 1013904223u;
        row[i] = static_cast<float>(seed >> 8) * 0x1p-23f - 1.0f;
    }
}

int serve(std::vector<request>& requests, bool print)
{
    space const exec;
    spla::options<> const options{.top_k = 4};
    spla::batch_limits limits;
    limits.batch = at_once, limits.queries = chunk, limits.keys = longest;
    limits.query_heads = query_heads, limits.key_heads = key_heads, limits.head_dim = limits.value_dim = width;
    auto const plan = spla::plan_batch<float>(exec, limits, options);
    auto const scratch = spla::make_workspace(exec, plan);
    auto const pool = spla::make_state_pool(
        exec, limits, {.slots = at_once, .pages = page_count, .page_tokens = page_tokens}, options);
    cache_view const keys("keys", page_count, page_tokens, key_heads, width),
        values("values", page_count, page_tokens, key_heads, width);
    spla::warm_up(exec, plan);
    if (print) std::cout << plan << '\n';

    // A step's arrays, as large as any: a graph captured over them would follow what they hold.
    table_view const table("page table", at_once, longest / page_tokens);
    Kokkos::View<std::int32_t*, memory> const offsets("offsets", at_once + 1), lengths("lengths", at_once),
        slots("slots", at_once);
    tokens_view const query("query", at_once * chunk, query_heads, width),
        output("output", at_once * chunk, query_heads, width), new_key("new key", at_once * chunk, key_heads, width),
        new_value("new value", at_once * chunk, key_heads, width);
    spla::sequence_batch<memory> const batch{offsets, lengths, slots};
    spla::paged_cache const cache{keys, values, table};
    auto const h_table = Kokkos::create_mirror_view(table);
    auto const h_offsets = Kokkos::create_mirror_view(offsets), h_lengths = Kokkos::create_mirror_view(lengths),
               h_slots = Kokkos::create_mirror_view(slots);
    auto const h_query = Kokkos::create_mirror_view(query), h_output = Kokkos::create_mirror_view(output),
               h_key = Kokkos::create_mirror_view(new_key), h_value = Kokkos::create_mirror_view(new_value);

    std::deque<request*> waiting;
    for (request& r : requests) waiting.push_back(&r);
    std::vector<request*> running;
    std::vector<int> free_pages(page_count), free_slots(at_once);
    for (int i = 0; i < page_count; ++i) free_pages[i] = (i * 7) % page_count; // any order
    for (int i = 0; i < at_once; ++i) free_slots[i] = i;

    int step = 0;
    for (; !waiting.empty() || !running.empty(); ++step)
    {
        // Admit: a slot, and pages for all that the request will have.
        while (!waiting.empty() && !free_slots.empty())
        {
            request& r = *waiting.front();
            auto const needed = static_cast<std::size_t>((r.end() + page_tokens - 1) / page_tokens);
            if (free_pages.size() < needed) break;
            r.slot = free_slots.back(), free_slots.pop_back();
            for (std::size_t i = 0; i < needed; ++i) r.pages.push_back(free_pages.back()), free_pages.pop_back();
            r.first_step = step;
            running.push_back(&r), waiting.pop_front();
        }
        // Fill the step's arrays. What is behind the last sequence is padding: offsets that do not grow.
        int row = 0;
        for (int b = 0; b < at_once; ++b)
        {
            h_offsets(b) = row;
            if (b >= static_cast<int>(running.size())) continue;
            request& r = *running[b];
            for (int n = r.next(); n > 0; --n, ++row, ++r.length)
            {
                model(r, r.length, &h_query(row, 0, 0), query_heads * width, 1);
                model(r, r.length, &h_key(row, 0, 0), key_heads * width, 2);
                model(r, r.length, &h_value(row, 0, 0), key_heads * width, 3);
            }
            h_lengths(b) = r.length, h_slots(b) = r.slot;
            for (std::size_t i = 0; i < r.pages.size(); ++i) h_table(b, i) = r.pages[i];
        }
        h_offsets(at_once) = row;
        Kokkos::deep_copy(exec, offsets, h_offsets), Kokkos::deep_copy(exec, lengths, h_lengths);
        Kokkos::deep_copy(exec, slots, h_slots), Kokkos::deep_copy(exec, table, h_table);
        Kokkos::deep_copy(exec, query, h_query), Kokkos::deep_copy(exec, new_key, h_key);
        Kokkos::deep_copy(exec, new_value, h_value);

        spla::run_batch(exec, plan, batch, query, spla::new_tokens{new_key, new_value}, cache, output, pool, scratch);

        Kokkos::deep_copy(exec, h_output, output);
        exec.fence();
        // Finished requests leave. A slot needs no clearing: its next sequence begins with its own first token.
        for (std::size_t b = 0; b < running.size(); ++b)
        {
            request& r = *running[b];
            if (!r.finished()) continue;
            float const* const last = &h_output(h_offsets(b + 1) - 1, 0, 0);
            r.last_output.assign(last, last + query_heads * width);
            r.last_step = step;
            free_slots.push_back(r.slot);
            free_pages.insert(free_pages.end(), r.pages.begin(), r.pages.end());
        }
        std::erase_if(running, [](request* r) { return r->finished(); });
    }
    return step;
}

int main(int count, char* arguments[])
{
    Kokkos::ScopeGuard const kokkos(count, arguments);
    std::vector<request> requests;
    int const prompts[] = {900, 40, 513, 1, 700, 128, 64, 330, 999};
    for (int const prompt : prompts)
        requests.push_back({static_cast<int>(requests.size()) + 1, prompt, 10 + prompt % 15});
    std::vector<request> alone = requests;

    int const steps = serve(requests, true);
    std::printf("request   prompt   new tokens   first step   last step\n");
    for (request const& r : requests)
        std::printf("%7d %8d %12d %12d %11d\n", r.number, r.prompt, r.wanted, r.first_step, r.last_step);

    bool same = true;
    for (std::size_t i = 0; i < alone.size(); ++i)
    {
        std::vector<request> one{alone[i]};
        serve(one, false);
        same = same && one[0].last_output == requests[i].last_output && !one[0].last_output.empty();
    }
    bool const differ = requests[0].last_output != requests[1].last_output; // or equality would show nothing
    std::printf("%zu requests in %d steps, %d at a time; alone each gets the same bits: %s\n", requests.size(), steps,
                at_once, same && differ ? "yes" : "NO");
    return same && differ ? 0 : 1;
}
