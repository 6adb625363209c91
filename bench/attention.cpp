// SPDX-FileCopyrightText: The spla authors
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
// Every part of SPLA on the CPU, from 4K tokens to --tokens=N: bench_attention [--tokens=N] [--benchmark_filter=...].
// Results are held against the reference first, and every timed output is checked to be finite.
#include "inputs.hpp"
#include "sgemm.hpp"

#include <spla/reference/reference.hpp>

#include <benchmark/benchmark.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <memory>
#include <string>

namespace spla_bench
{

using spla::options;
using lists_view = spla::block_list<view4<std::int32_t>, Kokkos::View<std::int32_t***, Kokkos::LayoutRight>>;

template <class View>
auto tokens_of(View const& view, std::int64_t begin, std::int64_t end)
{
    return Kokkos::subview(view, Kokkos::ALL, std::make_pair(begin, end), Kokkos::ALL, Kokkos::ALL);
}

/// One sequence with everything that the parts need, made once and shared by the benchmarks of its size.
template <class Element>
struct fixture
{
    inputs<Element> in;
    options<> o;
    exec_space exec;
    view4<float> output;
    lists_view lists;
    spla::sequence_state<exec_space::memory_space> state;
    spla::workspace<exec_space::memory_space> scratch;
    double executed = 0;    ///< FLOPs of the exact branch: 4 D Hq x keys visible to each query
    double union_ratio = 1; ///< blocks that a work item visits over blocks that one query selected

