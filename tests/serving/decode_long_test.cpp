// SPDX-FileCopyrightText: The spla authors
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
// One step of decoded tokens whose sequences have from one to a million tokens.
#include "../catch.hpp"
#include "engine.hpp"

#if defined(SPLA_TEST_HAS_DEVICE)

using namespace spla_test;

namespace
{
using space = device::memory_space;
using element = spla::bfloat16;
using rows = Kokkos::View<element***, Kokkos::LayoutRight, space>;
using cache_view = Kokkos::View<element****, Kokkos::LayoutRight, space>;
using indices = Kokkos::View<std::int32_t*, space>;

constexpr int key_heads = 2, group = 4, dim = 64, chunk = 32768, capacity = 1 << 20;

/// Numbers of a view, made where it lies: about normal, the same for the same seed.
template <class View>
void fill(device const& exec, View const& v, std::uint64_t seed)
{
    auto* const data = v.data();
    Kokkos::parallel_for(
        Kokkos::RangePolicy<device, Kokkos::IndexType<std::int64_t>>(exec, 0, static_cast<std::int64_t>(v.size())),
        KOKKOS_LAMBDA(std::int64_t i) {
            std::uint64_t x = static_cast<std::uint64_t>(i) * 0x9e3779b97f4a7c15u + seed * 0xd1b54a32d192ed03u;
            x = (x ^ x >> 31) * 0xbf58476d1ce4e5b9u;
            x = (x ^ x >> 27) * 0x94d049bb133111ebu;
            x ^= x >> 31;
            float sum = 0;
            for (int k = 0; k < 4; ++k) sum += static_cast<float>(x >> 16 * k & 0xffff) / 65536.0f - 0.5f;
            data[i] = element(1.7f * sum);
        });
}

indices numbers(std::vector<int> const& values)
{
    indices const made("numbers", values.size());
    auto const host = Kokkos::create_mirror_view(made);
    std::copy(values.begin(), values.end(), host.data());
    Kokkos::deep_copy(made, host);
    return made;
}

spla::batch_limits limits(int sequences, int queries)
{
    spla::batch_limits l;
    l.element = spla::element_kind::bfloat16;
    l.batch = sequences, l.queries = queries, l.keys = capacity, l.tokens = std::max(queries, sequences);
    l.prefilled = queries > spla::detail::decode_queries ? capacity : 0;
    l.query_heads = group * key_heads, l.key_heads = key_heads, l.head_dim = l.value_dim = dim;
    return l;
}
} // namespace

TEST_CASE("sequences of one to a million tokens, decoded in one batch, are as each alone",
          "[.full][serving][decode_attention]")
{
    std::vector<int> const lengths{1 << 20, 1, 64, 65, 1000, 1 << 19, 4097, 32768, 129, 131073, 262143, 63};
    int const count = static_cast<int>(lengths.size());
    device const exec;
    spla::options<> o;
    o.local_blocks = 1;
    cache_view const key("keys", count, capacity, key_heads, dim), value("values", key.layout());
    rows const query("query", chunk, group * key_heads, dim), output("output", query.layout());
    fill(exec, key, 1), fill(exec, value, 2), fill(exec, query, 3);
    spla::slot_cache<cache_view, cache_view> const cache{key, value};
    auto const pool = spla::make_state_pool(exec, limits(count, chunk), {count, 0, capacity, 64}, o);
    {
        auto const plan = spla::plan_batch<element>(exec, limits(1, chunk), o);
        auto const scratch = spla::make_workspace(exec, plan);
        for (int b = 0; b < count; ++b)
            for (int done = 0; done < lengths[b] - 1;)
            {
                int const end = std::min(done + chunk, lengths[b] - 1);
                spla::sequence_batch<space> const one{numbers({0, end - done}), numbers({end}), numbers({b})};
                auto const part = std::pair(0, end - done);
                spla::run_batch(exec, plan, one, Kokkos::subview(query, part, Kokkos::ALL, Kokkos::ALL), cache,
                                Kokkos::subview(output, part, Kokkos::ALL, Kokkos::ALL), pool, scratch);
                done = end;
                exec.fence(); // before the arrays go
            }
    }
    auto const plan = spla::plan_batch<element>(exec, limits(count, 1), o);
    auto const scratch = spla::make_workspace(exec, plan);
    auto const decode = [&](std::vector<int> const& of) {
        std::vector<int> offsets{0}, length;
        for (int const b : of) offsets.push_back(offsets.back() + 1), length.push_back(lengths[b]);
        // Tokens of a sequence have the same queries in any batch.
        rows const q("query", of.size(), group * key_heads, dim), made("output", q.layout());
        for (std::size_t i = 0; i < of.size(); ++i)
            Kokkos::deep_copy(exec, Kokkos::subview(q, std::pair(i, i + 1), Kokkos::ALL, Kokkos::ALL),
                              Kokkos::subview(query, std::pair(of[i], of[i] + 1), Kokkos::ALL, Kokkos::ALL));
        spla::sequence_batch<space> const batch{numbers(offsets), numbers(length), numbers(of)};
        spla::run_batch(exec, plan, batch, q, cache, made, pool, scratch);
        exec.fence();
        return Kokkos::create_mirror_view_and_copy(Kokkos::HostSpace{}, made);
    };
    std::vector<int> all(count);
    for (int b = 0; b < count; ++b) all[b] = b;
    auto const together = decode(all);
    std::size_t const row = group * key_heads * dim;
    for (int b = 0; b < count; ++b)
    {
        INFO("sequence " << b << " of " << lengths[b] << " tokens");
        auto const alone = decode({b}); // its last token again
        CHECK(std::memcmp(together.data() + b * row, alone.data(), row * sizeof(element)) == 0);
        bool finite = true;
        for (std::size_t i = 0; i < row; ++i) finite = finite && std::isfinite(static_cast<float>(alone.data()[i]));
        CHECK(finite);
    }
}
#endif
