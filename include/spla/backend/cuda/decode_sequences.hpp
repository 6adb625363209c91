// SPDX-FileCopyrightText: The spla authors
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once
#include "../../algorithm/sequence_table.hpp"
#include "instructions.hpp"

/// The decoded sequences of a step, by a warp, found from offsets and lengths alone: kernels that begin while the
/// step's schedule is still being made.
namespace spla::cuda
{

/// What a table holds of a sequence is read one after the other: let none wait for memory alone.
inline __device__ void fetch_sequence(detail::sequence_table const& table, int number)
{
    for (std::int32_t const* numbers : {table.lengths, table.slots, table.key_offsets})
        if (numbers) fetch_line(numbers + number);
}

/// 32 neighbouring sequences at a time, a lane each. All of a warp call each function.
class decode_sequences
{
public:
    __device__ decode_sequences(detail::sequence_table const& table, int few_queries)
        : table_(table), few_queries_(few_queries), count_(static_cast<int>(table.count))
    {
    }

    /// Sequences, up to the first whose offset falls, once all of those before have been looked at.
    __device__ int count() const { return count_; }

    /// This lane's of the 32 from `base` on; one that is not decoded has no queries. The first time bases ascend.
    __device__ detail::sequence of_lane(int base)
    {
        int const number = base + static_cast<int>(threadIdx.x % 32);
        bool falls = false;
        if (table_.offsets && number < count_)
        {
            fetch_sequence(table_, number);
            falls = table_.offsets[number + 1] < table_.offsets[number];
        }
        std::uint32_t const fallen = __ballot_sync(0xffffffffu, falls);
        if (fallen) count_ = base + __ffs(static_cast<int>(fallen)) - 1;
        detail::sequence none{number, 0, 0};
        if (number >= count_) return none;
        detail::sequence const s = table_[number];
        return s.queries <= few_queries_ ? s : none;
    }

private:
    detail::sequence_table const& table_;
    int few_queries_, count_;
};

/// A number of the warp's lane.
inline __device__ int number_of_lane(int x, int lane)
{
    return __shfl_sync(0xffffffffu, x, lane);
}
/// Sum up to this lane.
inline __device__ int sum_to_lane(int x)
{
#pragma unroll
    for (int far = 1; far < 32; far *= 2)
    {
        int const other = __shfl_up_sync(0xffffffffu, x, far);
        if (static_cast<int>(threadIdx.x % 32) >= far) x += other;
    }
    return x;
}

} // namespace spla::cuda
