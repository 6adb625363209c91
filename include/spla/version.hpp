// SPDX-FileCopyrightText: The spla authors
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#define SPLA_VERSION_MAJOR 0
#define SPLA_VERSION_MINOR 1
#define SPLA_VERSION_PATCH 0
/// MAJOR * 10000 + MINOR * 100 + PATCH
#define SPLA_VERSION (SPLA_VERSION_MAJOR * 10000 + SPLA_VERSION_MINOR * 100 + SPLA_VERSION_PATCH)
