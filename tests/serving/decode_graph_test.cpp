// SPDX-FileCopyrightText: The spla authors
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
// Captured steps in bf16, in sizes that kernels of their own take on a Hopper: replays follow the lengths, pages and
// slots that stand in their arrays then, and give the bits of the same steps launched one by one.
#include "../catch.hpp"
#include "engine.hpp"

#include <random>

#if defined(KOKKOS_ENABLE_CUDA)

using namespace spla_test;

namespace
{
using space = device::memory_space;
using element = spla::bfloat16;
using rows = Kokkos::View<element***, Kokkos::LayoutRight, space>;
using host_rows = rows::HostMirror;
using cache_view = Kokkos::View<element****, Kokkos::LayoutRight, space>;
using indices = Kokkos::View<std::int32_t*, space>;
using step_plan = spla::batch_plan<element, spla::options<>>;

constexpr int sequences = 6, slots = 8, page_tokens = 128, capacity = 1536, key_heads = 2, group = 4, dim = 64;
constexpr int pages_each = capacity / page_tokens, most_tokens = 1024;

void good(cudaError_t e)
{
    INFO(cudaGetErrorString(e));
    REQUIRE(e == cudaSuccess);
}

spla::batch_limits limits(int queries)
{
    spla::batch_limits l;
    l.element = spla::element_kind::bfloat16;
    l.batch = sequences, l.queries = queries, l.keys = capacity;
    l.query_heads = group * key_heads, l.key_heads = key_heads, l.head_dim = l.value_dim = dim;
    return l;
}

/// Rows of all positions of a sequence.
host_rows text(unsigned seed, int heads)
{
    host_rows const made("text", capacity, heads, dim);
    std::mt19937 random(seed);
    std::normal_distribution<float> numbers;
    for (std::size_t i = 0; i < made.size(); ++i) made.data()[i] = element(numbers(random));
    return made;
}

/// What a step adds to a sequence.
struct part
{
    int sequence, begin, end;
};

/// An engine's cache, pool and arrays, at fixed addresses.
struct served
{
    device exec;
    step_plan mixed, decodes;
    spla::state_pool<space> pool;
    spla::workspace<space> scratch, decode_scratch;
    cache_view key, value;
    indices offsets, lengths, at;
    Kokkos::View<std::int32_t**, Kokkos::LayoutRight, space> table;
    rows query, new_key, new_value, output;

    explicit served(cudaStream_t stream)
        : exec(stream), mixed(spla::plan_batch<element>(exec, limits(most_tokens), block_options())),
          decodes(spla::plan_batch<element>(exec, limits(spla::detail::decode_queries), block_options())),
          pool(spla::make_state_pool(exec, limits(most_tokens), {slots, slots * pages_each, page_tokens, 0},
                                     block_options())),
          scratch(spla::make_workspace(exec, mixed)), decode_scratch(spla::make_workspace(exec, decodes)),
          key("keys", slots * pages_each, page_tokens, key_heads, dim), value("values", key.layout()),
          offsets("offsets", sequences + 1), lengths("lengths", sequences), at("slots", sequences),
          table("table", sequences, pages_each), query("query", most_tokens, group * key_heads, dim),
          new_key("new key", most_tokens, key_heads, dim), new_value("new value", new_key.layout()),
          output("output", query.layout())
    {
        Kokkos::deep_copy(pool.buffer(), std::byte{0xff}); // NaN
        Kokkos::deep_copy(scratch, std::byte{0xff}), Kokkos::deep_copy(decode_scratch, std::byte{0xff});
        Kokkos::deep_copy(key, element(NAN)), Kokkos::deep_copy(value, element(NAN));
        spla::warm_up(exec, mixed), spla::warm_up(exec, decodes);
        exec.fence();
    }
    void enqueue(bool decode_alone) const
    {
        spla::run_batch(exec, decode_alone ? decodes : mixed, spla::sequence_batch<space>{offsets, lengths, at}, query,
                        spla::new_tokens{new_key, new_value}, spla::paged_cache{key, value, table}, output, pool,
                        decode_alone ? decode_scratch : scratch);
    }
    /// Sequences without a part are padding.
    void fill(std::vector<part> const& parts, std::vector<std::array<host_rows, 3>> const& texts) const
    {
        auto const off = Kokkos::create_mirror_view(offsets), len = Kokkos::create_mirror_view(lengths);
        auto const slot = Kokkos::create_mirror_view(at);
        auto const pages = Kokkos::create_mirror_view(table);
        Kokkos::deep_copy(pages, 1 << 20), Kokkos::deep_copy(len, 1 << 30), Kokkos::deep_copy(slot, -1);
        rows const* const to[] = {&query, &new_key, &new_value};
        host_rows host[3];
        for (int i = 0; i < 3; ++i)
            host[i] = Kokkos::create_mirror_view(*to[i]), Kokkos::deep_copy(host[i], element(NAN));
        int row = 0;
        for (int b = 0; b <= sequences; ++b)
        {
            off(b) = row;
            if (b >= static_cast<int>(parts.size())) continue;
            part const& p = parts[b];
            len(b) = p.end, slot(b) = (p.sequence * 3 + 2) % slots;
            for (int i = 0; i < pages_each; ++i) pages(b, i) = (i * slots + p.sequence) * 37 % (slots * pages_each);
            for (int i = 0; i < 3; ++i)
            {
                std::size_t const each = host[i].stride(0);
                std::copy_n(texts[p.sequence][i].data() + p.begin * each, (p.end - p.begin) * each,
                            host[i].data() + row * each);
            }
            row += p.end - p.begin;
        }
        Kokkos::deep_copy(offsets, off), Kokkos::deep_copy(lengths, len), Kokkos::deep_copy(at, slot);
        Kokkos::deep_copy(table, pages), Kokkos::deep_copy(output, element(7.0f));
        for (int i = 0; i < 3; ++i) Kokkos::deep_copy(*to[i], host[i]);
    }
};

struct recorded
{
    cudaGraphExec_t replay{};
    recorded(served const& s, bool decode_alone)
    {
        cudaGraph_t graph{};
        good(cudaStreamBeginCapture(s.exec.cuda_stream(), cudaStreamCaptureModeGlobal));
        s.enqueue(decode_alone);
        good(cudaStreamEndCapture(s.exec.cuda_stream(), &graph));
        good(cudaGraphInstantiate(&replay, graph, 0));
        good(cudaGraphDestroy(graph));
    }
    recorded(recorded const&) = delete;
    recorded& operator=(recorded const&) = delete;
    ~recorded() { cudaGraphExecDestroy(replay); }
};
} // namespace

