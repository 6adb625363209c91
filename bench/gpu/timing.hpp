// SPDX-FileCopyrightText: The spla authors
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once
#include <Kokkos_Core.hpp>

#include <algorithm>
#include <string>
#include <vector>

/// Times of work on a device, by its own events, with everything driven out of its caches before each repetition.
namespace spla_bench
{

inline bool has_device()
{
    int devices = 0;
    return cudaGetDeviceCount(&devices) == cudaSuccess && devices > 0;
}
/// Of the one that is timed, once Kokkos is initialised.
inline std::string device_name()
{
    cudaDeviceProp properties{};
    cudaGetDeviceProperties(&properties, Kokkos::Cuda().cuda_device());
    return properties.name;
}

struct milliseconds
{
    double median = 0, least = 0, most = 0;
    int count = 0;
};

class timer
{
public:
    explicit timer(Kokkos::Cuda const& exec) : exec_(exec), other_("spla_bench::other", std::size_t{512} << 20) {}

    /// Median of `count` runs after a first that does not count.
    template <class Work>
    milliseconds operator()(int count, Work const& work) const
    {
        std::vector<double> times;
        std::vector<span> spans(static_cast<std::size_t>(count) + 1);
        for (std::size_t i = 0; i < spans.size(); ++i) // all are enqueued at once: the host runs ahead of short work
        {
            Kokkos::deep_copy(exec_, other_, static_cast<char>(i));
            cudaEventRecord(spans[i].begin, exec_.cuda_stream());
            work();
            cudaEventRecord(spans[i].end, exec_.cuda_stream());
        }
        exec_.fence("spla_bench::timer");
        for (std::size_t i = 1; i < spans.size(); ++i)
        {
            float ms = 0;
            cudaEventElapsedTime(&ms, spans[i].begin, spans[i].end);
            times.push_back(ms);
        }
        std::sort(times.begin(), times.end());
        return {times[times.size() / 2], times.front(), times.back(), count};
    }

private:
    struct span
    {
        cudaEvent_t begin, end;
        span() { cudaEventCreate(&begin), cudaEventCreate(&end); }
        span(span const&) = delete;
        span& operator=(span const&) = delete;
        ~span() { cudaEventDestroy(begin), cudaEventDestroy(end); }
    };
    Kokkos::Cuda exec_;
    Kokkos::View<char*, Kokkos::CudaSpace> other_; ///< larger than the second-level cache
};

} // namespace spla_bench
