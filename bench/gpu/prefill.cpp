// SPDX-FileCopyrightText: The spla authors
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
// Prefill on a GPU, whole and stage by stage, in the three sharings: bench_gpu_prefill [--tokens=32768,65536,131072]
// [--heads=32/8] [--dim=128] [--segment=32768] [--json=FILE]. What is timed is held against the reference first.
#include "inputs.hpp"
#include "timing.hpp"

#include <spla/reference/reference.hpp>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iostream>
#include <sstream>
#include <string>

namespace spla_bench
{

using list_indices = view4<std::int32_t>;
using list_lengths = Kokkos::View<std::int32_t***, Kokkos::LayoutRight, exec_space::memory_space>;

struct settings
{
    std::vector<std::int64_t> tokens{32768, 65536, 131072};
    std::int64_t query_heads = 32, key_heads = 8, dim = 128;
    int segment = 32768;
    std::string json;
};

struct sharing_case
{
    char const* name;
    spla::sharing share;
};
sharing_case const sharings[] = {{"per_token", spla::sharing::per_token()},
                                 {"first_query32", spla::sharing::first_query(32)},
                                 {"tile_sum128", spla::sharing::tile_sum(128, 4)}};

spla::options<> options_of(spla::sharing const& share, int segment)
{
    spla::options<> o;
    o.share = share, o.segment_tokens = segment;
    return o;
}

/// One problem with all that its calls need.
struct prefill_case
{
    exec_space exec;
    inputs const& in;
    spla::options<> o;
    spla::plan how;
    view4<inputs::element> output;
    spla::block_list<list_indices, list_lengths> lists;
    spla::sequence_state<exec_space::memory_space> state;
    spla::workspace<exec_space::memory_space> scratch;

