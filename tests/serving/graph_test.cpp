// SPDX-FileCopyrightText: The spla authors
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
// A step captured in a CUDA graph: replays follow the lengths, pages and slots that stand in its arrays then.
#include "../catch.hpp"
#include "twin.hpp"

#if defined(KOKKOS_ENABLE_CUDA)

using namespace spla_test;

namespace
{
void good(cudaError_t e)
{
    INFO(cudaGetErrorString(e));
    REQUIRE(e == cudaSuccess);
}

/// A step's arrays at fixed addresses, as large as any step.
struct captured_step
{
    using space = device::memory_space;
    using indices = Kokkos::View<std::int32_t*, space>;
    engine<device>& served;
    int tokens, sequences;
    indices offsets, lengths, slots;
    Kokkos::View<std::int32_t**, Kokkos::LayoutRight, space> table;
    engine<device>::token_view query, new_key, new_value, output;

    captured_step(engine<device>& e, int most)
        : served(e), tokens(most), sequences(e.sizes.sequences), offsets("offsets", sequences + 1),
          lengths("lengths", sequences), slots("slots", sequences),
          table("table", sequences, e.sizes.capacity / e.sizes.page_tokens),
          query("query", most, e.sizes.query_heads, e.sizes.head_dim),
          new_key("new key", most, e.sizes.key_heads, e.sizes.head_dim),
          new_value("new value", most, e.sizes.key_heads, e.sizes.value_dim),
          output("output", most, e.sizes.query_heads, e.sizes.value_dim)
    {
    }
    void enqueue(device const& exec) const
    {
        spla::sequence_batch<space> const batch{offsets, lengths, slots};
        spla::paged_cache const cache{served.key, served.value, table};
        spla::run_batch(exec, served.plan, batch, query, spla::new_tokens{new_key, new_value}, cache, output,
                        served.pool, served.scratch);
    }
    /// Fills the arrays; sequences that have no part are padding of numbers that must not matter.
    void fill(std::vector<step_part> const& parts)
    {
        auto const off = Kokkos::create_mirror_view(offsets), len = Kokkos::create_mirror_view(lengths);
        auto const at = Kokkos::create_mirror_view(slots);
        auto const pg = Kokkos::create_mirror_view(table);
        auto const q = Kokkos::create_mirror_view(query), k = Kokkos::create_mirror_view(new_key);
        auto const v = Kokkos::create_mirror_view(new_value);
        Kokkos::deep_copy(pg, 1 << 20), Kokkos::deep_copy(len, 1 << 30), Kokkos::deep_copy(at, -1);
        for (auto const& x : {q, k, v}) Kokkos::deep_copy(x, std::numeric_limits<float>::quiet_NaN());
        Kokkos::deep_copy(output, 7.0f);
        std::size_t row = 0;
        for (int b = 0; b <= sequences; ++b)
        {
            off(b) = static_cast<int>(row);
            if (b >= static_cast<int>(parts.size())) continue;
            auto const& p = parts[b];
            len(b) = p.length, at(b) = p.slot;
            for (std::size_t i = 0; i < served.pages[p.slot].size(); ++i) pg(b, i) = served.pages[p.slot][i];
            std::copy_n(p.query.data(), p.query.size(), q.data() + row * q.stride(0));
            std::copy_n(p.key.data(), p.key.size(), k.data() + row * k.stride(0));
            std::copy_n(p.value.data(), p.value.size(), v.data() + row * v.stride(0));
            row += p.count();
        }
        Kokkos::deep_copy(offsets, off), Kokkos::deep_copy(lengths, len), Kokkos::deep_copy(slots, at);
        Kokkos::deep_copy(table, pg), Kokkos::deep_copy(query, q), Kokkos::deep_copy(new_key, k);
        Kokkos::deep_copy(new_value, v);
    }
};
} // namespace

TEST_CASE("a captured step follows new lengths, pages and slots", "[serving][graph]")
{
    engine_sizes z;
    z.sequences = 6, z.queries = 24;
    for (auto const share : {spla::sharing::per_token(), spla::sharing::first_query(8)})
    {
        auto o = small_options();
        o.share = share;
        engine<device> served(z, o, cache_layout::pages), fresh(z, o, cache_layout::pages);
        cudaStream_t stream;
        good(cudaStreamCreate(&stream));
        {
            device const exec(stream);
            spla::warm_up(exec, served.plan);
            int const most = 64;
            captured_step step(served, most);
            cudaGraph_t graph;
            cudaGraphExec_t replay;
            good(cudaStreamBeginCapture(stream, cudaStreamCaptureModeGlobal));
            step.enqueue(exec);
            good(cudaStreamEndCapture(stream, &graph));
            good(cudaGraphInstantiate(&replay, graph, 0));
            std::vector<text> texts;
            for (unsigned b = 0; b < 4; ++b) texts.emplace_back(z, 500 + b);
            std::vector<int> length(4, 0);
            // New tokens of four sequences in each replay.
            std::vector<std::vector<int>> const course{{24, 0, 3, 1},  {24, 24, 1, 1}, {1, 1, 1, 1},   {0, 9, 24, 0},
                                                       {24, 1, 24, 8}, {1, 24, 24, 2}, {24, 1, 1, 24}, {1, 1, 1, 1}};
            for (auto const& added : course)
            {
                std::vector<step_part> parts;
                for (int b = 0; b < 4; ++b)
                {
                    if (added[b] == 0) continue;
                    parts.push_back(texts[b].part((b * 3 + 2) % 8, length[b], length[b] + added[b]));
                    length[b] += added[b];
                }
                auto const wanted = fresh.step(parts);
                served.pages = fresh.pages; // the same pages in both caches
                step.fill(parts);
                Kokkos::fence();
                good(cudaGraphLaunch(replay, stream));
                good(cudaStreamSynchronize(stream));
                auto const made = Kokkos::create_mirror_view_and_copy(Kokkos::HostSpace{}, step.output);
                std::size_t row = 0;
                for (std::size_t i = 0; i < parts.size(); ++i)
                {
                    INFO("sequence " << i << " of length " << parts[i].length);
                    CHECK(std::memcmp(made.data() + row * made.stride(0), wanted[i].output.data(),
                                      wanted[i].output.size() * sizeof(float)) == 0);
                    row += parts[i].count();
                }
                for (; row < static_cast<std::size_t>(most); ++row) CHECK(made(row, 3, 11) == 7.0f); // never written
            }
            good(cudaGraphExecDestroy(replay));
            good(cudaGraphDestroy(graph));
        }
        good(cudaStreamDestroy(stream));
    }
}
#endif
