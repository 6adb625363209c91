// SPDX-FileCopyrightText: The spla authors
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
// What the layout of a cache costs: the same prefill and the same decode step in the fixed batch and in steps of an
// engine whose cache is a row a slot, pages in a scattered order, or packed keys: bench_layouts [--tokens=N].
// All four outputs are held against one another, bit for bit, first.
#include "fixture.hpp"
#include "stopwatch.hpp"

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <string>

namespace spla_bench
{
using memory = exec_space::memory_space;

enum class layout
{
    fixed,
    slots,
    pages,
    packed
};
constexpr char const* names[] = {"fixed", "slots", "pages", "packed"};

/// One sequence, whose whole text is prefilled or whose last token is decoded, in any layout.
template <class Element>
class sequence_of
{
public:
    static constexpr std::int64_t page_tokens = 128;

    sequence_of(std::int64_t tokens, int dim) : in_(tokens, dim), output("output", 1, tokens, in_.query_heads, dim)
    {
        state_ = spla::make_sequence_state(exec, in_.problem(), o_);
        scratch_ = spla::make_workspace(exec, spla::plan_prefill(exec, in_.problem(), o_));
        spla::batch_limits l;
        static_cast<spla::problem&>(l) = in_.problem();
        plan_ = spla::plan_batch<Element>(exec, l, o_);
        steps_scratch_ = spla::make_workspace(exec, plan_);
        spla::warm_up(exec, plan_);
        std::int64_t const pages = (tokens + page_tokens - 1) / page_tokens;
        table_ = decltype(table_)("table", 1, pages);
        for (std::int64_t i = 0; i < pages; ++i) table_(0, i) = static_cast<std::int32_t>(i * 37 % pages);
        keys_ = in_pages(in_.key), values_ = in_pages(in_.value);
        rows_ = spla::make_state_pool(exec, l, {1, 0, pages * page_tokens, 1}, o_);
        pages_ = spla::make_state_pool(exec, l, {1, pages, page_tokens, 1}, o_);
        key_offsets_(0) = 0, key_offsets_(1) = static_cast<std::int32_t>(tokens);
    }
    std::int64_t tokens() const { return in_.tokens; }
    int dim() const { return in_.dim; }

    void prefill(layout how)
    {
        if (how != layout::fixed) return step(how, in_.tokens, in_.tokens);
        state_.reset();
        spla::prefill(exec, in_.query, in_.key, in_.value, output, state_, o_, scratch_);
    }
    /// All but the last token are there: a step of it can be taken again and again, each going back by one token.
    void prepare(layout how)
    {
        if (how != layout::fixed) return step(how, in_.tokens - 1, in_.tokens - 1);
        state_.reset();
        for (std::int64_t at = 0; at < in_.tokens; at += o_.segment_tokens)
        {
            auto const segment = std::make_pair(at, std::min(at + o_.segment_tokens, in_.tokens));
            spla::append(exec, part(in_.key, segment), part(in_.value, segment), in_.key, in_.value, state_, o_);
        }
    }
    void decode(layout how)
    {
        if (how != layout::fixed) return step(how, 1, in_.tokens);
        auto const last = std::make_pair(in_.tokens - 1, in_.tokens);
        spla::decode(exec, part(in_.query, last), in_.key, in_.value, part(output, last), state_, o_, scratch_);
    }

    exec_space exec;

private:
    using pages_view = Kokkos::View<Element****, Kokkos::LayoutRight, memory>;
    template <class View>
    static auto part(View const& view, std::pair<std::int64_t, std::int64_t> tokens)
    {
        return Kokkos::subview(view, Kokkos::ALL, tokens, Kokkos::ALL, Kokkos::ALL);
    }
    template <class View>
    static auto packed_part(View const& view, std::int64_t begin, std::int64_t end)
    {
        return Kokkos::subview(view, 0, std::make_pair(begin, end), Kokkos::ALL, Kokkos::ALL);
    }
    pages_view in_pages(view4<Element> const& from) const
    {
        std::int64_t const pages = static_cast<std::int64_t>(table_.extent(1));
        pages_view const made("pages", pages, page_tokens, from.extent(2), from.extent(3));
        for (std::int64_t t = 0; t < in_.tokens; ++t)
            for (std::size_t h = 0; h < from.extent(2); ++h)
                for (std::size_t d = 0; d < from.extent(3); ++d)
                    made(table_(0, t / page_tokens), t % page_tokens, h, d) = from(0, t, h, d);
        return made;
    }
    /// The last `count` of `length` tokens.
    void step(layout how, std::int64_t count, std::int64_t length)
    {
        offsets_(0) = 0, offsets_(1) = static_cast<std::int32_t>(count);
        lengths_(0) = static_cast<std::int32_t>(length);
        spla::sequence_batch<memory> const batch{offsets_, lengths_, slots_};
        auto const q = packed_part(in_.query, length - count, length);
        auto const out = packed_part(output, length - count, length);
        if (how == layout::slots)
            spla::run_batch(exec, plan_, batch, q, spla::slot_cache<view4<Element>, view4<Element>>{in_.key, in_.value},
                            out, rows_, steps_scratch_);
        else if (how == layout::pages)
            spla::run_batch(exec, plan_, batch, q, spla::paged_cache{keys_, values_, table_}, out, pages_,
                            steps_scratch_);
        else
            spla::run_batch(exec, plan_, batch, q,
                            spla::packed_keys{packed_part(in_.key, 0, in_.tokens),
                                              packed_part(in_.value, 0, in_.tokens), key_offsets_},
                            out, rows_, steps_scratch_);
    }