TEST_CASE("captured steps in bf16 follow new lengths, pages and slots", "[serving][graph]")
{
    std::vector<std::array<host_rows, 3>> texts;
    for (unsigned b = 0; b < 5; ++b)
        texts.push_back({text(10 * b, group * key_heads), text(10 * b + 1, key_heads), text(10 * b + 2, key_heads)});
    cudaStream_t stream{};
    good(cudaStreamCreate(&stream));
    {
        served const replayed(stream), launched(stream);
        recorded const mixed(replayed, false), decodes(replayed, true);
        // New tokens of five sequences in each step, in an order that turns; all few: the plan that decodes alone.
        std::vector<std::vector<int>> course{{700, 60, 0, 1, 250}, {1, 1, 8, 8, 1}, {8, 8, 1, 1, 8},
                                             {1, 300, 600, 8, 1},  {1, 1, 1, 1, 1}, {0, 8, 1, 0, 1},
                                             {8, 8, 8, 8, 8},      {1, 1, 0, 1, 1}, {40, 1, 1, 500, 1}};
        for (int i = 0; i < 70; ++i) course.push_back({1, 1, i % 3, 1, 2}); // blocks close, and enter the state
        std::vector<int> length(5, 0);
        for (std::size_t step = 0; step < course.size(); ++step)
        {
            std::vector<part> parts;
            bool decode_alone = true;
            for (int i = 0; i < 5; ++i)
            {
                int const b = (i + static_cast<int>(step)) % 5, added = course[step][b];
                if (added == 0) continue;
                parts.push_back({b, length[b], length[b] + added});
                length[b] += added;
                decode_alone = decode_alone && added <= spla::detail::decode_queries;
            }
            replayed.fill(parts, texts), launched.fill(parts, texts);
            Kokkos::fence();
            launched.enqueue(decode_alone);
            good(cudaGraphLaunch(decode_alone ? decodes.replay : mixed.replay, stream));
            good(cudaStreamSynchronize(stream));
            auto const x = Kokkos::create_mirror_view_and_copy(Kokkos::HostSpace{}, launched.output);
            auto const y = Kokkos::create_mirror_view_and_copy(Kokkos::HostSpace{}, replayed.output);
            INFO("step " << step);
            CHECK(std::memcmp(x.data(), y.data(), x.size() * sizeof(element)) == 0);
            int row = 0;
            for (auto const& p : parts) row += p.end - p.begin;
            bool finite = true, untouched = true;
            for (int t = 0; t < most_tokens; ++t)
            {
                float const first = static_cast<float>(y(t, 5, 11));
                (t < row ? finite : untouched) &= t < row ? std::isfinite(first) && first != 7.0f : first == 7.0f;
            }
            CHECK(finite);
            CHECK(untouched);
        }
    }
    good(cudaStreamDestroy(stream));
}
#endif
