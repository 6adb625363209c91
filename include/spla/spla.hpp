// SPDX-FileCopyrightText: The spla authors
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once
/// SPLA, Block Sparse Plus Linear Attention (arXiv 2601.22379), over Kokkos views.
///
/// append.hpp    new keys and values: cache, block statistics, linear state
/// prefill.hpp   many queries against all keys so far
/// decode.hpp    the last few queries of every sequence
/// run_batch.hpp a step of an engine: sequences of any length and stage, caches in pages, graphs
/// select.hpp    stages alone: block_statistics, select; branches.hpp: selected_attention, residual_attention, combine
/// options.hpp   what is computed; plan.hpp and stage_plans.hpp say by which kernel
#include "append.hpp"
#include "branches.hpp"
#include "decode.hpp"
#include "options.hpp"
#include "plan.hpp"
#include "prefill.hpp"
#include "run_batch.hpp"
#include "select.hpp"
#include "sequence_state.hpp"
#include "stage_plans.hpp"
#include "state_image.hpp"
#include "version.hpp"
#include "workspace.hpp"