    inputs<Element> in_;
    options<> o_;
    spla::sequence_state<memory> state_;
    spla::workspace<memory> scratch_, steps_scratch_;
    spla::batch_plan<Element, options<>> plan_;
    spla::state_pool<memory> rows_, pages_;
    Kokkos::View<std::int32_t**, Kokkos::LayoutRight, memory> table_;
    Kokkos::View<std::int32_t*, memory> offsets_{"offsets", 2}, lengths_{"lengths", 1}, slots_{"slots", 1},
        key_offsets_{"key offsets", 2};
    pages_view keys_, values_;

public:
    view4<float> output; ///< fp32 for every element
};

/// Only the last one asked for is kept; main() drops it while Kokkos still runs.
template <class Element>
std::unique_ptr<sequence_of<Element>> kept;

template <class Element>
sequence_of<Element>& of(std::int64_t tokens, int dim)
{
    auto& one = kept<Element>;
    if (!one || one->tokens() != tokens || one->dim() != dim)
    {
        one.reset();
        one = std::make_unique<sequence_of<Element>>(tokens, dim);
    }
    return *one;
}

template <class Element>
bool same_bits(std::int64_t tokens, int dim)
{
    auto& x = of<Element>(tokens, dim);
    std::vector<float> prefilled, decoded;
    for (layout const how : {layout::fixed, layout::slots, layout::pages, layout::packed})
    {
        auto const held = [&](std::vector<float>& first) {
            x.exec.fence();
            if (how == layout::fixed) first.assign(x.output.data(), x.output.data() + x.output.size());
            return std::memcmp(first.data(), x.output.data(), first.size() * sizeof(float)) == 0;
        };
        Kokkos::deep_copy(x.output, 0.0f);
        x.prefill(how);
        bool same = held(prefilled);
        x.prepare(how);
        x.decode(how);
        Kokkos::deep_copy(
            Kokkos::subview(x.output, 0, std::make_pair(std::int64_t{0}, tokens - 1), Kokkos::ALL, Kokkos::ALL), 0.0f);
        same = held(decoded) && same;
        if (!same)
        {
            std::fprintf(stderr, "layout %s has other bits than the fixed batch\n", names[static_cast<int>(how)]);
            return false;
        }
    }
    return true;
}

template <class Element>
void time(benchmark::State& s, layout how, bool decodes, std::int64_t tokens, int dim)
{
    auto& x = of<Element>(tokens, dim);
    if (decodes) x.prepare(how);
    x.exec.fence();
    stopwatch w(x.exec.concurrency());
    for (auto _ : s)
    {
        if (decodes) evict_caches();
        w.start();
        decodes ? x.decode(how) : x.prefill(how);
        x.exec.fence();
        s.SetIterationTime(w.stop());
    }
    w.report(s);
}
} // namespace spla_bench

int main(int argc, char** argv)
{
    Kokkos::ScopeGuard const kokkos(argc, argv);
    using namespace spla_bench;
    std::int64_t tokens = 2048;
    benchmark::Initialize(&argc, argv);
    for (int i = 1; i < argc; ++i)
        if (std::strncmp(argv[i], "--tokens=", 9) == 0) tokens = std::atoll(argv[i] + 9);
    if (!same_bits<float>(1000, 64) || !same_bits<spla::bfloat16>(1000, 64)) return 1;
    auto const add = [&]<class Element>(Element, char const* type, int dim) {
        for (bool const decodes : {false, true})
            for (layout const how : {layout::fixed, layout::slots, layout::pages, layout::packed})
                benchmark::RegisterBenchmark((std::string(decodes ? "cpu.layouts.decode" : "cpu.layouts.prefill") +
                                              "/layout:" + names[static_cast<int>(how)] + "/dtype:" + type +
                                              "/d:" + std::to_string(dim) + "/tokens:" + std::to_string(tokens))
                                                 .c_str(),
                                             [=](benchmark::State& s) { time<Element>(s, how, decodes, tokens, dim); })
                    ->UseManualTime()
                    ->Iterations(decodes ? 50 : 1)
                    ->Unit(benchmark::kMillisecond);
    };
    add(float{}, "fp32", 64);
    add(spla::bfloat16{}, "bf16", 128);
    benchmark::AddCustomContext("spla", std::to_string(SPLA_VERSION_MAJOR) + "." + std::to_string(SPLA_VERSION_MINOR) +
                                            "." + std::to_string(SPLA_VERSION_PATCH));
    benchmark::AddCustomContext("threads", std::to_string(exec_space().concurrency()));
    benchmark::RunSpecifiedBenchmarks();
    kept<float>.reset();
    kept<spla::bfloat16>.reset();
    return 0;
}
