// SPDX-FileCopyrightText: The spla authors
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
// Every part of SPLA on the CPU, from 4K tokens to --tokens=N: bench_attention [--tokens=N] [--benchmark_filter=...].
// Results are held against the reference first, and every timed output is checked to be finite.
#include "fixture.hpp"
#include "sgemm.hpp"
#include "stopwatch.hpp"

#include <spla/reference/reference.hpp>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <string>

namespace spla_bench
{

/// Only the last fixture asked for is kept; main() drops it while Kokkos still runs.
template <class Element>
std::unique_ptr<fixture<Element>> kept_fixture;

template <class Element>
fixture<Element>& fixture_of(std::int64_t tokens, int dim)
{
    auto& kept = kept_fixture<Element>;
    if (!kept || kept->in.tokens != tokens || kept->in.dim != dim)
    {
        kept.reset();
        kept = std::make_unique<fixture<Element>>(tokens, dim);
    }
    return *kept;
}

enum class part
{
    whole,
    append,
    select,
    exact,
    residual,
    decode,
    decode_select
};

template <class Element>
void prefill_part(benchmark::State& s, part what, std::int64_t tokens, int dim)
{
    auto& f = fixture_of<Element>(tokens, dim);
    Kokkos::deep_copy(f.output, 0.0f);
    static sgemm yardstick;
    stopwatch w(f.exec.concurrency()), product(f.exec.concurrency());
    for (auto _ : s)
    {
        if (what == part::residual)
        {
            // Prefix states belong to the last segment, so this part follows the append of each, which is not counted.
            f.state.reset();
            double wall = 0;
            std::clock_t processor = 0;
            f.each_segment([&](auto begin, auto end) {
                f.append(begin, end);
                f.exec.fence();
                auto const from = std::chrono::steady_clock::now();
                std::clock_t const from_processor = std::clock();
                f.residual(begin, end);
                f.exec.fence();
                wall += std::chrono::duration<double>(std::chrono::steady_clock::now() - from).count();
                processor += std::clock() - from_processor;
            });
            w.add(wall, static_cast<double>(processor) / CLOCKS_PER_SEC / f.exec.concurrency());
            s.SetIterationTime(wall);
            continue;
        }
        if (what == part::exact)
        {
            for (int i = 0; i < 3; ++i)
            {
                product.start();
                yardstick.seconds();
                product.stop();
            }
        }
        w.start();
        switch (what)
        {
        case part::whole:
            f.whole();
            break;
        case part::append:
            f.append();
            break;
        case part::select:
            f.select();
            break;
        default:
            f.exact();
            break;
        }
        f.exec.fence();
        s.SetIterationTime(w.stop());
    }
    if (!f.finite()) s.SkipWithError("an output is not finite");
    w.report(s);
    s.counters["union_ratio"] = f.union_ratio;
    if (what != part::exact) return;
    double const square = yardstick.flops();
    s.counters["gflops"] = f.executed / w.median() * 1e-9;
    s.counters["sgemm_gflops"] = square / product.median() * 1e-9;
    s.counters["processor_gflops"] = f.executed / w.processor() * 1e-9;
    s.counters["processor_sgemm_gflops"] = square / product.processor() * 1e-9;
}

/// One new token after `tokens` of context, which is as long when the next one comes: the cost of a step.
template <class Element>
void decode_part(benchmark::State& s, part what, std::int64_t tokens, int dim)
{
    auto& f = fixture_of<Element>(tokens, dim);
    if (f.state.tokens != tokens) f.append();
    auto p = f.in.problem();
    p.queries = 1;
    auto const plan = spla::plan_decode(f.exec, p, f.o);
    auto const scratch = spla::make_workspace(f.exec, plan);
    spla::warm_up(f.exec, plan);
    auto const query = tokens_of(f.in.query, tokens - 1, tokens);
    auto const output = tokens_of(f.output, tokens - 1, tokens);
    auto const list = f.part(tokens - 1, tokens);
    stopwatch w(f.exec.concurrency());
    for (auto _ : s)
    {
        evict_caches();
        w.start();
        if (what == part::decode)
            spla::decode(f.exec, query, f.in.key, f.in.value, output, f.state, f.o, scratch);
        else
            spla::select(f.exec, query, f.in.key, f.state, list, f.o);
        f.exec.fence();
        s.SetIterationTime(w.stop());
    }
    if (!f.finite()) s.SkipWithError("an output is not finite");
    w.report(s);
}

/// Prefill of default blocks, top_k small enough to leave a residual, its last queries against the definition.
template <class Element>
bool agrees(int dim)
{
    constexpr int tokens = 1536, last = 24;
    options<> o;
    o.top_k = 4, o.local_blocks = 2;
    fixture<Element> f(tokens, dim, o);
    spla::attention_extras<Element> extras;
    extras.return_lists(f.lists);
    f.state.reset();
    spla::prefill(f.exec, f.in.query, f.in.key, f.in.value, f.output, f.state, o, f.scratch, extras);
    f.exec.fence();
    spla::reference::sequence x;
    x.query = x.residual_query = spla::reference::heads_of(tokens_of(f.in.query, tokens - last, tokens), 0);
    x.key = x.residual_key = spla::reference::heads_of(f.in.key, 0);
    x.value = spla::reference::heads_of(f.in.value, 0);
    spla::reference::lists chosen(last);
    for (int t = 0; t < last; ++t)
        for (int h = 0; h < f.in.key_heads; ++h)
        {
            chosen[t].emplace_back();
            for (int i = 0; i < f.lists.lengths(0, tokens - last + t, h); ++i)
                chosen[t].back().push_back(f.lists.indices(0, tokens - last + t, h, i));
        }
    auto const truth = spla::reference::attend(x, chosen, o, 0x1p-24, 0x1p-24);
    auto const made = spla::reference::heads_of(tokens_of(f.output, tokens - last, tokens), 0);
    spla::reference::comparison c;
    for (int h = 0; h < f.in.query_heads; ++h)
        c.add("output, head " + std::to_string(h), made[h], truth.output[h], truth.output_bound[h]);
    std::fprintf(stderr, "reference, %s, D %d: %s\n", spla::name(spla::kind_of<Element>()), dim, c.text().c_str());
    return c.passed;
}

template <class Element>
void register_all(int dim, std::int64_t most)
{
    std::string const type = spla::kind_of<Element>() == spla::element_kind::float32 ? "fp32" : "bf16";
    auto const add = [&](std::string const& what, part p, std::int64_t tokens, auto const& function) {
        std::string const name =
            what + "/dtype:" + type + "/d:" + std::to_string(dim) + "/tokens:" + std::to_string(tokens);
        benchmark::RegisterBenchmark(name.c_str(), [=](benchmark::State& s) { function(s, p, tokens, dim); })
            ->UseManualTime()
            ->Iterations(p >= part::decode ? 200 : (tokens <= 16384 ? 5 : (tokens <= 32768 ? 3 : 1)))
            ->Unit(benchmark::kMillisecond);
    };
    for (std::int64_t tokens = 4096; tokens <= most; tokens *= 2)
    {
        add("cpu.prefill.append.per_token", part::append, tokens, prefill_part<Element>);
        add("cpu.prefill.select.per_token", part::select, tokens, prefill_part<Element>);
        add("cpu.prefill.exact.per_token", part::exact, tokens, prefill_part<Element>);
        add("cpu.prefill.residual.per_token", part::residual, tokens, prefill_part<Element>);
        add("cpu.prefill.whole.per_token", part::whole, tokens, prefill_part<Element>);
        add("cpu.decode.select", part::decode_select, tokens, decode_part<Element>);
        add("cpu.decode.whole", part::decode, tokens, decode_part<Element>);
    }
}

} // namespace spla_bench

int main(int argc, char** argv)
{
    Kokkos::ScopeGuard const kokkos(argc, argv);
    using namespace spla_bench;
    std::int64_t most = 4096;
    benchmark::Initialize(&argc, argv);
    for (int i = 1; i < argc; ++i)
        if (std::strncmp(argv[i], "--tokens=", 9) == 0) most = std::atoll(argv[i] + 9);
    for (int dim : {64, 128})
        if (!agrees<float>(dim) || !agrees<spla::bfloat16>(dim)) return 1;
    for (int dim : {64, 128})
    {
        register_all<float>(dim, most);
        register_all<spla::bfloat16>(dim, most);
    }
    benchmark::AddCustomContext("spla", std::to_string(SPLA_VERSION_MAJOR) + "." + std::to_string(SPLA_VERSION_MINOR) +
                                            "." + std::to_string(SPLA_VERSION_PATCH));
    benchmark::AddCustomContext("threads", std::to_string(exec_space().concurrency()));
    benchmark::RunSpecifiedBenchmarks();
    kept_fixture<float>.reset();
    kept_fixture<spla::bfloat16>.reset();
    return 0;
}
