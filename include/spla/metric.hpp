// SPDX-FileCopyrightText: The spla authors
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once
#include "element_types.hpp"

/// Metrics: log score a_b(q) of a key block, an estimate of the log of its attention mass sum_j exp(s <q, k_j>).
///
/// Expanding exp around the block's mean logit xbar to second order (arXiv 2601.22379) gives
/// a_b = log|b| + xbar + log(1 + v/2), with v the variance of the logits in the block, v = s^2 q^T C q.
/// A metric names how v is kept (its covariance) and how it enters (its expansion).
namespace spla
{

/// How much of a block's key covariance a summary keeps.
enum class covariance_kind
{
    none,     ///< v = 0
    diagonal, ///< one vector: the variances; v = s^2 sum_d q_d^2 var_d
    factors,  ///< R vectors sqrt(lambda_r) u_r; v = s^2 sum_r <factor_r, q>^2
    full      ///< D vectors: the rows of C; v = s^2 sum_d q_d <C_d, q>
};

/// How v enters the score.
enum class expansion_kind
{
    taylor,  ///< log(1 + v/2)
    cumulant ///< v/2 (COBS, arXiv 2607.09052)
};

struct diagonal
{
    static constexpr covariance_kind kind = covariance_kind::diagonal;
    static constexpr int vectors(int) { return 1; }
    static constexpr char const* name = "diagonal";
};
template <int R>
struct low_rank
{
    static_assert(R >= 1, "spla::low_rank<R>: R is at least 1");
    static constexpr covariance_kind kind = covariance_kind::factors;
    static constexpr int vectors(int) { return R; }
    static constexpr char const* name = "low_rank";
};
struct full
{
    static constexpr covariance_kind kind = covariance_kind::full;
    static constexpr int vectors(int head_dim) { return head_dim; }
    static constexpr char const* name = "full";
};

/// log|b| + xbar: what NSA, MoBA and InfLLM-v2 rank by.
struct mean_only
{
    static constexpr bool reads_keys = false;
    static constexpr int default_kept_keys = 0;
    static constexpr covariance_kind covariance = covariance_kind::none;
    static constexpr expansion_kind expansion = expansion_kind::taylor;
    static constexpr int covariance_vectors(int) { return 0; }
    static constexpr char const* name = "mean_only";
    static constexpr char const* covariance_name = "";
};

/// log|b| + xbar + log(1 + v/2). With kept_keys 0 and `diagonal` this is the paper's; with one kept key, spla's
/// default.
template <class Covariance = diagonal>
struct taylor
{
    static constexpr bool reads_keys = false;
    static constexpr int default_kept_keys = 1;
    static constexpr covariance_kind covariance = Covariance::kind;
    static constexpr expansion_kind expansion = expansion_kind::taylor;
    static constexpr int covariance_vectors(int head_dim) { return Covariance::vectors(head_dim); }
    static constexpr char const* name = "taylor";
    static constexpr char const* covariance_name = Covariance::name;
};

/// log|b| + xbar + v/2, from the same summaries.
template <class Covariance = diagonal>
struct cumulant
{
    static constexpr bool reads_keys = false;
    static constexpr int default_kept_keys = 1;
    static constexpr covariance_kind covariance = Covariance::kind;
    static constexpr expansion_kind expansion = expansion_kind::cumulant;
    static constexpr int covariance_vectors(int head_dim) { return Covariance::vectors(head_dim); }
    static constexpr char const* name = "cumulant";
    static constexpr char const* covariance_name = Covariance::name;
};

/// log sum exp of the true logits: reads every key, keeps no summary. The oracle that every metric is judged by.
struct exact_mass
{
    static constexpr bool reads_keys = true;
    static constexpr int default_kept_keys = 0;
    static constexpr covariance_kind covariance = covariance_kind::none;
    static constexpr expansion_kind expansion = expansion_kind::taylor;
    static constexpr int covariance_vectors(int) { return 0; }
    static constexpr char const* name = "exact_mass";
    static constexpr char const* covariance_name = "";
};

} // namespace spla
