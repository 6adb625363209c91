// SPDX-FileCopyrightText: The spla authors
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once
#include <benchmark/benchmark.h>

#include <algorithm>
#include <chrono>
#include <ctime>
#include <vector>

namespace spla_bench
{

/// Wall and processor time of runs of one thing. Processor time a thread is what a machine without other work would
/// show.
class stopwatch
{
public:
    explicit stopwatch(int threads) : threads_(threads) {}
    void start()
    {
        processor_ = std::clock();
        wall_ = std::chrono::steady_clock::now();
    }
    double stop()
    {
        double const s = std::chrono::duration<double>(std::chrono::steady_clock::now() - wall_).count();
        add(s, static_cast<double>(std::clock() - processor_) / CLOCKS_PER_SEC / threads_);
        return s;
    }
    void add(double wall, double processor)
    {
        times_.push_back(wall);
        processor_times_.push_back(processor);
    }
    static double median(std::vector<double> x)
    {
        std::sort(x.begin(), x.end());
        return x.empty() ? 0.0 : 0.5 * (x[x.size() / 2] + x[(x.size() - 1) / 2]);
    }
    double median() const { return median(times_); }
    double processor() const { return median(processor_times_); }
    void report(benchmark::State& s) const
    {
        s.counters["ms"] = 1e3 * median();
        s.counters["min"] = 1e3 * *std::min_element(times_.begin(), times_.end());
        s.counters["max"] = 1e3 * *std::max_element(times_.begin(), times_.end());
        s.counters["processor_ms"] = 1e3 * processor();
        s.counters["n"] = static_cast<double>(times_.size());
    }

private:
    int threads_;
    std::chrono::steady_clock::time_point wall_;
    std::clock_t processor_ = 0;
    std::vector<double> times_, processor_times_;
};

} // namespace spla_bench
