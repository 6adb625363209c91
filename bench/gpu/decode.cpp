// SPDX-FileCopyrightText: The spla authors
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
// Decode steps on a GPU: bench_gpu_decode [--tokens=32768,131072] [--batches=1,16,64] [--heads=32/8] [--dim=128]
// [--summaries=bf16|int8] [--json=FILE]. One new token of each sequence, replayed from a graph with caches driven out:
// the whole step, both branches on given lists, the exact branch on them. The step is held against prefill's output of
// the same token first. `closes`, `enters`: the step whose token completes a block, and that of the next token, with
// which a block leaves the window; of all sequences at once.
#include "decode_case.hpp"
#include "settings.hpp"
#include "timing.hpp"

#include <cmath>
#include <cstdio>
#include <fstream>
#include <iostream>

namespace spla_bench
{

struct decode_settings : shared_settings
{
    std::vector<std::int64_t> batches{1, 16, 64};
    spla::summary_storage summaries = spla::summary_storage::bf16;
};

inline decode_settings parse_decode(int count, char** arguments)
{
    decode_settings s;
    s.tokens = {32768, 131072};
    read_arguments("bench_gpu_decode", count, arguments, [&](std::string const& name, std::string const& value) {
        if (s.take(name, value)) return true;
        if (name == "--batches")
            s.batches = numbers_in(value);
        else if (name == "--summaries" && (value == "bf16" || value == "int8"))
            s.summaries = value == "int8" ? spla::summary_storage::int8 : spla::summary_storage::bf16;
        else
            return false;
        return true;
    });
    return s;
}

/// The largest difference of any sequence's row from prefill's, of the largest number.
inline double difference_from_prefill(decode_case const& c)
{
    auto const made = Kokkos::create_mirror_view_and_copy(Kokkos::HostSpace{}, c.output);
    auto const truth = Kokkos::create_mirror_view_and_copy(Kokkos::HostSpace{}, c.last);
    double worst = 0, largest = 0;
    for (std::size_t i = 0; i < made.size(); ++i)
    {
        double const x = static_cast<float>(made.data()[i]), y = static_cast<float>(truth.data()[i % truth.size()]);
        largest = std::max(largest, std::abs(y));
        worst = std::abs(x - y) <= worst ? worst : std::abs(x - y); // NaN stays
    }
    return worst / largest;
}

/// Bytes that a step has to read, for floors at 4.52 TB/s.
struct step_bytes
{
    double exact, both, whole;

