// SPDX-FileCopyrightText: The spla authors
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#include "../conformance/core.hpp"
#include "../conformance/step_core.hpp"
#include "targets.hpp"

#include <cmath>
#include <vector>

using namespace spla_fuzz;
using spla_test::host;

namespace
{
using space = host::memory_space;
using indices = Kokkos::View<std::int32_t*, space>;
using table_view = Kokkos::View<std::int32_t**, Kokkos::LayoutRight, space>;
using token_view = Kokkos::View<float***, Kokkos::LayoutRight, space>;
using cache_view = Kokkos::View<float****, Kokkos::LayoutRight, space>;
using plan_type = spla::batch_plan<float, spla::options<>>;

constexpr int sequences = 3, tokens = 30, capacity = 64, page_tokens = 16, pages = 6, slots = 3;
constexpr int query_heads = 2, key_heads = 1, head_dim = 4, value_dim = 3, entries = 3;
constexpr float untouched = -77.0f;

spla::options<> small(bool checked, bool shared)
{
    spla::options<> o;
    o.block = 8, o.sink_blocks = 1, o.local_blocks = 1, o.top_k = 2, o.segment_tokens = 32;
    if (shared) o.share = spla::sharing::first_query(8);
    o.checked = checked;
    return o;
}

spla::batch_limits limits()
{
    spla::batch_limits l;
    l.batch = sequences, l.queries = 24, l.keys = capacity, l.tokens = tokens;
    l.query_heads = query_heads, l.key_heads = key_heads, l.head_dim = head_dim, l.value_dim = value_dim;
    return l;
}

template <class View>
View numbers(View const& v)
{
    for (std::size_t i = 0; i < v.size(); ++i)
        v.data()[i] = static_cast<float>((i * 2654435761u >> 7) % 17) * 0.25f - 2.0f;
    return v;
}

/// Every allocation is as large as the step says and no larger, so that a sanitizer sees the first number past it.
struct engine
{
    host exec;
    spla::pool_sizes sizes;
    plan_type plan, checked;
    spla::state_pool<space> pool;
    spla::workspace<space> scratch;
    token_view query = numbers(token_view("query", tokens, query_heads, head_dim));
    token_view output{"output", tokens, query_heads, value_dim};
    cache_view key, value;
    token_view new_key = numbers(token_view("new key", tokens, key_heads, head_dim));
    token_view new_value = numbers(token_view("new value", tokens, key_heads, value_dim));
    token_view packed_key = numbers(token_view("keys", 2 * capacity, key_heads, head_dim));
    token_view packed_value = numbers(token_view("values", 2 * capacity, key_heads, value_dim));

    engine(bool in_pages, bool shared)
        : sizes{slots, in_pages ? pages : 0, in_pages ? page_tokens : capacity, 16},
          plan(spla::plan_batch<float>(exec, limits(), small(false, shared), entries)),
          checked(spla::plan_batch<float>(exec, limits(), small(true, shared), entries)),
          pool(spla::make_state_pool(exec, limits(), sizes, small(false, shared))),
          scratch(spla::make_workspace(exec, checked)),
          key(numbers(cache_view("key", in_pages ? pages : slots, sizes.page_tokens, key_heads, head_dim))),
          value(numbers(cache_view("value", in_pages ? pages : slots, sizes.page_tokens, key_heads, value_dim)))
    {
        Kokkos::deep_copy(pool.buffer(), std::byte{0});
    }
};

/// Mostly what a step may say, sometimes anything.
std::int32_t number_near(number_source& s, int most)
{
    std::uint8_t const kind = s.byte();
    if (kind < 240) return kind % (most + 1);
    return kind < 248 ? static_cast<std::int32_t>(s.number()) : most + 1 - 2 * (kind % 2) * (most + 1);
}

struct step
{
    indices offsets{"offsets", sequences + 1}, lengths{"lengths", sequences}, slot{"slots", sequences},
        key_offsets{"key offsets", sequences + 1};
    table_view table{"table", sequences, capacity / page_tokens};
    spla_test::int_lists<space> lists =
        spla_test::unwritten_lists<space>(1, spla::detail::most_lists(tokens, sequences, 1), key_heads, entries);
    bool given = false;

