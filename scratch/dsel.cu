// Selection for decoded tokens on Hopper against the portable kernel on the same device; then times.
#include "../bench/gpu/inputs.hpp"
#include "../bench/gpu/timing.hpp"

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <vector>

using namespace spla_bench;
using element = spla::bfloat16;
using space = exec_space::memory_space;
template <class T>
using view1 = Kokkos::View<T*, space>;
using rows_view = Kokkos::View<element***, Kokkos::LayoutRight, space>;
using cache_view = view4<element>;
using entries_view = view4<std::int32_t>;
using lengths_view = Kokkos::View<std::int32_t***, Kokkos::LayoutRight, space>;
using lists = spla::block_list<entries_view, lengths_view>;
namespace backend = spla::backend;
namespace portable = spla::portable;

int bad = 0;

struct part
{
    int length, fresh;
};
struct sizes
{
    int key_heads, group, d;
};

void fill(rows_view const& query)
{
    auto* const q = query.data();
    Kokkos::parallel_for(Kokkos::RangePolicy<exec_space, Kokkos::IndexType<std::int64_t>>(0, static_cast<std::int64_t>(query.span())),
                         KOKKOS_LAMBDA(std::int64_t i) { q[i] = element(2.0f * normal(static_cast<std::uint64_t>(i), 903)); });
}

template <class Options>
struct step
{
    Options o;
    sizes z;
    std::vector<part> parts;
    exec_space exec;
    bool in_pages;
    int tokens = 0, longest = 64, most_lists = 0, most = 1;
    static constexpr int page_tokens = 128;
    spla::batch_plan<element, Options> how;
    spla::state_pool<space> pool;
    spla::workspace<space> scratch;
    spla::sequence_batch<space> batch;
    rows_view query, output;
    Kokkos::View<std::int32_t**, Kokkos::LayoutRight, space> table;
    int rows = 0;

