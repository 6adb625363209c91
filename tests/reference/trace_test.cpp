// SPDX-FileCopyrightText: The spla authors
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#include "captured_mass.hpp"

using namespace spla_test;

void spla_test::hold_the_first_metrics(real_layer const& layer)
{
    hold("taylor<diagonal>, 1 kept", spla::options<>{}, layer);
    hold("taylor<diagonal>", spla::paper(), layer);
    hold("mean_only", spla::options<spla::mean_only>{}, layer);
    hold("exact_mass", spla::options<spla::exact_mass>{}, layer);
}

TEST_CASE("captured mass on a real model: the default metric, the paper's, the mean alone and the oracle", "[trace]")
{
    hold_the_first_metrics(shipped());
}

TEST_CASE("captured mass on other layers of the model", "[.layers][trace]")
{
    int held = 0;
    auto const expected = real_layer::all_expected();
    for (auto const& [name, figures] : expected.items())
    {
        if (name == "layer_09") continue;
        if (!std::filesystem::exists(root / ".deps/traces" / ("smollm2_135m_" + name + ".safetensors")))
        {
            std::printf("no %s in .deps/traces; tests/data/make_traces makes it\n", name.c_str());
            continue;
        }
        real_layer const layer(root / ".deps/traces", name);
        INFO(name);
        hold_the_first_metrics(layer);
        hold_the_other_metrics(layer);
        ++held;
    }
    if (held == 0) std::puts("not run: no other layer of the model is there");
}
