// SPDX-FileCopyrightText: The spla authors
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#include "captured_mass.hpp"

void spla_test::hold_the_first_metrics(real_layer const& layer)
{
    hold("taylor<diagonal>, 1 kept", spla::options<>{}, layer);
    hold("taylor<diagonal>", spla::paper(), layer);
    hold("mean_only", spla::options<spla::mean_only>{}, layer);
    hold("exact_mass", spla::options<spla::exact_mass>{}, layer);
}

TEST_CASE("captured mass on a real model: the default metric, the paper's, the mean alone and the oracle", "[trace]")
{
    spla_test::hold_the_first_metrics(spla_test::shipped());
}
