// SPDX-FileCopyrightText: The spla authors
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#include "catch.hpp"

#include <spla/spla.hpp>

using exec_space = Kokkos::DefaultHostExecutionSpace;
using view = Kokkos::View<float****, Kokkos::LayoutRight, exec_space::memory_space>;

namespace
{
int events = 0;
void count_allocation(Kokkos_Profiling_SpaceHandle, char const*, void const*, std::uint64_t)
{
    ++events;
}
void count_fence(char const*, std::uint32_t, std::uint64_t*)
{
    ++events;
}
} // namespace

TEST_CASE("after warm_up nothing allocates or fences", "[contract]")
{
    exec_space const exec;
    spla::options<> o;
    o.top_k = 4;
    spla::problem p;
    p.query_heads = 4, p.key_heads = 2, p.queries = p.keys = 1200;
    view q("q", 1, 1201, 4, 64), k("k", 1, 1201, 2, 64), v("v", 1, 1201, 2, 64), out("out", 1, 1201, 4, 64);
    using pair = std::pair<int, int>;
    auto const part = [](view const& x, int a, int b) {
        return Kokkos::subview(x, Kokkos::ALL, pair(a, b), Kokkos::ALL, Kokkos::ALL);
    };
    spla::problem whole = p;
    whole.keys = 1201;
    auto state = spla::make_sequence_state(exec, whole, o);
    auto const prefill_plan = spla::plan_prefill(exec, whole, o), decode_plan = spla::plan_decode(exec, whole, o);
    auto const scratch = spla::make_workspace(exec, prefill_plan);
    auto const decode_scratch = spla::make_workspace(exec, decode_plan);
    spla::warm_up(exec, prefill_plan);
    spla::warm_up(exec, decode_plan);
    Kokkos::Tools::Experimental::set_allocate_data_callback(count_allocation);
    Kokkos::Tools::Experimental::set_begin_fence_callback(count_fence);
    exec.fence();
    CHECK(events == 1); // the counter counts
    events = 0;
    spla::prefill(exec, part(q, 0, 1200), part(k, 0, 1200), part(v, 0, 1200), part(out, 0, 1200), state, o, scratch);
    spla::append(exec, part(k, 1200, 1201), part(v, 1200, 1201), k, v, state, o);
    spla::decode(exec, part(q, 1200, 1201), k, v, part(out, 1200, 1201), state, o, decode_scratch);
    int const counted = events;
    Kokkos::Tools::Experimental::set_allocate_data_callback(nullptr);
    Kokkos::Tools::Experimental::set_begin_fence_callback(nullptr);
    CHECK(counted == 0);
}
