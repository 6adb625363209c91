// SPDX-FileCopyrightText: The spla authors
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once
#include "trace.hpp"

#include <spla/reference/view_to_eigen.hpp>

#include <algorithm>

/// What dense attention does, in double on the host, for some of the queries: the truth that selections are judged by.
namespace lesson
{

using matrix = spla::reference::matrix;

/// For sampled queries of every query head: the dense softmax summed over key blocks, and the dense output.
struct dense_truth
{
    std::vector<int> positions;
    int block = 64;
    std::vector<matrix> mass;   ///< per query head [sampled query, block], rows sum to one
    std::vector<matrix> output; ///< per query head [sampled query, Dv]
};

template <class Element>
dense_truth dense_attention(trace<Element> const& x, std::vector<int> const& positions, double scale, int block)
{
    auto const query = spla::reference::heads_of(x.query, 0), key = spla::reference::heads_of(x.key, 0),
               value = spla::reference::heads_of(x.value, 0);
    int const group = x.query_heads() / x.key_heads(), blocks = (x.tokens() + block - 1) / block;
    int const sampled = static_cast<int>(positions.size());
    dense_truth truth{positions, block, {}, {}};
    for (int h = 0; h < x.query_heads(); ++h)
    {
        matrix rows(sampled, x.width());
        for (int i = 0; i < sampled; ++i) rows.row(i) = query[h].row(positions[i]);
        matrix weights = scale * (key[h / group] * rows.transpose()); // [key, sampled query]
        matrix mass = matrix::Zero(sampled, blocks);
        for (int i = 0; i < sampled; ++i)
        {
            int const seen = positions[i] + 1;
            auto column = weights.col(i);
            double const largest = column.head(seen).maxCoeff();
            column.head(seen) = (column.head(seen).array() - largest).exp();
            column.head(seen) /= column.head(seen).sum();
            column.tail(x.tokens() - seen).setZero();
            for (int b = 0; b * block < seen; ++b)
                mass(i, b) = column.segment(b * block, std::min(block, x.tokens() - b * block)).sum();
        }
        truth.mass.push_back(mass);
        truth.output.push_back(weights.transpose() * value[h / group]);
    }
    return truth;
}

/// How much of the true mass a selection holds, mean over sampled queries and query heads.
struct capture
{
    double captured = 0; ///< of the competing blocks' mass, what the selected ones hold
    double total = 0;    ///< of all mass, what forced and selected blocks hold
};

/// `indices` [1, tile, key head, top_k] and `lengths` are the lists of the queries from position `first` on, on the
/// host.
template <class Indices, class Lengths, class Options>
capture captured_mass(dense_truth const& truth, Indices const& indices, Lengths const& lengths, int first,
                      Options const& o)
{
    spla::window const bounds = spla::window_of(o);
    int const group = static_cast<int>(truth.mass.size() / indices.extent(2));
    capture mean;
    for (std::size_t head = 0; head < truth.mass.size(); ++head)
        for (std::size_t i = 0; i < truth.positions.size(); ++i)
        {
            int const p = truth.positions[i];
            auto const tile = p / bounds.tile - first / bounds.tile;
            auto const competing = bounds.competing(p);
            double selected = 0;
            for (int n = 0; n < lengths(0, tile, head / group); ++n)
                selected += truth.mass[head](i, indices(0, tile, head / group, n));
            double const all = truth.mass[head].row(i).segment(competing.begin, competing.count()).sum();
            mean.captured += competing.count() > 0 ? selected / all : 1.0;
            mean.total += 1.0 - all + selected;
        }
    double const rows = static_cast<double>(truth.mass.size() * truth.positions.size());
    return {mean.captured / rows, mean.total / rows};
}

/// Mean over rows of |o - dense| / |dense|; `output` [1, query, head, Dv] begins at position `first`, on the host.
template <class Output>
double output_error(dense_truth const& truth, Output const& output, int first)
{
    double sum = 0;
    for (std::size_t head = 0; head < truth.output.size(); ++head)
        for (std::size_t i = 0; i < truth.positions.size(); ++i)
        {
            auto const row = truth.output[head].row(i);
            double difference = 0;
            for (Eigen::Index d = 0; d < row.size(); ++d)
                difference += std::pow(output(0, truth.positions[i] - first, head, d) - row[d], 2);
            sum += difference > 0 ? std::sqrt(difference) / row.norm() : 0.0;
        }
    return sum / static_cast<double>(truth.output.size() * truth.positions.size());
}

} // namespace lesson
