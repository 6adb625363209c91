// SPDX-FileCopyrightText: The spla authors
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#include "trace/captured_mass.hpp"

using namespace spla_test;
using spla::cumulant, spla::diagonal, spla::full, spla::low_rank, spla::taylor;

namespace
{
void hold_the_other_metrics(real_layer const& layer)
{
    hold("taylor<low_rank<1>>", spla::options<taylor<low_rank<1>>>{.kept_keys = 0}, layer);
    hold("taylor<low_rank<4>>", spla::options<taylor<low_rank<4>>>{.kept_keys = 0}, layer);
    hold("taylor<full>", spla::options<taylor<full>>{.kept_keys = 0}, layer);
    hold("cumulant<diagonal>", spla::options<cumulant<diagonal>>{.kept_keys = 0}, layer);
    hold("cumulant<full>", spla::options<cumulant<full>>{.kept_keys = 0}, layer);
    hold("mean_only, 1 kept", spla::options<spla::mean_only>{.kept_keys = 1}, layer);
    hold("taylor<diagonal>, 2 kept", spla::options<>{.kept_keys = 2}, layer);
    hold("taylor<diagonal>, 2 sub-blocks", spla::options<>{.kept_keys = 0, .sub_blocks = 2}, layer);
    hold("taylor<diagonal>, 1 kept, 2 sub-blocks", spla::high_fidelity(), layer);
}
} // namespace

TEST_CASE("captured mass on a real model: every other metric, and two sub-blocks", "[.full][trace]")
{
    hold_the_other_metrics(shipped());
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
