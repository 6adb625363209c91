// SPDX-FileCopyrightText: The spla authors
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
// Every call of spla for the default execution space: what a toolchain must accept, also where no device can run it.
#include <spla/spla.hpp>

#include <cstdio>

namespace
{
using exec_space = Kokkos::DefaultExecutionSpace;
using memory = exec_space::memory_space;
constexpr int tokens = 64, query_heads = 2, width = 64;

template <class Element>
struct arrays
{
    using view = Kokkos::View<Element****, Kokkos::LayoutRight, memory>;
    view q{"q", 1, tokens, query_heads, width}, k{"k", 1, tokens, 1, width}, v{"v", 1, tokens, 1, width};
    view sparse{"sparse", 1, tokens, query_heads, width}, residual{"residual", 1, tokens, query_heads, width};
    view out{"out", 1, tokens, query_heads, width};
    spla::block_list<Kokkos::View<std::int32_t****, Kokkos::LayoutRight, memory>,
                     Kokkos::View<std::int32_t***, Kokkos::LayoutRight, memory>>
        lists;
    spla::problem sizes{.batch = 1,
                        .queries = tokens,
                        .keys = tokens,
                        .query_heads = query_heads,
                        .key_heads = 1,
                        .element = spla::kind_of<Element>()};
};

template <class Element, class Options>
void prefill(exec_space const& exec, Options const& o)
{
    arrays<Element> a;
    auto const plan = spla::plan_prefill(exec, a.sizes, o);
    auto state = spla::make_sequence_state(exec, a.sizes, o);
    auto const scratch = spla::make_workspace(exec, plan);
    spla::warm_up(exec, plan);
    spla::prefill(exec, a.q, a.k, a.v, a.out, state, o, scratch);
    exec.fence();
    std::puts(plan.text().c_str());
}

template <class Element>
void stages(exec_space const& exec, spla::options<> const& o)
{
    arrays<Element> a;
    a.lists.indices = decltype(a.lists.indices)("lists", 1, tokens, 1, o.top_k);
    a.lists.lengths = decltype(a.lists.lengths)("lengths", 1, tokens, 1);
    auto state = spla::make_sequence_state(exec, a.sizes, o);
    spla::append(exec, a.k, a.v, a.k, a.v, state, o);
    auto const scratch = spla::make_workspace(exec, spla::plan_decode(exec, a.sizes, o));
    spla::decode(exec, a.q, a.k, a.v, a.out, state, o, scratch);
    spla::block_statistics(exec, a.k, state, 0, 1, o);
    spla::select(exec, a.q, a.k, state, a.lists, o);
    spla::attention_extras<Element> extras;
    extras.use_lists(a.lists);
    spla::selected_attention(exec, a.q, a.k, a.v, a.sparse, o, extras);
    spla::residual_attention(exec, a.q, a.k, a.v, a.residual, state, o, extras);
    auto const visits = spla::make_workspace(exec, spla::plan_selected_attention(exec, a.sizes, o, o.top_k));
    spla::selected_attention(exec, a.q, a.k, a.v, a.sparse, o, extras, visits);
    auto const between = spla::make_workspace(exec, spla::plan_residual_attention(exec, a.sizes, o, o.top_k));
    spla::residual_attention(exec, a.q, a.k, a.v, a.residual, state, o, extras, between);
    spla::combine(exec, a.sparse, a.residual, a.out, o);
    exec.fence();
}

void step(exec_space const& exec, spla::options<> const& o)
{
    using element = spla::bfloat16;
    using packed = Kokkos::View<element***, Kokkos::LayoutRight, memory>;
    using rows = Kokkos::View<element****, Kokkos::LayoutRight, memory>;
    using indices = Kokkos::View<std::int32_t*, memory>;
    spla::batch_limits limits;
    limits.batch = 1, limits.queries = limits.keys = tokens, limits.query_heads = query_heads;
    auto const plan = spla::plan_batch<element>(exec, limits, o);
    auto const scratch = spla::make_workspace(exec, plan);
    spla::warm_up(exec, plan);
    indices const offsets("offsets", 2), lengths("lengths", 1), slots("slots", 1); // no new tokens: padding
    spla::sequence_batch<memory> const batch{offsets, lengths, slots};
    packed const query("query", tokens, query_heads, width), output("output", tokens, query_heads, width);
    packed const new_key("key", tokens, 1, width), new_value("value", tokens, 1, width);
    rows const keys("keys", 1, tokens, 1, width), values("values", 1, tokens, 1, width);
    auto const in = [&](auto const& cache, spla::pool_sizes const& sizes) {
        auto const pool = spla::make_state_pool(exec, limits, sizes, o);
        if constexpr (!requires { cache.key_offsets; })
        {
            spla::write_cache(exec, plan, batch, new_key, new_value, cache, pool);
            spla::run_batch(exec, plan, batch, query, spla::new_tokens{new_key, new_value}, cache, output, pool,
                            scratch);
        }
        spla::run_batch(exec, plan, batch, query, cache, output, pool, scratch);
        spla::fork_slots(exec, pool, indices("none", 0), indices("none", 0));
        spla::fork_pages(exec, pool, indices("none", 0), indices("none", 0));
        exec.fence();
    };
    in(spla::slot_cache<rows, rows>{keys, values}, {1, 0, tokens, 0});
    in(spla::paged_cache{keys, values, Kokkos::View<std::int32_t**, memory>("table", 1, 1)}, {1, 1, tokens, 0});
    in(spla::packed_keys{new_key, new_value, offsets}, {1, 0, tokens, 0});
}
} // namespace

int main()
{
    Kokkos::ScopeGuard const kokkos;
    exec_space const exec;
    prefill<spla::bfloat16>(exec, spla::options<>{});
    prefill<float>(exec, spla::options<spla::taylor<spla::low_rank<4>>, spla::elu_plus_one>{});
    prefill<spla::float16>(exec, spla::options<spla::exact_mass, spla::identity>{});
    stages<spla::bfloat16>(exec, {});
    step(exec, {});
}
