// SPDX-FileCopyrightText: The spla authors
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once
#include "sequence.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

namespace spla::reference
{

/// Both branches and their combination, with the magnitudes that rounding bounds are made of. Per query head [L, Dv].
struct attention
{
    std::vector<matrix> sparse, residual, output;
    std::vector<matrix> sparse_bound, residual_bound, output_bound; ///< absolute, per element
    std::vector<vector> lse, lse_bound;
};

/// phi of every row.
template <class FeatureMap>
matrix features(FeatureMap const& phi, matrix const& x)
{
    int const width = static_cast<int>(x.cols());
    matrix f(x.rows(), phi.features(width));
    for (Eigen::Index r = 0; r < x.rows(); ++r)
    {
        vector row = x.row(r), made(f.cols());
        phi.template operator()<double>(width, vector_of<double>{row.data(), 1}, vector_of<double>{made.data(), 1});
        f.row(r) = made;
    }
    return f;
}

/// Relative growth of rounding errors of unit u in a sum of n terms, in any order: lambda sqrt(n) u, which independent
/// errors exceed with a probability below 2 exp(-lambda^2 / 2), 3e-8 for lambda = 6 (Higham and Mary, SIAM J. Sci.
/// Comput. 41, 2019), and never more than the certain n u. 16 u stand for the few roundings of each term.
inline double sum_growth(double n, double u)
{
    return (std::min(n, 6 * std::sqrt(n)) + 16) * u;
}

/// What kernels lose of numbers that their matrix units take in 16 bits, beyond the rounding of sums: relative errors,
/// zero where nothing is lost.
struct matrix_rounding
{
    double weight = 0;          ///< of a softmax weight (at most 1) before it meets its value
    double smallest_weight = 0; ///< the same, absolute, where weights are subnormal
    double feature = 0;         ///< of phi, the same in the state and in what is subtracted
    double product = 0;         ///< of phi(q) phi(k) before it meets its value, in what is subtracted alone
    double state = 0;           ///< of the state as it is read
    double square = 0;          ///< of q_d^2 before it meets a variance