    step(Options const& with, sizes const& of, std::vector<part> const& which, bool pages, bool spoilt, int most_keys = 0)
        : o(with), z(of), parts(which), in_pages(pages)
    {
        int const n = static_cast<int>(parts.size());
        for (part const& p : parts) tokens += p.fresh, longest = std::max(longest, p.length), most = std::max(most, p.fresh);
        longest = (std::max(longest, most_keys) + 127) / 128 * 128;
        spla::batch_limits l;
        l.batch = n, l.queries = most, l.keys = longest, l.tokens = std::max(tokens, 1);
        l.key_heads = z.key_heads, l.query_heads = z.key_heads * z.group, l.head_dim = z.d, l.value_dim = z.d;
        how = spla::plan_batch<element>(exec, l, o, o.top_k);
        int pages_there = 0;
        for (part const& p : parts) pages_there += (p.length + page_tokens - 1) / page_tokens;
        spla::pool_sizes const s = in_pages ? spla::pool_sizes{n + 1, pages_there + 3, page_tokens, 0} : spla::pool_sizes{n + 1, 0, longest, 0};
        rows = in_pages ? pages_there + 3 : n + 1;
        spla::problem problem = l;
        problem.element = spla::element_kind::bfloat16;
        pool = spla::make_state_pool(exec, problem, s, o);
        scratch = spla::make_workspace(exec, how);
        Kokkos::deep_copy(scratch, std::byte{0xff});
        summaries(spoilt);
        table = decltype(table)("pages", n, std::max(1, longest / page_tokens));
        auto const t = Kokkos::create_mirror_view(table);
        Kokkos::deep_copy(t, -1);
        int next = pages_there + 2;
        for (int b = 0; b < n; ++b)
            for (int p = 0; in_pages && p * page_tokens < parts[b].length; ++p) t(b, p) = next--;
        Kokkos::deep_copy(table, t);
        query = rows_view("query", std::max(tokens, 1), z.key_heads * z.group, z.d);
        output = rows_view("output", std::max(tokens, 1), z.key_heads * z.group, z.d);
        fill(query);
        batch = arrays(parts, 0);
        exec.fence();
    }
    void summaries(bool spoilt)
    {
        auto const s = spla::detail::summaries_of(pool);
        int const vectors = s.vectors, variance = vectors > 1 && o.kept_keys + 1 < vectors ? 1 : -1, heads = z.key_heads, d = z.d;
        std::int64_t const count = static_cast<std::int64_t>(rows) * s.blocks * heads * s.sub_blocks * vectors;
        auto const storage = s.storage;
        auto* const values = s.values;
        auto* const scales = s.scales;
        Kokkos::parallel_for(Kokkos::RangePolicy<exec_space, Kokkos::IndexType<std::int64_t>>(0, count), KOKKOS_LAMBDA(std::int64_t v) {
            int const which = static_cast<int>(v % vectors);
            std::int64_t const block = v / vectors / heads;
            float const size = 0.5f + 0.5f * std::abs(normal(block, 77));
            for (int i = 0; i < d; ++i)
            {
                float x = normal(v * d + i, 901) * size;
                if (which == variance) x = std::abs(x) * 0.5f + 0.05f;
                if (storage == spla::summary_storage::int8)
                    static_cast<std::int8_t*>(values)[v * d + i] = static_cast<std::int8_t>(x * 30 > 127 ? 127 : (x * 30 < -127 ? -127 : x * 30));
                else
                {
                    if (spoilt && i == 3 && which == 0 && block % 97 == 5) x = block % 2 ? NAN : INFINITY;
                    if (spoilt && i == 5 && which == variance && block % 89 == 7) x = -1e6f;
                    static_cast<element*>(values)[v * d + i] = element(x);
                }
            }
            if (storage == spla::summary_storage::int8) scales[v] = (1.0f + 0.3f * normal(v, 55)) / 30;
        });
    }
    int slot(int b) const { return static_cast<int>(parts.size()) - b; }
    spla::sequence_batch<space> arrays(std::vector<part> const& of, int first_slot) const
    {
        int const n = static_cast<int>(of.size());
        view1<std::int32_t> const offsets("offsets", n + 1), held("lengths", n), slots("slots", n);
        auto const a = Kokkos::create_mirror_view(offsets), b = Kokkos::create_mirror_view(held), c = Kokkos::create_mirror_view(slots);
        a(0) = 0;
        for (int i = 0; i < n; ++i) a(i + 1) = a(i) + of[i].fresh, b(i) = of[i].length, c(i) = slot(i + first_slot);
        Kokkos::deep_copy(offsets, a), Kokkos::deep_copy(held, b), Kokkos::deep_copy(slots, c);
        return {offsets, held, slots};
    }
    lists room() const
    {
        std::size_t n = 1;
        for (part const& p : parts) n += spla::tile_count(p.fresh, p.length, spla::window_of(o).tile) + 8;
        lists l{entries_view("e", 1, n, z.key_heads, std::max(1, o.top_k)), lengths_view("n", 1, n, z.key_heads)};
        Kokkos::deep_copy(l.indices, -7), Kokkos::deep_copy(l.lengths, -7);
        return l;
    }
    template <class Query>
    auto call(lists const& to, spla::sequence_batch<space> const& with, Query const& q, int first = 0) const
    {
        spla::attention_extras<element> extras;
        extras.return_lists(to);
        backend::batch_call<element> c;
        auto* const nothing = reinterpret_cast<element*>(std::uintptr_t{1} << 20);
        auto const cache = Kokkos::View<element****, Kokkos::LayoutRight, space, Kokkos::MemoryTraits<Kokkos::Unmanaged>>(nothing, rows, in_pages ? page_tokens : longest, z.key_heads, z.d);
        if (in_pages)
        {
            auto const t = Kokkos::subview(table, std::make_pair(first, static_cast<int>(parts.size())), Kokkos::ALL);
            c = backend::make_batch_call(how, with, q, spla::paged_cache{cache, cache, t}, output, pool, scratch.data(), extras);
        }
        else
            c = backend::make_batch_call(how, with, q, spla::slot_cache<decltype(cache), decltype(cache)>{cache, cache}, output, pool, scratch.data(), extras);
        return c;
    }
};

/// What run_step() does of it.
template <class Options>
struct selection
{
    step<Options> const& s;
    exec_space exec;
    backend::batch_call<element> call;
    spla::detail::sequence_table sequences;
    portable::selection_shape shape;
    backend::decoded_selection<exec_space, element, Options> decoded;

    selection(step<Options> const& of, exec_space const& where, backend::batch_call<element> const& c)
        : s(of), exec(where), call(c), sequences(c.made.trusted(c.sequences)), shape(spla::detail::selection_shape_of(of.how.limits, of.o, sequences)),
          decoded(exec, of.how, call, shape)
    {
    }
    void schedule(bool tuned) const
    {
        backend::make_schedule(exec, s.how, call, backend::batch_attention_shape(s.how, call, sequences), shape, {}, tuned ? decoded.work() : portable::decoded_work{});
    }
    void tuned() const { decoded.select(); }
    void plain() const
    {
        auto kernel = portable::make_selection<exec_space, typename Options::metric_type, element>(shape);
        kernel.query = call.query, kernel.key = call.key, kernel.summary = call.summary, kernel.list = call.list;
        kernel.lists_per_item = s.how.lists_per_item;
        kernel.items = call.made.table(portable::schedule::choices);
        kernel.scratch_bytes = kernel.carve(nullptr).bytes;
        portable::launch("spla::select", exec, s.how.most_choices * s.z.key_heads, kernel.scratch_bytes, kernel);
    }
};

