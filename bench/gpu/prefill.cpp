// SPDX-FileCopyrightText: The spla authors
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
// Prefill on a GPU: bench_gpu_prefill [--what=sharings,given,random,groups,short,steps,error or all]
// [--tokens=32768,65536,131072]
// [--heads=32/8] [--dim=128] [--segment=32768] [--json=FILE] [--inputs=FILE]. By default whole and stage by stage in
// the three sharings. What is timed is held against its definition first; the last line of a study that fails says
// where.
#include "studies.hpp"

int main(int count, char** arguments)
{
    using namespace spla_bench;
    settings const s = parse(count, arguments);
    if (!has_device()) return 77; // what ctest takes for "skipped"
    Kokkos::ScopeGuard const kokkos;
    record r(s, device_name());
    timer const time{exec_space()};
    session const all{s, r, time};
    bool (*const run[])(session const&) = {study_sharings, study_given, study_random, study_groups,
                                           study_short,    study_steps, study_error};
    static_assert(std::size(run) == std::size(studies));
    for (std::size_t i = 0; i < std::size(run); ++i)
        if (s.wants(studies[i]) && !run[i](all)) return 1;
}
