// SPDX-FileCopyrightText: The spla authors
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once
#include "sequence.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

namespace spla::reference
{

/// Rounds a vector as a summary stores it.
inline vector stored(vector const& x, summary_storage storage)
{
    vector y = x;
    if (storage == summary_storage::fp32)
        for (auto& e : y) e = static_cast<float>(e);
    if (storage == summary_storage::bf16)
        for (auto& e : y) e = static_cast<float>(bfloat16(static_cast<float>(e)));
    if (storage == summary_storage::int8)
    {
        double const scale = x.cwiseAbs().maxCoeff() / 127.0;
        for (auto& e : y) e = scale > 0 ? std::nearbyint(e / scale) * scale : 0.0;
    }
    return y;
}

/// Half a unit of the storage, relative to the largest entry of a vector (int8) or to each entry.
inline double storage_unit(summary_storage storage)
{
    return storage == summary_storage::fp32 ? 0x1p-24 : (storage == summary_storage::bf16 ? 0x1p-8 : 0.5 / 127.0);
}

/// Statistics of one sub-block, from the definition.
struct sub_block_summary
{
    vector mean;
    matrix covariance; ///< as the metric keeps it: diagonal, rank R, or whole
    std::vector<vector> kept;
    double others = 0;
};

template <class Metric, class FeatureMap>
sub_block_summary summarise(matrix const& keys, options<Metric, FeatureMap> const& o, summary_storage storage)
{
    int const size = static_cast<int>(keys.rows()), width = static_cast<int>(keys.cols());
    sub_block_summary s;
    vector const centre = keys.colwise().mean();
    std::vector<int> order(size);
    std::iota(order.begin(), order.end(), 0);
    std::stable_sort(order.begin(), order.end(), [&](int a, int b) {
        return (keys.row(a).transpose() - centre).squaredNorm() > (keys.row(b).transpose() - centre).squaredNorm();
    });
    for (int i = 0; i < o.kept_keys; ++i) s.kept.push_back(stored(keys.row(order[i]), storage));
    std::vector<int> rest(order.begin() + o.kept_keys, order.end());
    s.others = static_cast<double>(rest.size());
    vector mean = vector::Zero(width);
    for (int r : rest) mean += keys.row(r).transpose();
    mean /= s.others;
    matrix c = matrix::Zero(width, width);
    for (int r : rest) c += (keys.row(r).transpose() - mean) * (keys.row(r) - mean.transpose());
    c /= s.others;
    s.mean = stored(mean, storage);
    s.covariance = matrix::Zero(width, width);
    if constexpr (Metric::covariance == covariance_kind::diagonal)
        s.covariance = stored(c.diagonal(), storage).asDiagonal();
    if constexpr (Metric::covariance == covariance_kind::full)
        for (int d = 0; d < width; ++d) s.covariance.row(d) = stored(c.row(d), storage);
    if constexpr (Metric::covariance == covariance_kind::factors)
    {
        Eigen::SelfAdjointEigenSolver<matrix> const eigen(c);
        for (int r = 0; r < Metric::covariance_vectors(width) && r < width; ++r)
        {
            int const i = width - 1 - r; // ascending eigenvalues
            vector const factor =
                stored(std::sqrt(std::max(0.0, eigen.eigenvalues()[i])) * eigen.eigenvectors().col(i), storage);
            s.covariance += factor * factor.transpose();
        }
    }
    return s;
}

/// Log score a_b(q) of spec section 2; `error` returns a bound on what rounding (storage in `storage`, arithmetic with
/// unit `unit`, squares of q with unit `square_unit`) may move it by.
template <class Metric, class FeatureMap>
double log_score(vector const& q, std::vector<sub_block_summary> const& block, double s,
                 options<Metric, FeatureMap> const&, double unit, double stored_unit, double square_unit, double& error)
{
    double const infinity = std::numeric_limits<double>::infinity();
    std::vector<double> parts;
    error = 0;
    double const growth = (q.size() + 8.0) * unit;
    for (auto const& sub : block)
    {
        double const mean = s * q.dot(sub.mean);
        double const v = s * s * q.dot(sub.covariance * q);
        double const mean_error = s * (growth + stored_unit) * q.cwiseAbs().dot(sub.mean.cwiseAbs()) +
                                  s * stored_unit * q.cwiseAbs().sum() * sub.mean.cwiseAbs().maxCoeff();
        double const v_error =
            s * s * (2 * growth + 4 * stored_unit + square_unit) *
                q.cwiseAbs().dot(sub.covariance.cwiseAbs() * q.cwiseAbs()) +
            2 * s * s * stored_unit * q.cwiseAbs().sum() * q.cwiseAbs().sum() * sub.covariance.cwiseAbs().maxCoeff();
        bool const taylor = Metric::expansion == expansion_kind::taylor;
        parts.push_back(std::log(sub.others) + mean + (taylor ? std::log(1 + v / 2) : v / 2));
        error = std::max(error, mean_error + v_error / 2);
        for (auto const& k : sub.kept)
        {
            parts.push_back(s * q.dot(k));
            error = std::max(error, s * (growth + stored_unit) * q.cwiseAbs().dot(k.cwiseAbs()));
        }
    }
    error += 16 * unit;
    double largest = -infinity;
    for (double x : parts) largest = std::max(largest, x);
    double sum = 0;
    for (double x : parts) sum += std::exp(x - largest);
    double const score = largest + std::log(sum);
    return std::isfinite(score) ? score : std::numeric_limits<double>::quiet_NaN();
}

/// What selection makes of one sequence: the lists, and for each the masses and the error that separates near-ties.
struct selection
{
    lists chosen;
    std::vector<std::vector<std::vector<double>>> mass; ///< [tile][key head][competing block], -1: not finite
    std::vector<std::vector<double>> score_error;       ///< [tile][key head]: bound on a log score's rounding
    std::vector<int> first;                             ///< [tile]: first competing block
};

/// Spec section 2, steps (1) to (3).
template <class Metric, class FeatureMap>
selection select(sequence const& x, options<Metric, FeatureMap> const& o, summary_storage storage, double unit,
                 double square_unit = 0)
{
    double const s = scale_of(x, o);
    int const blocks = static_cast<int>(x.keys() / o.block);
    std::size_t const heads = x.key.size();
    std::vector<std::vector<std::vector<sub_block_summary>>> summary(heads);
    if constexpr (!Metric::reads_keys)
        for (std::size_t h = 0; h < heads; ++h)
            for (int b = 0; b < blocks; ++b)
            {
                summary[h].emplace_back();
                int const size = o.block / o.sub_blocks;
                for (int sub = 0; sub < o.sub_blocks; ++sub)
                    summary[h].back().push_back(
                        summarise(x.key[h].middleRows(b * o.block + sub * size, size), o, storage));
            }
    selection made;
    std::int64_t const t = window_of(o).tile;
    std::int64_t const tiles = tile_count(x.queries(), x.keys(), t);
    std::int64_t const first_tile = floor_divide(x.position(0), t);
    for (std::int64_t tile = 0; tile < tiles; ++tile)
    {
        std::int64_t const begin = (first_tile + tile) * t;
        std::vector<std::int64_t> scoring;
        std::int64_t const from = std::max(begin, x.position(0)), to = std::min(begin + t, x.keys());
        for (std::int64_t p = from; p < to; ++p)
            if (o.share.kind == sharing_kind::tile_sum ? (p - begin) % o.share.score_every == 0 : p == from)
                scoring.push_back(p);
        if (scoring.empty() && from < to) scoring.push_back(from);
        auto const [first, end] = competing_blocks(begin, o);
        made.first.push_back(first);
        made.chosen.emplace_back();
        made.mass.emplace_back();
        made.score_error.emplace_back();
        for (std::size_t h = 0; h < heads; ++h)
        {
            std::vector<double> mass(end - first, 0.0);
            double worst = 0;
            for (std::int64_t p : scoring)
                for (int g = 0; g < x.group() && p >= 0; ++g)
                {
                    vector const q = x.query[h * x.group() + g].row(p - x.position(0));
                    std::vector<double> a(end - first);
                    for (int b = first; b < end; ++b)
                    {
                        double error = 16 * unit;
                        if constexpr (Metric::reads_keys)
                        {
                            vector const logits = s * x.key[h].middleRows(b * o.block, o.block) * q;
                            a[b - first] =
                                logits.maxCoeff() + std::log((logits.array() - logits.maxCoeff()).exp().sum());
                            error += s * (q.size() + 8.0) * unit *
                                     (x.key[h].middleRows(b * o.block, o.block).cwiseAbs() * q.cwiseAbs()).maxCoeff();
                        }
                        else
                            a[b - first] =
                                log_score(q, summary[h][b], s, o, unit, storage_unit(storage), square_unit, error);
                        worst = std::max(worst, error);
                    }
                    double largest = -std::numeric_limits<double>::infinity(), total = 0;
                    for (double e : a) largest = std::isfinite(e) ? std::max(largest, e) : largest;
                    for (double e : a) total += std::isfinite(e) ? std::exp(e - largest) : 0.0;
                    for (std::size_t b = 0; b < a.size(); ++b)
                    {
                        double const share = std::exp(a[b] - largest) / total;
                        if (!std::isfinite(a[b]) || mass[b] < 0)
                            mass[b] = -1;
                        else
                            mass[b] += share < 0x1p-100 ? 0.0 : share;
                    }
                }
            std::vector<int> order(mass.size());
            std::iota(order.begin(), order.end(), 0);
            std::stable_sort(order.begin(), order.end(), [&](int l, int r) { return mass[l] > mass[r]; });
            double total = 0, sum = 0;
            for (double e : mass) total += std::max(e, 0.0);
            std::vector<int> chosen;
            for (int b : order)
            {
                if (static_cast<int>(chosen.size()) >= o.top_k || (o.top_p < 1.0 && sum >= o.top_p * total)) break;
                sum += std::max(mass[b], 0.0);
                chosen.push_back(first + b);
            }
            std::sort(chosen.begin(), chosen.end());
            made.chosen.back().push_back(chosen);
            made.mass.back().push_back(mass);
            made.score_error.back().push_back(worst);
        }
    }
    return made;
}

} // namespace spla::reference