    prefill_case(inputs const& given, spla::options<> const& wanted)
        : in(given), o(wanted), how(spla::plan_prefill(exec, in.sizes, o)),
          output("output", 1, in.sizes.queries, in.sizes.query_heads, in.sizes.value_dim),
          state(spla::make_sequence_state(exec, in.sizes, o)), scratch(spla::make_workspace(exec, how))
    {
        auto const tiles = spla::tile_count(in.sizes.queries, in.sizes.keys, spla::window_of(o).tile);
        lists.indices = list_indices("lists", 1, tiles, in.sizes.key_heads, o.top_k);
        lists.lengths = list_lengths("lengths", 1, tiles, in.sizes.key_heads);
        spla::warm_up(exec, how);
    }
    void whole(spla::attention_extras<inputs::element> const& extras = {})
    {
        state.reset();
        spla::prefill(exec, in.query, in.key, in.value, output, state, o, scratch, extras);
    }
    /// With what the stages alone ask for, where one segment holds all.
    void whole_with_lists()
    {
        spla::attention_extras<inputs::element> extras;
        extras.return_lists(lists);
        whole(extras);
    }
    void statistics() { spla::block_statistics(exec, in.key, state, 0, in.sizes.keys / o.block, o); }
    void select() { spla::select(exec, in.query, in.key, state, lists, o); }
    void exact()
    {
        spla::attention_extras<inputs::element> extras;
        extras.use_lists(lists);
        spla::selected_attention(exec, in.query, in.key, in.value, output, o, extras);
    }
    /// Of a prompt in one segment: the state then has the prefix states of all queries.
    void residual()
    {
        spla::attention_extras<inputs::element> extras;
        extras.use_lists(lists);
        spla::residual_attention(exec, in.query, in.key, in.value, output, state, o, extras, scratch);
    }
};

/// Union of what 32 neighbouring tokens selected, over one list; and (query, key) pairs that the exact branch visits.
struct list_figures
{
    double union_ratio = 0, pairs = 0;
    explicit list_figures(prefill_case const& c)
    {
        auto const indices = Kokkos::create_mirror_view_and_copy(Kokkos::HostSpace{}, c.lists.indices);
        auto const lengths = Kokkos::create_mirror_view_and_copy(Kokkos::HostSpace{}, c.lists.lengths);
        auto const w = spla::window_of(c.o);
        double together = 0, chosen = 0;
        for (std::int64_t h = 0; h < c.in.sizes.key_heads; ++h)
            for (std::int64_t first = 0; first < c.in.sizes.keys; first += 32)
            {
                std::vector<char> is_in(static_cast<std::size_t>(c.in.sizes.keys / c.o.block + 1));
                double blocks = 0;
                for (std::int64_t p = first; p < first + 32 && p < c.in.sizes.keys; ++p)
                {
                    std::int64_t const tile = p / w.tile;
                    int const length = lengths(0, tile, h);
                    pairs += static_cast<double>(p + 1 - (w.competing(p).count() - length) * c.o.block);
                    blocks += length / 32.0;
                    if (p != first && p % w.tile != 0) continue;
                    for (int i = 0; i < length; ++i) is_in[static_cast<std::size_t>(indices(0, tile, h, i))] = 1;
                }
                chosen += blocks;
                for (char x : is_in) together += x;
            }
        union_ratio = chosen > 0 ? together / chosen : 1;
        pairs *= static_cast<double>(c.in.sizes.group());
    }
};

/// The last queries of a short prompt against the definition.
bool holds(settings const& s, sharing_case const& sharing)
{
    using namespace spla::reference;
    spla::problem p;
    p.queries = p.keys = 1500;
    p.query_heads = s.query_heads / s.key_heads, p.key_heads = 1, p.head_dim = p.value_dim = s.dim;
    p.element = spla::element_kind::bfloat16;
    auto o = options_of(sharing.share, 512);
    o.local_blocks = 2, o.top_k = 6;
    inputs const in = make_inputs(p);
    prefill_case c(in, o);
    c.whole_with_lists();
    Kokkos::fence();
    sequence x;
    x.query = x.residual_query = heads_of(in.query, 0);
    x.key = x.residual_key = heads_of(in.key, 0);
    x.value = heads_of(in.value, 0);
    auto const indices = Kokkos::create_mirror_view_and_copy(Kokkos::HostSpace{}, c.lists.indices);
    auto const lengths = Kokkos::create_mirror_view_and_copy(Kokkos::HostSpace{}, c.lists.lengths);
    lists chosen(indices.extent(1));
    for (std::size_t t = 0; t < chosen.size(); ++t)
    {
        chosen[t].emplace_back();
        for (int i = 0; i < lengths(0, t, 0); ++i) chosen[t].back().push_back(indices(0, t, 0, i));
    }
    matrix_rounding lost;
    if (c.how.exact.matrix_units) lost = matrix_rounding::bfloat16_weights();
    if (c.how.residual.matrix_units) lost.feature = lost.product = 0x1p-9, lost.state = 0x1p-16;
    auto const truth = attend(x, chosen, o, 0x1p-24, 0x1p-8, {}, {}, lost);
    auto const made = heads_of(c.output, 0);
    comparison all;
    for (std::size_t h = 0; h < made.size(); ++h)
        all.add("head " + std::to_string(h), made[h], truth.output[h], truth.output_bound[h]);
    std::printf("%-14s reference: %s\n", sharing.name, all.text().c_str());
    return all.passed;
}

/// Rows of the table, and lines of JSON.
class record
{
public:
    record(settings const& s, std::string device) : s_(s), device_(std::move(device))
    {
        if (!s.json.empty()) file_.open(s.json);
        std::printf("\n%-8s %-32s %10s %10s %10s %9s %9s\n", "tokens", "what", "ms", "min", "max", "floor", "union");
    }
    void add(std::string const& what, std::int64_t tokens, milliseconds const& t, double floor, double union_ratio)
    {
        std::printf("%-8ld %-32s %10.3f %10.3f %10.3f %9.3f %9.2f\n", static_cast<long>(tokens), what.c_str(), t.median,
                    t.least, t.most, floor, union_ratio);
        std::fflush(stdout);
        if (!file_) return;
        file_ << "{\"what\": \"prefill." << what << "\", \"shape\": {\"tokens\": " << tokens
              << ", \"batch\": 1, \"q_heads\": " << s_.query_heads << ", \"kv_heads\": " << s_.key_heads
              << ", \"d\": " << s_.dim << ", \"dv\": " << s_.dim << ", \"dtype\": \"bf16\", \"top_k\": 54"
              << ", \"union_ratio\": " << union_ratio << "}, \"ms\": " << t.median << ", \"min\": " << t.least
              << ", \"max\": " << t.most << ", \"n\": " << t.count << ", \"floor_ms\": " << floor << ", \"device\": \""
              << device_ << "\"}" << std::endl;
    }

private:
    settings const& s_;
    std::string device_;
    std::ofstream file_;
};

constexpr double peak = 690e9; // FLOPs in a millisecond, between burst and sustained

void run(settings const& s, record& r, timer const& time, inputs const& in, sharing_case const& sharing)
{
    prefill_case c(in, options_of(sharing.share, s.segment));
    std::int64_t const tokens = in.sizes.keys;
    c.whole_with_lists();
    list_figures const figures(c);
    if (tokens == s.tokens.front()) std::cout << c.how << '\n';
    std::string const name = sharing.name;
    r.add("statistics", tokens, time(9, [&] { c.statistics(); }), 0, figures.union_ratio);
    r.add("select." + name, tokens, time(9, [&] { c.select(); }), 0, figures.union_ratio);
    r.add("exact." + name, tokens, time(9, [&] { c.exact(); }), 4.0 * static_cast<double>(s.dim) * figures.pairs / peak,
          figures.union_ratio);
    if (tokens <= s.segment) r.add("residual." + name, tokens, time(9, [&] { c.residual(); }), 0, figures.union_ratio);
    r.add("whole." + name, tokens, time(9, [&] { c.whole(); }), 0, figures.union_ratio);
}

settings parse(int count, char** arguments)
{
    settings s;
    for (int i = 1; i < count; ++i)
    {
        std::string const a = arguments[i];
        auto const value = a.substr(a.find('=') + 1);
        if (a.rfind("--tokens=", 0) == 0)
        {
            s.tokens.clear();
            std::istringstream list(value);
            for (std::string n; std::getline(list, n, ',');) s.tokens.push_back(std::stoll(n));
        }
        else if (a.rfind("--heads=", 0) == 0)
            s.query_heads = std::stoll(value), s.key_heads = std::stoll(value.substr(value.find('/') + 1));
        else if (a.rfind("--dim=", 0) == 0)
            s.dim = std::stoll(value);
        else if (a.rfind("--segment=", 0) == 0)
            s.segment = std::stoi(value);
        else if (a.rfind("--json=", 0) == 0)
            s.json = value;
        else
        {
            std::fprintf(stderr, "bench_gpu_prefill: what is %s?\n", a.c_str());
            std::exit(2);
        }
    }
    return s;
}

} // namespace spla_bench

int main(int count, char** arguments)
{
    using namespace spla_bench;
    settings const s = parse(count, arguments);
    int devices = 0;
    if (cudaGetDeviceCount(&devices) != cudaSuccess || devices == 0) return 77; // what ctest takes for "skipped"
    Kokkos::ScopeGuard const kokkos;
    for (auto const& sharing : sharings)
        if (!holds(s, sharing)) return 1;
    cudaDeviceProp properties{};
    cudaGetDeviceProperties(&properties, exec_space().cuda_device());
    record r(s, properties.name);
    timer const time{exec_space()};
    for (std::int64_t const tokens : s.tokens)
    {
        spla::problem p;
        p.queries = p.keys = tokens;
        p.query_heads = s.query_heads, p.key_heads = s.key_heads, p.head_dim = p.value_dim = s.dim;
        p.element = spla::element_kind::bfloat16;
        inputs const in = make_inputs(p);
        for (auto const& sharing : sharings) run(s, r, time, in, sharing);
    }
}
