// SPDX-FileCopyrightText: The spla authors
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#include "verdict.hpp"

#include <cmath>

namespace spla::reference
{
template selection select(sequence const&, options<> const&, summary_storage, double, double);
template attention attend(sequence const&, lists const&, options<> const&, double, double, matrix const&, matrix const&,
                          matrix_rounding const&);
} // namespace spla::reference

namespace spla_test
{
using spla::reference::comparison;

bool verdict::passed() const
{
    return sparse.passed && residual.passed && output.passed && lse.passed && wrong_lists == 0 &&
           10 * near_ties <= lists + 10 && 1000 * rounding_ties <= lists;
}

std::string verdict::text() const
{
    return "sparse " + sparse.text() + "\nresidual " + residual.text() + "\noutput " + output.text() + "\nlse " +
           lse.text() + "\n" + std::to_string(lists) + " lists, " + std::to_string(near_ties) + " near-ties, " +
           std::to_string(rounding_ties) + " ties of rounding, " + std::to_string(wrong_lists) + " wrong" + first_wrong;
}

namespace
{
/// mass[j] belongs to competing block first + j, -1 where its score is not finite; tolerance is relative.
bool is_legal(std::vector<int> const& list, std::vector<double> const& mass, int first, double tolerance, int top_k,
              double top_p)
{
    int const n = static_cast<int>(mass.size()), most = std::min(n, top_k), length = static_cast<int>(list.size());
    std::vector<bool> chosen(n, false);
    int last = first - 1;
    for (int b : list)
    {
        if (b <= last || b >= first + n) return false;
        chosen[b - first] = true;
        last = b;
    }
    double least = std::numeric_limits<double>::infinity(), best_left_out = -1, sum = 0, total = 0;
    for (int j = 0; j < n; ++j)
    {
        total += std::max(mass[j], 0.0);
        if (chosen[j])
            least = std::min(least, mass[j]), sum += std::max(mass[j], 0.0);
        else
            best_left_out = std::max(best_left_out, mass[j]);
    }
    // Masses below 2^-100 count as zero, so that those around it are ties.
    if (length > 0 && least < best_left_out * (1 - tolerance) - 0x1p-99) return false;
    if (length > most) return false;
    if (top_p >= 1.0) return length == most;
    bool const enough = length == most || sum >= top_p * total * (1 - tolerance);
    bool const needed = length == 0 || sum - std::max(least, 0.0) <= top_p * total * (1 + tolerance);
    return enough && needed;
}
} // namespace

void hold_lists(verdict& v, spla::reference::lists const& chosen, spla::reference::selection const& truth,
                std::vector<std::vector<double>> const& arithmetic_error, int top_k, double top_p)
{
    if (chosen.size() != truth.chosen.size())
    {
        v.wrong_lists += static_cast<int>(std::max(chosen.size(), truth.chosen.size()));
        v.first_wrong = ": " + std::to_string(chosen.size()) + " tiles of " + std::to_string(truth.chosen.size());
        return;
    }
    for (std::size_t t = 0; t < chosen.size(); ++t)
        for (std::size_t h = 0; h < chosen[t].size(); ++h)
        {
            ++v.lists;
            if (chosen[t][h] == truth.chosen[t][h]) continue;
            auto const legal = [&](double error) {
                return is_legal(chosen[t][h], truth.mass[t][h], truth.first[t], std::expm1(4 * error), top_k, top_p);
            };
            if (legal(arithmetic_error[t][h]))
                ++v.near_ties;
            else if (legal(truth.score_error[t][h]))
                ++v.rounding_ties;
            else if (!v.wrong_lists++)
            {
                auto const text = [](std::vector<int> const& list) {
                    std::string s;
                    for (int b : list) s.append(" ").append(std::to_string(b));
                    return s;
                };
                v.first_wrong = ": tile " + std::to_string(t) + ", key head " + std::to_string(h) + " has" +
                                text(chosen[t][h]) + "; the reference has" + text(truth.chosen[t][h]);
            }
        }
}

void hold_branches(verdict& v, stored_heads const& made, spla::reference::attention const& truth, double smallest,
                   std::string const& place)
{
    auto const add = [&](comparison& c, std::vector<spla::reference::matrix> const& values,
                         std::vector<spla::reference::matrix> const& truths,
                         std::vector<spla::reference::matrix> const& bounds) {
        for (std::size_t h = 0; h < values.size(); ++h)
            c.add(place + ", head " + std::to_string(h) + " ", values[h], truths[h],
                  (bounds[h].array() + smallest).matrix());
    };
    add(v.sparse, made.sparse, truth.sparse, truth.sparse_bound);
    add(v.residual, made.residual, truth.residual, truth.residual_bound);
    add(v.output, made.output, truth.output, truth.output_bound);
    for (std::size_t h = 0; h < made.lse.size(); ++h)
        v.lse.add(place + ", head " + std::to_string(h) + " ", made.lse[h], truth.lse[h], truth.lse_bound[h]);
}

} // namespace spla_test
