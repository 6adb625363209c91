// SPDX-FileCopyrightText: The spla authors
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once
#include <Eigen/Dense>

#include <chrono>

namespace spla_bench
{

/// FLOP/s of one square product of Eigen in float on the threads that OpenMP has: the yardstick of the exact branch.
/// Taken beside each measurement, so that a busy machine slows both.
class sgemm
{
public:
    explicit sgemm(int n = 1536)
        : n_(n), a_(Eigen::MatrixXf::Random(n, n)), b_(Eigen::MatrixXf::Random(n, n)), c_(Eigen::MatrixXf::Zero(n, n))
    {
        c_.noalias() = a_ * b_;
    }
    double seconds()
    {
        auto const start = std::chrono::steady_clock::now();
        c_.noalias() = a_ * b_;
        return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    }
    double flops() const { return 2.0 * n_ * n_ * n_; }
    double norm() const { return c_.norm(); }

private:
    int n_;
    Eigen::MatrixXf a_, b_, c_;
};

} // namespace spla_bench
