// SPDX-FileCopyrightText: The spla authors
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
// Every call, compiled for the default execution space: what a toolchain must accept. Not run by itself.
#include <spla/spla.hpp>

#include <cstdio>

int main()
{
    Kokkos::ScopeGuard const kokkos;
    using exec_space = Kokkos::DefaultExecutionSpace;
    using view = Kokkos::View<spla::bfloat16****, Kokkos::LayoutRight, exec_space::memory_space>;
    exec_space const exec;
    spla::options<> const o;
    spla::problem const p{.batch = 1, .queries = 64, .keys = 64, .query_heads = 2, .key_heads = 1, .element = spla::element_kind::bfloat16};
    view const q("q", 1, 64, 2, 64), k("k", 1, 64, 1, 64), v("v", 1, 64, 1, 64), out("out", 1, 64, 2, 64), other("other", 1, 64, 2, 64);
    auto const plan = spla::plan_prefill(exec, p, o);
    auto const scratch = spla::make_workspace(exec, plan);
    auto state = spla::make_sequence_state(exec, p, o);
    spla::warm_up(exec, plan);
    spla::prefill(exec, q, k, v, out, state, o, scratch);
    state.reset();
    spla::append(exec, k, v, k, v, state, o);
    spla::decode(exec, q, k, v, out, state, o, spla::make_workspace(exec, spla::plan_decode(exec, p, o)));
    spla::block_list<Kokkos::View<std::int32_t****, exec_space>, Kokkos::View<std::int32_t***, exec_space>> lists;
    lists.indices = Kokkos::View<std::int32_t****, exec_space>("lists", 1, 64, 1, o.top_k);
    lists.lengths = Kokkos::View<std::int32_t***, exec_space>("lengths", 1, 64, 1);
    spla::block_statistics(exec, k, state, 0, 1, o);
    exec.fence();
    std::puts(plan.text().c_str());
}
