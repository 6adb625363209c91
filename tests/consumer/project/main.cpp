// SPDX-FileCopyrightText: The spla authors
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#include <spla/spla.hpp>

#include <cmath>
#include <cstdio>

int second_source();

using space = Kokkos::DefaultExecutionSpace;
using tensor = Kokkos::View<float****, Kokkos::LayoutRight, space::memory_space>;

/// Attention over 40 tokens whose values are all 3 is 3, and nothing is left for the residual branch: how far from it?
double prefilled()
{
    int const tokens = 40, width = 8;
    space const exec;
    spla::options<> o;
    o.block = 4, o.top_k = 16, o.combine = spla::combination_kind::sum;
    spla::problem p;
    p.queries = p.keys = tokens, p.query_heads = 2, p.head_dim = p.value_dim = width;
    tensor const query("query", 1, tokens, 2, width), key("key", 1, tokens, 1, width),
        value("value", 1, tokens, 1, width), output("output", 1, tokens, 2, width);
    Kokkos::deep_copy(query, 0.5f);
    Kokkos::deep_copy(key, 0.25f);
    Kokkos::deep_copy(value, 3.0f);
    auto state = spla::make_sequence_state(exec, p, o);
    spla::prefill(exec, query, key, value, output, state, o,
                  spla::make_workspace(exec, spla::plan_prefill(exec, p, o)));
    exec.fence();
    auto const host = Kokkos::create_mirror_view_and_copy(Kokkos::HostSpace{}, output);
    double worst = 0;
    for (std::size_t i = 0; i < host.size(); ++i)
    {
        double const error = std::abs(host.data()[i] - 3.0);
        if (!(error <= worst)) worst = error; // so that NaN stays
    }
    return worst;
}

int main(int count, char* arguments[])
{
#if defined(KOKKOS_ENABLE_CUDA)
    int devices = 0;
    if (cudaGetDeviceCount(&devices) != cudaSuccess || devices == 0) return 77;
#endif
    Kokkos::ScopeGuard const kokkos(count, arguments);
    double const error = prefilled();
    std::printf("spla %d.%d.%d: %g from what is right\n", SPLA_VERSION_MAJOR, SPLA_VERSION_MINOR, SPLA_VERSION_PATCH,
                error);
    // Two sums of 40 positive terms, each rounded in float, a few units for the exponentials, and the quotient.
    double const bound = 3.0 * (2 * 40 + 16) * 0x1p-24;
    return error <= bound ? second_source() : 1;
}
