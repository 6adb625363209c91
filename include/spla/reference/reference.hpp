// SPDX-FileCopyrightText: The spla authors
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once
/// Eigen reference implementations (target spla::reference). Safe to include in users' tests; see also comparison.hpp.
#include "block_selection.hpp"
#include "comparison.hpp"
#include "sparse_plus_linear.hpp"
#include "view_to_eigen.hpp"