struct found_lists
{
    std::vector<std::vector<int>> of; ///< entries to the capacity, then the length
    bool operator==(found_lists const&) const = default;
};
found_lists on_host(lists const& l, int first, int count)
{
    auto const e = Kokkos::create_mirror_view_and_copy(Kokkos::HostSpace{}, l.indices);
    auto const n = Kokkos::create_mirror_view_and_copy(Kokkos::HostSpace{}, l.lengths);
    found_lists f;
    for (int i = first; i < first + count; ++i)
        for (std::size_t h = 0; h < e.extent(2); ++h)
        {
            std::vector<int> one;
            for (std::size_t j = 0; j < e.extent(3); ++j) one.push_back(e(0, i, h, j));
            one.push_back(n(0, i, h));
            f.of.push_back(one);
        }
    return f;
}

/// Group masses of one list in double, from what is stored.
template <class Options>
std::vector<double> masses(step<Options> const& s, int b, int token, std::int64_t position, int head)
{
    using Metric = typename Options::metric_type;
    auto sum = spla::detail::summaries_of(s.pool);
    auto const range = spla::window_of(s.o).competing(position);
    int const n = static_cast<int>(range.count()), d = s.z.d, g = s.z.group;
    std::vector<double> total(n, 0.0);
    auto const q = Kokkos::create_mirror_view_and_copy(Kokkos::HostSpace{}, s.query);
    auto const t = Kokkos::create_mirror_view_and_copy(Kokkos::HostSpace{}, s.table);
    std::size_t const bytes = s.pool.buffer().extent(0);
    static std::vector<std::byte> image;
    static void const* of = nullptr;
    if (of != s.pool.buffer().data() || image.size() != bytes)
    {
        image.resize(bytes);
        cudaMemcpy(image.data(), s.pool.buffer().data(), bytes, cudaMemcpyDeviceToHost);
        of = s.pool.buffer().data();
    }
    auto const* const base = reinterpret_cast<std::byte const*>(s.pool.buffer().data());
    auto const* const values = image.data() + (static_cast<std::byte const*>(sum.values) - base);
    auto const* const scales = sum.scales ? reinterpret_cast<float const*>(image.data() + (reinterpret_cast<std::byte const*>(sum.scales) - base)) : nullptr;
    double const scale = s.o.scale.value_or(1 / std::sqrt(double(d)));
    for (int h = 0; h < g; ++h)
    {
        std::vector<double> a(n);
        double top = -INFINITY;
        for (int j = 0; j < n; ++j)
        {
            std::int64_t const block = range.begin + j;
            std::int64_t const row = s.in_pages ? t(b, block * 64 / s.page_tokens) : s.slot(b);
            std::int64_t const at = s.in_pages ? block % (s.page_tokens / 64) : block;
            std::int64_t const v0 = ((row * sum.blocks + at) * s.z.key_heads + head) * sum.vectors;
            auto const value = [&](int v, int i) {
                std::int64_t const k = (v0 + v) * d + i;
                if (sum.storage == spla::summary_storage::int8) return double(reinterpret_cast<std::int8_t const*>(values)[k]) * scales[v0 + v];
                return double(static_cast<float>(reinterpret_cast<element const*>(values)[k]));
            };
            double x = 0, var = 0, y = 0;
            for (int i = 0; i < d; ++i)
            {
                double const qi = scale * static_cast<float>(q(token, head * g + h, i));
                x += qi * value(0, i);
                if (Metric::covariance != spla::covariance_kind::none) var += qi * qi * value(1, i);
                if (s.o.kept_keys) y += qi * value(sum.vectors - 1, i);
            }
            bool const cumulant = Metric::expansion == spla::expansion_kind::cumulant;
            double m = (64 - s.o.kept_keys) * std::exp(x + (cumulant ? var / 2 : 0)) * (cumulant ? 1 : (1 + var / 2 > 0 ? 1 + var / 2 : NAN));
            if (s.o.kept_keys) m += std::exp(y);
            a[j] = m;
            if (std::isfinite(m)) top += 0, top = std::max(top, m);
        }
        double all = 0;
        for (double m : a) all += std::isfinite(m) ? m : 0;
        for (int j = 0; j < n; ++j) total[j] += a[j] / all;
    }
    return total;
}