    static constexpr matrix_rounding bfloat16_weights() { return {.weight = 0x1p-8}; }
    static constexpr matrix_rounding float16_weights() { return {.weight = 0x1p-11, .smallest_weight = 0x1p-25}; }
};

/// Spec sections 3 to 5 for given lists. u is the kernel's unit roundoff, u_out that of the stored outputs.
template <class Metric, class FeatureMap>
attention attend(sequence const& x, lists const& chosen, options<Metric, FeatureMap> const& o, double u, double u_out,
                 matrix const& sparse_weight = {}, matrix const& residual_weight = {}, matrix_rounding const& lost = {})
{
    attention a;
    double const s = scale_of(x, o);
    std::int64_t const t = window_of(o).tile;
    std::int64_t const first_tile = floor_divide(x.position(0), t);
    Eigen::Index const dv = x.value.front().cols();
    for (std::size_t head = 0; head < x.query.size(); ++head)
    {
        std::size_t const h = head / x.group();
        matrix const& key = x.key[h];
        matrix const& value = x.value[h];
        matrix const phi_q = features(o.feature_map, x.residual_query[head]);
        matrix const phi_k = features(o.feature_map, x.residual_key[h]);
        matrix sparse = matrix::Zero(x.queries(), dv), residual = sparse, output = sparse;
        matrix sparse_bound = sparse, residual_bound = sparse, output_bound = sparse;
        vector lse = vector::Constant(x.queries(), -std::numeric_limits<double>::infinity()),
               lse_bound = vector::Zero(x.queries());
        for (std::int64_t i = 0; i < x.queries(); ++i)
        {
            std::int64_t const p = x.position(i);
            if (p < 0) continue;
            auto const [first, end] = competing_blocks(tile_begin(p, o), o);
            std::vector<int> const& list = chosen[floor_divide(p, t) - first_tile][h];
            int const own = static_cast<int>(p / o.block);
            auto const competes = [&, first = first, end = end](int b) { return b >= first && b < end; };
            auto const selected = [&](int b) { return std::binary_search(list.begin(), list.end(), b) && competes(b); };

            std::vector<std::int64_t> seen;
            double largest = -std::numeric_limits<double>::infinity(), logit_error = 0;
            for (int b = 0; b <= own; ++b)
                if (!competes(b) || selected(b))
                    for (std::int64_t j = static_cast<std::int64_t>(b) * o.block;
                         j < std::min<std::int64_t>((b + 1) * std::int64_t{o.block}, p + 1); ++j)
                        seen.push_back(j);
            std::vector<double> logits;
            for (std::int64_t j : seen)
            {
                logits.push_back(s * x.query[head].row(i).dot(key.row(j)));
                largest = std::max(largest, logits.back());
                logit_error =
                    std::max(logit_error, std::abs(s) * x.query[head].row(i).cwiseAbs().dot(key.row(j).cwiseAbs()));
            }
            logit_error *= sum_growth(static_cast<double>(key.cols()), u);
            double sum = 0;
            for (double e : logits) sum += std::exp(e - largest);
            lse[i] = largest + std::log(sum);
            vector magnitude = vector::Zero(dv), values = magnitude;
            for (std::size_t n = 0; n < seen.size(); ++n)
            {
                double const weight = std::exp(logits[n] - lse[i]);
                sparse.row(i) += weight * value.row(seen[n]);
                magnitude += weight * value.row(seen[n]).cwiseAbs().transpose();
                values += value.row(seen[n]).cwiseAbs().transpose();
            }
            double const relative =
                std::expm1(2 * logit_error) + 2 * sum_growth(static_cast<double>(seen.size()), u) + lost.weight;
            sparse_bound.row(i) = relative * magnitude.transpose() + lost.smallest_weight * values.transpose() +
                                  u_out * sparse.row(i).cwiseAbs();
            lse_bound[i] = logit_error + sum_growth(static_cast<double>(seen.size()), u) + 4 * u * std::abs(lse[i]);

            // The residual by its definition: the competing blocks that are not selected, key by key.
            vector all = vector::Zero(dv), rest = all; // magnitudes: of all, of those that are left
            double rest_magnitude = 0;
            double denominator = 0, denominator_magnitude = 0, keys = 0;
            bool everything = true;
            for (int b = first; b < end; ++b)
                for (std::int64_t j = static_cast<std::int64_t>(b) * o.block; j < (b + 1) * std::int64_t{o.block}; ++j)
                {
                    double const product = phi_q.row(i).dot(phi_k.row(j));
                    double const size = phi_q.row(i).cwiseAbs().dot(phi_k.row(j).cwiseAbs());
                    all += size * value.row(j).cwiseAbs().transpose();
                    denominator_magnitude += size;
                    ++keys;
                    if (selected(b)) continue;
                    everything = false;
                    rest += size * value.row(j).cwiseAbs().transpose();
                    rest_magnitude += size;
                    residual.row(i) += product * value.row(j);
                    denominator += product;
                }
            // Products over the features, then the sum over all competing keys and that over the selected, which is no
            // larger: the subtraction cannot do better.
            double const growth = sum_growth(static_cast<double>(phi_q.cols()), u) + 2 * sum_growth(keys, u);
            // One rounding of phi serves both sums: what is lost of the selected cancels (spec section 4).
            double const features = 2 * lost.feature + lost.feature * lost.feature;
            vector bound = (growth + lost.state) * all + features * rest + lost.product * (all - rest);
            if (o.normalised && !everything)
            {
                // With room for the bound by which a kernel decides. Denominators meet no value, and lose no product.
                double const error = (growth + 128 * u) * denominator_magnitude + features * rest_magnitude;
                if (std::abs(denominator) > error)
                {
                    residual.row(i) /= denominator;
                    bound = (bound + error * residual.row(i).cwiseAbs().transpose()) / (std::abs(denominator) - error);
                }
                else
                    bound.setConstant(std::numeric_limits<double>::infinity()); // undecidable: the kernel may say zero
            }
            if (everything)
            {
                residual.row(i).setZero();
                bound.setZero();
            }
            residual_bound.row(i) = bound.transpose() + u_out * residual.row(i).cwiseAbs();

            auto const inverse_rms = [&](auto const& row) {
                if (o.combine != combination_kind::rms_sum) return 1.0;
                double const square = row.squaredNorm() / static_cast<double>(dv) + o.epsilon;
                return square == 0 ? 0.0 : 1.0 / std::sqrt(square);
            };
            double const scale_o = inverse_rms(sparse.row(i)), scale_r = inverse_rms(residual.row(i));
            for (Eigen::Index d = 0; d < dv; ++d)
            {
                double const ws = sparse_weight.size() ? sparse_weight(head, d) : 1.0;
                double const wr = residual_weight.size() ? residual_weight(head, d) : 1.0;
                bool const alone = o.combine == combination_kind::sparse_only;
                output(i, d) = alone ? sparse(i, d) : ws * sparse(i, d) * scale_o + wr * residual(i, d) * scale_r;
                // d(x / rms(x)): the row's own error, and that of the norm, which is no larger than the row's largest.
                double const norm_error = o.combine == combination_kind::rms_sum ? 1.0 : 0.0;
                double const e_o = sparse_bound.row(i).maxCoeff(), e_r = residual_bound.row(i).maxCoeff();
                double const from_o =
                    scale_o * (sparse_bound(i, d) + norm_error * e_o * std::abs(sparse(i, d)) * scale_o);
                double const from_r =
                    scale_r * (residual_bound(i, d) + norm_error * e_r * std::abs(residual(i, d)) * scale_r);
                output_bound(i, d) =
                    alone ? sparse_bound(i, d)
                          : std::abs(ws) * from_o + std::abs(wr) * from_r + (u_out + 16 * u) * std::abs(output(i, d)) +
                                16 * u *
                                    (std::abs(ws * sparse(i, d) * scale_o) + std::abs(wr * residual(i, d) * scale_r));
            }
        }
        a.sparse.push_back(sparse), a.residual.push_back(residual), a.output.push_back(output);
        a.sparse_bound.push_back(sparse_bound), a.residual_bound.push_back(residual_bound),
            a.output_bound.push_back(output_bound);
        a.lse.push_back(lse), a.lse_bound.push_back(lse_bound);
    }
    return a;
}

} // namespace spla::reference
