// SPDX-FileCopyrightText: The spla authors
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
// Lesson 1: SPLA on the queries, keys and values of a real language model.
//
//     01_real_model [FILE.safetensors]      q [token, head, dim], k and v [token, key head, dim]
//
// Prints what each query reads, how much of the true attention mass that holds, and what it costs beside dense
// attention; draws the choice as spla_real_model.png. Non-zero where decoding does not agree with the prefill; one line
// on stderr, and nothing else, where the file is not one that the lesson can take.
#include "block_map.hpp"
#include "measure.hpp"

#include <cstdio>

namespace
{
using element = spla::bfloat16;
using lesson::tensor;
using real_trace = lesson::trace<element>;

template <class View>
auto on_host(View const& view)
{
    return Kokkos::create_mirror_view_and_copy(Kokkos::HostSpace{}, view);
}

/// Mean number of keys that the queries of a whole text read exactly.
template <class Options>
double keys_read(lesson::attended const& run, int tokens, Options const& o)
{
    auto const lengths = on_host(run.lists.lengths);
    spla::window const bounds = spla::window_of(o);
    double sum = 0;
    for (int p = 0; p < tokens; ++p)
        for (std::size_t head = 0; head < lengths.extent(2); ++head)
            sum += static_cast<double>(p + 1 - (bounds.competing(p).count() - lengths(0, p, head)) * o.block);
    return sum / (static_cast<double>(tokens) * static_cast<double>(lengths.extent(2)));
}

/// The same exact kernel with a window as long as the text: nothing is left out, so nothing is selected.
spla::options<> dense_options(int tokens)
{
    return {.local_blocks = tokens / 64 + 1, .top_k = 1, .combine = spla::combination_kind::sparse_only};
}

struct cost
{
    int tokens;
    double dense_keys, spla_keys, dense_seconds, spla_seconds;
};

cost cost_of(real_trace const& x, lesson::attended const& whole)
{
    auto const dense = lesson::prefill(x, x.tokens(), dense_options(x.tokens()));
    return {x.tokens(), (x.tokens() + 1) / 2.0, keys_read(whole, x.tokens(), spla::options<>{}), dense.seconds,
            whole.seconds};
}

/// One line of the table of selections: the exact branch alone, 16 blocks by the given metric.
template <class Metric>
void show_selection(char const* name, real_trace const& x, lesson::dense_truth const& truth, spla::options<Metric> o)
{
    o.top_k = 16;
    o.combine = spla::combination_kind::sparse_only;
    int const queries = x.tokens() - x.tokens() / 2;
    auto const made = lesson::prefill(x, queries, o, x.tokens());
    auto const share =
        lesson::captured_mass(truth, on_host(made.lists.indices), on_host(made.lists.lengths), x.tokens() / 2, o);
    std::printf("  %-40s %9.3f %9.3f %12.3f\n", name, share.captured, share.total,
                lesson::output_error(truth, on_host(made.output), x.tokens() / 2));
    std::fflush(stdout);
}

void show_selections(real_trace const& x)
{
    std::vector<int> positions;
    int const first = x.tokens() / 2;
    for (int p = first; p < x.tokens(); p += std::max(1, (x.tokens() - first) / 256)) positions.push_back(p);
    auto const truth = lesson::dense_attention(x, positions, 1 / std::sqrt(x.width()), 64);
    std::printf("\nWhat 16 selected blocks hold of the true attention mass (%zu queries from token %d on, %d heads)\n",
                positions.size(), first, x.query_heads());
    std::printf("  %-40s %9s %9s %12s\n", "metric", "competing", "all", "output error");
    show_selection("mean_only (NSA, MoBA, InfLLM-v2)", x, truth, spla::options<spla::mean_only>{});
    show_selection("taylor<diagonal> (the paper)", x, truth, spla::paper());
    show_selection("taylor<diagonal>, 1 kept key (default)", x, truth, spla::options<>{});
    show_selection("exact_mass (oracle, reads every key)", x, truth, spla::options<spla::exact_mass>{});
    std::puts("  competing: of the blocks a query may choose from; all: with sink and window, which are always read;\n"
              "  output error: mean of |o - dense| / |dense|, exact branch alone.");
}

/// The picture of the first key head's choices over the whole text. Returns false where it cannot be written.
bool show_picture(real_trace const& x, char const* path)
{
    spla::options<> const o{.top_k = 16, .combine = spla::combination_kind::sparse_only};
    auto const run = lesson::prefill(x, x.tokens(), o);
    auto const indices = on_host(run.lists.indices);
    auto const lengths = on_host(run.lists.lengths);
    std::vector<int> positions;
    for (int i = 1; i <= 128; ++i) positions.push_back(static_cast<int>(std::int64_t{i} * x.tokens() / 128) - 1);
    std::vector<std::vector<int>> chosen;
    for (int p : positions) chosen.emplace_back(&indices(0, p, 0, 0), &indices(0, p, 0, 0) + lengths(0, p, 0));
    auto const truth = lesson::dense_attention(x, positions, 1 / std::sqrt(x.width()), o.block);
    return lesson::draw_block_map(path, truth, chosen, 0, x.query_heads() / x.key_heads(), o);
}

int run(std::string const& path, lesson::trace_file const& file)
{
    real_trace const x = lesson::views_of<element>(file);
    std::printf("%s\n%d tokens, %d query heads, %d key heads, width %d; %s, %d threads\n", path.c_str(), x.tokens(),
                x.query_heads(), x.key_heads(), x.width(), lesson::space::name(), lesson::space().concurrency());
    std::fflush(stdout);

    spla::options<> const o;
    auto const whole = lesson::prefill(x, x.tokens(), o);
    auto const steps = lesson::decode_last(x, 16, whole, o);
    bool const agree = steps.same_lists && steps.judged.passed;

    std::vector<cost> costs{cost_of(x, whole)};
    if (int const copies = 32768 / x.tokens(); copies > 1)
    {
        real_trace const longer = lesson::views_of<element>(file, copies);
        costs.push_back(cost_of(longer, lesson::prefill(longer, longer.tokens(), o)));
    }
    std::printf("\nPrefill, default options (54 selected blocks of 64 keys, 1 sink and 8 local): keys read per query, "
                "and time\n");
    std::printf("  %8s %12s %12s %9s %12s %12s %9s\n", "tokens", "dense keys", "spla keys", "share", "dense", "spla",
                "speed-up");
    for (auto const& c : costs)
        std::printf("  %8d %12.0f %12.0f %8.0f%% %10.2f s %10.2f s %8.2fx\n", c.tokens, c.dense_keys, c.spla_keys,
                    100 * c.spla_keys / c.dense_keys, c.dense_seconds, c.spla_seconds,
                    c.dense_seconds / c.spla_seconds);
    std::puts("  dense: spla's own exact branch over every block; the longer text is the file's, repeated.");
    std::printf("\nThe last 16 tokens by append and decode: %.2f ms a token; largest difference from the whole prefill "
                "%.1e, lists %s: %s\n",
                1000 * steps.seconds_a_token, steps.worst, steps.same_lists ? "identical" : "DIFFERENT",
                agree ? "agrees" : "DOES NOT AGREE");
    std::printf("  agrees: the same lists, every number within the bound computed for it (%.0e of it at most)\n",
                steps.judged.worst);

    show_selections(x);

    char const* const picture = "spla_real_model.png";
    if (!show_picture(x, picture)) throw std::runtime_error(std::string(picture) + ": cannot be written");
    std::printf("\n%s: blocks that queries of key head 0 read (16 selected), over the true mass.\n"
                "  blue: forced, orange: selected, grey: not read; the darker, the more true mass.\n",
                picture);
    return agree ? 0 : 1;
}
} // namespace

int main(int count, char* arguments[])
{
    try
    {
        std::string const path = count > 1 ? arguments[1] : SPLA_EXAMPLES_DIR "/data/smollm2_135m_layer_09.safetensors";
        // Before Kokkos starts, so that a bad file gets its one line and nothing else.
        lesson::trace_file const file = lesson::read_trace(path);
        lesson::require_supported(path, file);
        Kokkos::ScopeGuard const kokkos(Kokkos::InitializationSettings().set_disable_warnings(true));
        return run(path, file);
    } catch (std::exception const& e)
    {
        std::fprintf(stderr, "01_real_model: %s\n", e.what());
        return 1;
    }
}
