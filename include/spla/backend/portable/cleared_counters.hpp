// SPDX-FileCopyrightText: The spla authors
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once
#include <cstdint>

namespace spla::portable
{

/// Counters of kernels that follow, which a step's schedule sets to zero. Without any there is no such kernel.
struct cleared_counters
{
    std::int32_t* first = nullptr;
    std::int64_t count = 0;
};

} // namespace spla::portable