    explicit step(number_source& s, std::vector<int>& held)
    {
        bool const plain = s.below(4) != 0; // offsets that rise, and lengths that follow from what was there
        for (int b = 0; b < sequences; ++b)
        {
            slot(b) = plain ? b : number_near(s, slots - 1);
            int const count = s.below(11);
            offsets(b + 1) = plain ? std::min(offsets(b) + count, tokens) : number_near(s, tokens);
            int& before = held[b];
            int const n = plain ? offsets(b + 1) - offsets(b) : 0;
            if (plain && before + n > capacity) before = 0;
            lengths(b) = plain ? before + n : number_near(s, capacity);
            if (plain) before += n;
            key_offsets(b + 1) = plain ? std::min(key_offsets(b) + 21, 64) : number_near(s, 2 * capacity);
            for (std::size_t i = 0; i < table.extent(1); ++i) table(b, i) = number_near(s, pages - 1);
        }
        if (!plain && s.flag()) offsets(0) = number_near(s, tokens);
        given = s.flag();
        if (!given) return;
        for (std::size_t i = 0; i < lists.lengths.size(); ++i) lists.lengths.data()[i] = number_near(s, entries);
        for (std::size_t i = 0; i < lists.indices.size(); ++i) lists.indices.data()[i] = number_near(s, 8);
    }
};

void run(engine const& e, plan_type const& plan, step const& t, bool packed)
{
    spla::attention_extras<float> extras;
    if (t.given) extras.use_lists(t.lists);
    spla::sequence_batch<space> const batch{t.offsets, t.lengths, t.slot};
    if (packed)
        spla::run_batch(e.exec, plan, batch, e.query, spla::packed_keys{e.packed_key, e.packed_value, t.key_offsets},
                        e.output, e.pool, e.scratch, extras);
    else if (e.sizes.pages > 0)
        spla::run_batch(e.exec, plan, batch, e.query, spla::paged_cache{e.key, e.value, t.table}, e.output, e.pool,
                        e.scratch, extras);
    else
        spla::run_batch(e.exec, plan, batch, e.query, spla::slot_cache<cache_view, cache_view>{e.key, e.value},
                        e.output, e.pool, e.scratch, extras);
    e.exec.fence();
}

void write(engine const& e, step const& t)
{
    spla::sequence_batch<space> const batch{t.offsets, t.lengths, t.slot};
    if (e.sizes.pages > 0)
        spla::write_cache(e.exec, e.plan, batch, e.new_key, e.new_value, spla::paged_cache{e.key, e.value, t.table},
                          e.pool);
    else
        spla::write_cache(e.exec, e.plan, batch, e.new_key, e.new_value,
                          spla::slot_cache<cache_view, cache_view>{e.key, e.value}, e.pool);
    e.exec.fence();
}

template <class View>
std::string bytes_of(View const& v)
{
    return {reinterpret_cast<char const*>(v.data()), v.size() * sizeof(*v.data())};
}
} // namespace

void spla_fuzz::steps(std::uint8_t const* data, std::size_t size)
{
    number_source s(data, size);
    int const layout = s.below(3);
    engine const e(layout == 0, s.flag());
    std::vector<int> held(sequences, 0);
    for (int i = 0; i < 6 && !s.empty(); ++i)
    {
        step const t(s, held);
        if (layout != 2) write(e, t);
        Kokkos::deep_copy(e.output, untouched);
        std::string const pool = bytes_of(e.pool.buffer()), output = bytes_of(e.output);
        std::string refusal;
        try
        {
            run(e, e.checked, t, layout == 2);
        } catch (spla::argument_error const& error)
        {
            refusal = error.what();
            must(printable(refusal), "a refusal is one printable line");
            must(bytes_of(e.pool.buffer()) == pool && bytes_of(e.output) == output, "a refused step writes nothing");
        }
        std::string const checked_pool = bytes_of(e.pool.buffer()), checked_output = bytes_of(e.output);
        std::memcpy(e.pool.buffer().data(), pool.data(), pool.size());
        Kokkos::deep_copy(e.output, untouched);
        run(e, e.plan, t, layout == 2); // unchecked: never out of bounds
        for (std::size_t n = 0; n < e.output.size(); ++n)
            must(std::isfinite(e.output.data()[n]), "outputs of finite inputs are finite");
        if (refusal.empty())
            must(bytes_of(e.pool.buffer()) == checked_pool && bytes_of(e.output) == checked_output,
                 "checked mode changes no result");
    }
}
