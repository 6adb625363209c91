// SPDX-FileCopyrightText: The spla authors
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once
#include "sequence.hpp"

#include <cmath>
#include <limits>
#include <sstream>
#include <string>

namespace spla::reference
{

/// Result of holding values against a truth with a bound for every element: passes only where every element is within
/// its bound, written so that NaN fails. Reports the worst element, in units of its bound, and where it is.
struct comparison
{
    bool passed = true;
    double worst = 0; ///< largest error / bound
    std::string where;
    std::int64_t compared = 0, failed = 0;

    void add(double value, double truth, double bound, std::string const& place)
    {
        ++compared;
        bool const both_low = std::isinf(value) && std::isinf(truth) && (value < 0) == (truth < 0);
        double const error = both_low ? 0.0 : std::abs(value - truth);
        bool const within = error <= bound;
        double const quotient =
            bound > 0 ? error / bound : (error == 0 ? 0.0 : std::numeric_limits<double>::infinity());
        double const ratio =
            std::isnan(quotient) ? std::numeric_limits<double>::infinity() : quotient; // NaN is the worst there is
        if (!within) ++failed;
        if ((!within && passed) || ratio > worst)
        {
            worst = ratio;
            std::ostringstream text;
            text << place << ": " << value << ", truth " << truth << ", bound " << bound;
            where = text.str();
        }
        passed = passed && within;
    }
    /// Every element of a matrix; name and row, column say where.
    void add(std::string const& name, matrix const& values, matrix const& truth, matrix const& bound)
    {
        if (values.rows() != truth.rows() || values.cols() != truth.cols())
        {
            passed = false;
            where = name + ": shapes differ";
            return;
        }
        for (Eigen::Index r = 0; r < truth.rows(); ++r)
            for (Eigen::Index c = 0; c < truth.cols(); ++c)
                add(values(r, c), truth(r, c), bound(r, c),
                    name + "(" + std::to_string(r) + ", " + std::to_string(c) + ")");
    }
    std::string text() const
    {
        std::ostringstream s;
        s << (passed ? "within bounds" : "OUT OF BOUNDS") << ": " << compared << " compared, " << failed
          << " outside, worst " << worst << " of its bound at " << where;
        return s.str();
    }
};

} // namespace spla::reference