    fixture(std::int64_t tokens, int dim, options<> const& wanted = {})
        : in(tokens, dim), o(wanted), output("output", 1, tokens, in.query_heads, dim)
    {
        lists.indices = decltype(lists.indices)("lists", 1, tokens, in.key_heads, o.top_k);
        lists.lengths = decltype(lists.lengths)("lengths", 1, tokens, in.key_heads);
        state = spla::make_sequence_state(exec, in.problem(), o);
        auto const plan = spla::plan_prefill(exec, in.problem(), o);
        scratch = spla::make_workspace(exec, plan);
        spla::warm_up(exec, plan);
        append();
        select();
        exec.fence();
        count(plan.tokens_per_item);
    }
    template <class Function>
    void each_segment(Function const& f)
    {
        for (std::int64_t at = 0; at < in.tokens; at += o.segment_tokens) f(at, std::min(at + o.segment_tokens, in.tokens));
    }
    void append()
    {
        state.reset();
        each_segment([&](auto begin, auto end) { append(begin, end); });
    }
    void append(std::int64_t begin, std::int64_t end)
    {
        // Where they already lie, new keys are not copied: as in prefill.
        spla::append(exec, tokens_of(in.key, begin, end), tokens_of(in.value, begin, end), in.key, in.value, state, o);
    }
    void select()
    {
        each_segment([&](auto begin, auto end) {
            spla::select(exec, tokens_of(in.query, begin, end), tokens_of(in.key, 0, end), state, part(begin, end), o);
        });
    }
    auto part(std::int64_t begin, std::int64_t end) const
    {
        auto const i = tokens_of(lists.indices, begin, end);
        auto const l = Kokkos::subview(lists.lengths, Kokkos::ALL, std::make_pair(begin, end), Kokkos::ALL);
        return spla::block_list<decltype(i), decltype(l)>{i, l};
    }
    void exact()
    {
        spla::attention_extras<Element> extras;
        extras.use_lists(lists);
        spla::selected_attention(exec, in.query, in.key, in.value, output, o, extras);
    }
    void residual(std::int64_t begin, std::int64_t end)
    {
        spla::attention_extras<Element> extras;
        extras.use_lists(part(begin, end));
        spla::residual_attention(exec, tokens_of(in.query, begin, end), tokens_of(in.key, 0, end), tokens_of(in.value, 0, end),
                                 tokens_of(output, begin, end), state, o, extras);
    }
    void whole()
    {
        state.reset();
        spla::prefill(exec, in.query, in.key, in.value, output, state, o, scratch);
    }
    bool finite() const
    {
        std::int64_t bad = 0;
        float const* const x = output.data();
        Kokkos::parallel_reduce(
            Kokkos::RangePolicy<exec_space, Kokkos::IndexType<std::int64_t>>(0, static_cast<std::int64_t>(output.size())),
            KOKKOS_LAMBDA(std::int64_t i, std::int64_t & sum) { sum += !(x[i] - x[i] == 0.0f); }, bad);
        return bad == 0;
    }

private:
    void count(int item)
    {
        double keys = 0, visited = 0, chosen = 0;
        auto const w = spla::window_of(o);
        for (std::int64_t first = 0; first < in.tokens; first += item)
            for (int h = 0; h < in.key_heads; ++h)
            {
                std::vector<std::int32_t> together;
                double selected = 0;
                std::int64_t const end = std::min<std::int64_t>(first + item, in.tokens);
                for (std::int64_t p = first; p < end; ++p)
                {
                    int const length = lists.lengths(0, p, h);
                    auto const competing = w.competing(p);
                    keys += static_cast<double>(p + 1 - (competing.count() - length) * o.block);
                    selected += length;
                    for (int i = 0; i < length; ++i) together.push_back(lists.indices(0, p, h, i));
                }
                std::sort(together.begin(), together.end());
                visited += static_cast<double>(std::unique(together.begin(), together.end()) - together.begin());
                chosen += selected / static_cast<double>(end - first);
            }
        executed = 4.0 * in.dim * (in.query_heads / in.key_heads) * keys;
        if (chosen > 0) union_ratio = visited / chosen;
    }
};

/// Wall and processor time of runs of one thing. Processor time a thread is what a machine without other work would show.
class stopwatch
{
public:
    void start()
    {
        processor_ = std::clock();
        wall_ = std::chrono::steady_clock::now();
    }
    double stop()
    {
        double const s = std::chrono::duration<double>(std::chrono::steady_clock::now() - wall_).count();
        add(s, static_cast<double>(std::clock() - processor_) / CLOCKS_PER_SEC / exec_space().concurrency());
        return s;
    }
    void add(double wall, double processor)
    {
        times_.push_back(wall);
        processor_times_.push_back(processor);
    }
    static double median(std::vector<double> x)
    {
        std::sort(x.begin(), x.end());
        return x.empty() ? 0.0 : 0.5 * (x[x.size() / 2] + x[(x.size() - 1) / 2]);
    }
    double median() const { return median(times_); }
    double processor() const { return median(processor_times_); }
    void report(benchmark::State& s) const
    {
        s.counters["ms"] = 1e3 * median();
        s.counters["min"] = 1e3 * *std::min_element(times_.begin(), times_.end());
        s.counters["max"] = 1e3 * *std::max_element(times_.begin(), times_.end());
        s.counters["processor_ms"] = 1e3 * processor();
        s.counters["n"] = static_cast<double>(times_.size());
    }

private:
    std::chrono::steady_clock::time_point wall_;
    std::clock_t processor_ = 0;
    std::vector<double> times_, processor_times_;
};

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
    stopwatch w, product;
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
        case part::whole: f.whole(); break;
        case part::append: f.append(); break;
        case part::select: f.select(); break;
        default: f.exact(); break;
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
    stopwatch w;
    for (auto _ : s)
    {
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
        std::string const name = what + "/dtype:" + type + "/d:" + std::to_string(dim) + "/tokens:" + std::to_string(tokens);
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
    benchmark::AddCustomContext("spla", std::to_string(SPLA_VERSION_MAJOR) + "." + std::to_string(SPLA_VERSION_MINOR) + "." + std::to_string(SPLA_VERSION_PATCH));
    benchmark::AddCustomContext("threads", std::to_string(exec_space().concurrency()));
    benchmark::RunSpecifiedBenchmarks();
    kept_fixture<float>.reset();
    kept_fixture<spla::bfloat16>.reset();
    return 0;
}