template <class Options>
void check(char const* name, Options const& o, sizes const& z, std::vector<part> const& parts, bool pages, bool spoilt)
{
    step<Options> const s(o, z, parts, pages, spoilt);
    auto const a = s.room(), b = s.room(), c = s.room();
    selection<Options> const tuned(s, s.exec, s.call(a, s.batch, s.query)), again(s, s.exec, s.call(c, s.batch, s.query)), plain(s, s.exec, s.call(b, s.batch, s.query));
    bool ok = static_cast<bool>(tuned.decoded);
    if (!ok) std::printf("  %s\n", s.how.decode_selection.reason);
    spla::warm_up(s.exec, s.how);
    plain.schedule(false), plain.plain();
    tuned.schedule(true), tuned.tuned();
    again.schedule(true), again.tuned();
    s.exec.fence();
    if (auto const e = cudaGetLastError(); e != cudaSuccess) std::printf("  %s\n", cudaGetErrorString(e)), std::exit(1);
    bool repeats = true, alone = true, untouched = true;
    int first = 0, differ = 0, total = 0, wrong = 0, first_token = 0;
    double worst = 0;
    auto const tile = spla::window_of(o).tile;
    for (int i = 0; i < static_cast<int>(parts.size()); ++i)
    {
        part const p = parts[i];
        int const count = static_cast<int>(spla::tile_count(p.fresh, p.length, tile));
        auto const x = on_host(a, first, count), y = on_host(b, first, count);
        repeats = repeats && x == on_host(c, first, count);
        bool const resumes = o.share.kind == spla::sharing_kind::first_query && p.length > p.fresh && (p.length - p.fresh) % tile != 0;
        for (std::size_t k = 0; k < x.of.size(); ++k)
        {
            int const list = static_cast<int>(k) / z.key_heads, head = static_cast<int>(k) % z.key_heads;
            if (p.fresh > 8 || (resumes && list == 0))
            {
                untouched = untouched && x.of[k].back() == -7;
                continue;
            }
            ++total;
            if (x.of[k] == y.of[k]) continue;
            ++differ;
            std::int64_t const position = std::max<std::int64_t>(p.length - p.fresh, ((p.length - p.fresh) / tile + list) * tile);
            auto const m = masses(s, i, first_token + static_cast<int>(position - (p.length - p.fresh)), position, head);
            int const begin = o.sink_blocks;
            std::vector<int> only[2];
            auto const has = [](std::vector<int> const& v, int e) { return std::find(v.begin(), v.end() - 1, e) != v.end() - 1; };
            for (int j = 0; j < x.of[k].back(); ++j) if (!has(y.of[k], x.of[k][j])) only[0].push_back(x.of[k][j]);
            for (int j = 0; j < y.of[k].back(); ++j) if (!has(x.of[k], y.of[k][j])) only[1].push_back(y.of[k][j]);
            bool sorted = true;
            for (int j = 1; j < x.of[k].back(); ++j) sorted = sorted && x.of[k][j] > x.of[k][j - 1];
            double gap = sorted ? 0 : 9;
            if (only[0].size() != only[1].size()) gap = o.top_p < 1 && std::abs(x.of[k].back() - y.of[k].back()) <= 1 ? 1e-9 : 8;
            for (std::size_t j = 0; j < std::min(only[0].size(), only[1].size()); ++j)
            {
                double const u = m[only[0][j] - begin], v = m[only[1][j] - begin];
                gap = std::max(gap, std::isfinite(u) && std::isfinite(v) ? std::abs(u - v) / std::max(u, v) : 7.0);
            }
            worst = std::max(worst, gap);
            if (!(gap < 1e-2) && ++wrong <= 3)
            {
                std::printf("  sequence %d list %d head %d: lengths %d %d, gap %g\n   ", i, list, head, x.of[k].back(), y.of[k].back(), gap);
                for (int j = 0; j < std::min<int>(40, x.of[k].size()); ++j) std::printf(" %d", x.of[k][j]);
                std::printf("\n   ");
                for (int j = 0; j < std::min<int>(40, y.of[k].size()); ++j) std::printf(" %d", y.of[k][j]);
                std::printf("\n");
            }
        }
        if (p.fresh > 0 && p.fresh <= 8)
        {
            auto const l = s.room();
            auto const q = Kokkos::subview(s.query, std::make_pair(first_token, first_token + p.fresh), Kokkos::ALL, Kokkos::ALL);
            selection<Options> const one(s, s.exec, s.call(l, s.arrays({p}, i), q, i));
            one.schedule(true), one.tuned();
            s.exec.fence();
            alone = alone && on_host(l, 0, count) == x;
        }
        first += count, first_token += p.fresh;
    }
    // Recorded for other lengths, replayed.
    bool replays = true;
    {
        auto const g = s.room();
        auto other = parts;
        for (auto& p : other) p.length = std::max(p.fresh, p.length / 2);
        auto const arrays = s.arrays(other, 0);
        cudaStream_t stream;
        cudaStreamCreate(&stream);
        {
            exec_space const exec(stream);
            selection<Options> const t(s, exec, s.call(g, arrays, s.query));
            cudaGraph_t graph{};
            cudaGraphExec_t run{};
            cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal);
            t.schedule(true), t.tuned();
            cudaStreamEndCapture(stream, &graph);
            cudaGraphInstantiate(&run, graph, 0);
            cudaGraphLaunch(run, stream);
            cudaMemcpyAsync(const_cast<std::int32_t*>(arrays.lengths.data()), s.batch.lengths.data(), parts.size() * 4, cudaMemcpyDeviceToDevice, stream);
            cudaGraphLaunch(run, stream);
            cudaStreamSynchronize(stream);
            cudaGraphExecDestroy(run), cudaGraphDestroy(graph);
        }
        cudaStreamDestroy(stream);
        replays = first_token == 0 || on_host(g, 0, first) == on_host(a, 0, first) || o.share.kind == spla::sharing_kind::first_query;
    }
    ok = ok && wrong == 0 && repeats && alone && replays && untouched;
    bad += !ok;
    std::printf("%-16s %s heads %d x %d, d %d: %d lists, %d differ, largest gap %.1e%s%s%s%s%s\n", name, pages ? "pages" : "slots", z.key_heads, z.group, z.d, total, differ, worst,
                repeats ? "" : " NOT REPEATED", alone ? "" : " ALONE DIFFERS", replays ? "" : " REPLAY DIFFERS", untouched ? "" : " TOUCHED others", ok ? "" : "  <-- BAD");
    std::fflush(stdout);
}

