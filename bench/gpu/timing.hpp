// SPDX-FileCopyrightText: The spla authors
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once
#include <Kokkos_Core.hpp>

#include <algorithm>
#include <vector>

/// Times of work on a device, by its own events, with everything driven out of its caches before each repetition.
namespace spla_bench
{

struct milliseconds
{
    double median = 0, least = 0, most = 0;
    int count = 0;
};

class timer
{
public:
    explicit timer(Kokkos::Cuda const& exec) : exec_(exec), other_("spla_bench::other", std::size_t{256} << 20)
    {
        cudaEventCreate(&begin_), cudaEventCreate(&end_);
    }
    timer(timer const&) = delete;
    timer& operator=(timer const&) = delete;
    ~timer() { cudaEventDestroy(begin_), cudaEventDestroy(end_); }

    /// Median of `count` runs after a first that does not count.
    template <class Work>
    milliseconds operator()(int count, Work const& work) const
    {
        std::vector<double> times;
        for (int i = -1; i < count; ++i)
        {
            Kokkos::deep_copy(exec_, other_, static_cast<char>(i));
            cudaEventRecord(begin_, exec_.cuda_stream());
            work();
            cudaEventRecord(end_, exec_.cuda_stream());
            exec_.fence("spla_bench::timer");
            float ms = 0;
            cudaEventElapsedTime(&ms, begin_, end_);
            if (i >= 0) times.push_back(ms);
        }
        std::sort(times.begin(), times.end());
        return {times[times.size() / 2], times.front(), times.back(), count};
    }

private:
    Kokkos::Cuda exec_;
    Kokkos::View<char*, Kokkos::CudaSpace> other_; ///< larger than the second-level cache
    cudaEvent_t begin_, end_;
};

} // namespace spla_bench