    explicit step_bytes(decode_case const& c)
    {
        auto const& p = c.sizes;
        double const heads = static_cast<double>(c.batch * p.key_heads), row = 2.0 * (p.head_dim + p.value_dim);
        auto const window = spla::window_of(c.o);
        std::int64_t const blocks = spla::ceil_divide(p.keys, window.block),
                           competing = window.competing(p.keys - 1).count();
        std::int64_t const exact_blocks = blocks - competing + std::min<std::int64_t>(competing, c.o.top_k);
        exact = heads * exact_blocks * window.block * row;
        both = exact + heads * c.o.feature_map.features(static_cast<int>(p.head_dim)) * p.value_dim * 4.0;
        bool const eight_bits = c.o.storage == spla::summary_storage::int8; // and a scale of each vector
        double const vector = eight_bits ? p.head_dim + 4.0 : 2.0 * p.head_dim;
        whole = both + heads * competing * (2.0 + c.o.kept_keys) * vector;
    }
};

/// Where in its block the token of a step lies.
enum class step_kind
{
    usual,
    closes,
    enters
};

inline bool measure(decode_settings const& s, std::int64_t tokens, std::int64_t batch, step_kind kind,
                    std::ofstream& file, std::string const& device)
{
    bool const usual = kind == step_kind::usual;
    spla::problem p;
    p.element = spla::element_kind::bfloat16;
    p.queries = p.keys = tokens - (usual ? 31 : kind == step_kind::enters ? 63 : 0);
    p.query_heads = s.query_heads, p.key_heads = s.key_heads, p.head_dim = p.value_dim = s.dim;
    double const cache = 2.0 * static_cast<double>(batch * tokens * s.key_heads * s.dim) * sizeof(spla::bfloat16);
    std::size_t free_bytes = 0, all_bytes = 0;
    cudaMemGetInfo(&free_bytes, &all_bytes);
    if (cache > 0.7 * static_cast<double>(free_bytes))
    {
        if (usual)
            std::printf("%-8ld %5ld  not measured: its cache alone takes %.0f of %.0f GB\n", static_cast<long>(tokens),
                        static_cast<long>(batch), cache / 1e9, static_cast<double>(all_bytes) / 1e9);
        return true;
    }
    captured_stream const stream;
    spla::options<> o;
    o.storage = s.summaries;
    decode_case const c(stream, make_inputs(p), o, static_cast<int>(batch));
    if (usual) std::cout << c.plan() << '\n';
    double const far = difference_from_prefill(c);
    if (!(far <= 0x1p-6))
    {
        std::fprintf(stderr, "decode at %ld tokens, batch %ld: WRONG, %g from prefill\n", static_cast<long>(tokens),
                     static_cast<long>(batch), far);
        return false;
    }
    timer const time{c.exec()};
    step_bytes const bytes(c);
    auto const add = [&](std::string const& what, double least_bytes, auto const& work) {
        graph const recorded(stream.get(), work);
        auto const t = time(41, [&] { recorded.replay(); });
        double const floor = least_bytes / 4.52e6;
        std::printf("%-8ld %5ld  %-16s %9.1f %9.1f %9.1f %9.1f %7.2f\n", static_cast<long>(tokens),
                    static_cast<long>(batch), what.c_str(), 1e3 * t.median, 1e3 * t.least, 1e3 * t.most, floor,
                    least_bytes / t.median / 1e9);
        std::fflush(stdout);
        if (file)
            file << "{\"what\": \"decode." << what << "\", \"shape\": {\"tokens\": " << tokens
                 << ", \"batch\": " << batch << ", \"q_heads\": " << p.query_heads << ", \"kv_heads\": " << p.key_heads
                 << ", \"d\": " << p.head_dim << ", \"dv\": " << p.value_dim
                 << ", \"dtype\": \"bf16\", \"summaries\": \""
                 << (s.summaries == spla::summary_storage::int8 ? "int8" : "bf16") << "\", \"top_k\": " << o.top_k
                 << "}, \"ms\": " << t.median << ", \"min\": " << t.least << ", \"max\": " << t.most
                 << ", \"n\": " << t.count << ", \"gbs\": " << least_bytes / t.median / 1e6
                 << ", \"floor_ms\": " << floor / 1e3 << ", \"device\": \"" << device << "\"}" << std::endl;
    };
    add(usual ? "whole" : kind == step_kind::closes ? "whole.closes" : "whole.enters", bytes.whole, [&] { c.whole(); });
    if (!usual) return true;
    add("both", bytes.both, [&] { c.attention(); });
    add("exact", bytes.exact, [&] { c.exact(); });
    return true;
}

} // namespace spla_bench

int main(int count, char** arguments)
{
    using namespace spla_bench;
    auto const s = parse_decode(count, arguments);
    if (!has_device()) return 77; // what ctest takes for "skipped"
    Kokkos::ScopeGuard const kokkos;
    std::string const device = device_name();
    std::ofstream file;
    if (!s.json.empty()) file.open(s.json);
    std::printf("%-8s %5s  %-16s %9s %9s %9s %9s %7s\n", "tokens", "batch", "what", "us", "min", "max", "floor",
                "TB/s");
    for (auto const tokens : s.tokens)
        for (auto const batch : s.batches)
            for (auto const kind : {step_kind::usual, step_kind::closes, step_kind::enters})
                if (!measure(s, tokens, batch, kind, file, device)) return 1;
}