template <class Options>
void times(char const* name, Options const& o, int batch, int keys, int fresh = 1, int group = 4, bool pages = false, bool compare = false)
{
    std::vector<part> const parts(batch, part{keys, fresh});
    step<Options> const s(o, {8, group, 128}, parts, pages, false);
    auto const to = s.room();
    selection<Options> const t(s, s.exec, s.call(to, s.batch, s.query));
    spla::warm_up(s.exec, s.how);
    t.schedule(true);
    // Counters are cleared by the schedule.
    std::vector<double> us;
    Kokkos::View<char*, space> const other("other", std::size_t{512} << 20);
    cudaEvent_t e[2];
    cudaEventCreate(&e[0]), cudaEventCreate(&e[1]);
    auto const measure = [&](bool flush) {
    us.clear();
    for (int i = 0; i < 16; ++i)
    {
        if (flush) Kokkos::deep_copy(s.exec, other, static_cast<char>(i));
        t.schedule(true);
        cudaEventRecord(e[0], s.exec.cuda_stream());
        t.tuned();
        cudaEventRecord(e[1], s.exec.cuda_stream());
        cudaEventSynchronize(e[1]);
        float ms;
        cudaEventElapsedTime(&ms, e[0], e[1]);
        if (i) us.push_back(1e3 * ms);
    }
    std::sort(us.begin(), us.end());
    };
    measure(false);
    double const warm = us[us.size() / 2];
    measure(true);
    auto const summary = spla::detail::summaries_of(s.pool);
    double const bytes = double(batch) * 8 * summary.vectors * 128 * (summary.storage == spla::summary_storage::int8 ? 1 : 2) * (keys / 64);
    std::printf("%-12s batch %2d keys %7d new %d group %2d: %7.1f us (%.1f to %.1f), %.1f MB, floor %.1f us, %.2f TB/s, warm %.1f us", name, batch, keys, fresh, group, us[us.size() / 2], us.front(), us.back(),
                bytes / 1e6, bytes / 4.52e6, bytes / us[us.size() / 2] / 1e6, warm);
    if (compare)
    {
        auto const b = s.room();
        selection<Options> const plain(s, s.exec, s.call(b, s.batch, s.query));
        plain.schedule(false);
        plain.plain();
        s.exec.fence();
        auto const x = on_host(to, 0, batch * fresh), y = on_host(b, 0, batch * fresh);
        int differ = 0;
        for (std::size_t i = 0; i < x.of.size(); ++i) differ += x.of[i] != y.of[i];
        std::printf("; %d of %zu lists differ", differ, x.of.size());
    }
    std::printf("\n");
    std::fflush(stdout);
    cudaEventDestroy(e[0]), cudaEventDestroy(e[1]);
}

int main(int n, char** v)
{
    Kokkos::ScopeGuard const k;
    int const only = n > 1 ? std::atoi(v[1]) : 0; // 1: checks, 2: times
    using paper = spla::options<>;
    paper const o;
    if (only != 2)
    {
        std::vector<part> const ragged = {{0, 0}, {1, 1}, {63, 1}, {64, 1}, {700, 1}, {5000, 1}, {33000, 1}, {300, 40}, {0, 0}, {4097, 1}, {100003, 1}, {4353, 1}};
        std::vector<part> const several = {{3, 3}, {65, 3}, {0, 0}, {700, 3}, {5000, 8}, {5121, 3}, {33000, 3}, {200, 20}, {640, 2}, {20001, 5}, {4803, 8}};
        for (int group : {1, 3, 4, 7, 16, 64})
            for (bool pages : {false, true})
            {
                check("one token", o, {2, group, 128}, ragged, pages, !pages);
                check("several", o, {2, group, 128}, several, pages, pages);
            }
        for (sizes z : {sizes{3, 4, 64}, sizes{2, 12, 96}, sizes{2, 40, 8}, sizes{1, 3, 72}}) check("widths", o, z, several, true, true);
        auto p = o;
        p.top_k = 0;
        check("top_k 0", p, {2, 4, 128}, several, false, false);
        p.top_k = 300;
        check("top_k 300", p, {2, 4, 128}, ragged, false, true);
        p = o, p.top_p = 0.3;
        check("top_p 0.3", p, {2, 4, 128}, ragged, false, true);
        p.top_p = 0.9, p.top_k = 2000;
        check("top_p 0.9", p, {2, 4, 128}, several, true, false);
        p = o, p.kept_keys = 0;
        check("kept 0", p, {2, 4, 128}, several, true, true);
        p = o, p.storage = spla::summary_storage::int8;
        for (int group : {1, 4, 7, 40}) check("int8", p, {2, group, 128}, several, group == 4, false);
        check("int8", p, {2, 4, 72}, ragged, true, false);
        p = o, p.share = spla::sharing::first_query(2);
        check("first_query 2", p, {2, 4, 128}, several, false, false);
        p.share = spla::sharing::first_query(32);
        check("first_query 32", p, {2, 4, 128}, several, true, false);
        p.share = spla::sharing::first_query(128);
        check("first_query128", p, {2, 4, 128}, several, false, false);
        p = o, p.sink_blocks = 3, p.local_blocks = 0;
        check("windows", p, {2, 4, 128}, several, false, true);
#ifndef QUICK
        spla::options<spla::mean_only> m;
        check("mean_only", m, {2, 4, 128}, several, false, true);
        m.kept_keys = 1;
        check("mean_only, kept", m, {2, 4, 128}, several, true, true);
        spla::options<spla::cumulant<spla::diagonal>> c;
        check("cumulant", c, {2, 4, 128}, several, false, true);
#endif
        std::vector<part> many;
        for (int i = 0; i < 77; ++i) many.push_back({i * 977 % 30000 + 8, i % 5});
        check("77 sequences", o, {2, 4, 128}, many, true, true);
    }
    if (only != 1)
    {
        for (int batch : {1, 16, 64})
            for (int keys : {32768, 131072}) times("default", o, batch, keys, 1, 4, false, true);
        times("default", o, 1, 524288), times("default", o, 1, 1 << 20);
        times("pages", o, 64, 32768, 1, 4, true);
        times("default", o, 1, 32768, 8), times("default", o, 16, 32768, 4), times("default", o, 64, 32768, 1, 16), times("default", o, 64, 32768, 1, 64);
        auto p = o;
        p.storage = spla::summary_storage::int8;
        for (int batch : {1, 16, 64})
            for (int keys : {32768, 131072}) times("int8", p, batch, keys);
    }
    std::printf("%d bad\n", bad);
    return bad != 0;
}
