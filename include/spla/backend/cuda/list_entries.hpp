// SPDX-FileCopyrightText: The spla authors
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once
#include "../../algorithm/causal_bounds.hpp"

#include <cstdint>

/// A list of selected blocks, read by a warp.
namespace spla::cuda
{

inline constexpr int no_entry = -1; ///< behind a list's end

/// Is this lane's entry, of 32 neighbouring ones, valid? It competes, and is larger than all such before: `largest`, of
/// those further ahead, goes along. All of a warp call it.
inline __device__ bool valid_entries(int entry, basic_block_range<int> const& competing, int& largest)
{
    int const lane = threadIdx.x % 32;
    bool const competes = competing.contains(entry);
    int before = __shfl_up_sync(0xffffffffu, entry, 1);
    if (lane == 0) before = largest;
    std::uint32_t const entries = __ballot_sync(0xffffffffu, entry != no_entry);
    bool const as_it_should_be = entry == no_entry || (competes && entry > before);
    if (__all_sync(0xffffffffu, as_it_should_be) && (entries & (entries + 1)) == 0)
    {
        if (entries != 0) largest = __shfl_sync(0xffffffffu, entry, 31 - __clz(static_cast<int>(entries)));
        return competes;
    }
    int top = competes ? entry : -1; // up to this lane
#pragma unroll
    for (int far = 1; far < 32; far *= 2)
    {
        int const other = __shfl_up_sync(0xffffffffu, top, far);
        if (lane >= far && other > top) top = other;
    }
    before = __shfl_up_sync(0xffffffffu, top, 1);
    if (lane == 0 || before < largest) before = largest;
    int const last = __shfl_sync(0xffffffffu, top, 31);
    if (last > largest) largest = last;
    return competes && entry > before;
}

/// The valid entries of a list (competing, ascending, each once; others are passed over), 32 at a time, an entry in a
/// lane. All of a warp call each function.
class list_entries
{
public:
    __device__ list_entries(std::int32_t const* list, int length, basic_block_range<int> const& competing)
        : list_(list), length_(length), competing_(competing)
    {
    }
    /// Goes on to the next 32; false at the end.
    __device__ bool next()
    {
        if (begin_ >= length_) return false;
        int const lane = threadIdx.x % 32;
        entry_ = begin_ + lane < length_ ? list_[begin_ + lane] : -1;
        begin_ += 32;
        valid_ = __ballot_sync(0xffffffffu, valid_entries(entry_, competing_, largest_));
        return true;
    }
    /// Lanes of valid entries.
    __device__ std::uint32_t valid() const { return valid_; }
    __device__ int own_entry() const { return entry_; }
    __device__ int entry(int lane) const { return __shfl_sync(0xffffffffu, entry_, lane); }

private:
    std::int32_t const* list_;
    int length_;
    basic_block_range<int> competing_;
    int begin_ = 0, largest_ = -1; ///< of competing ones so far
    int entry_;
    std::uint32_t valid_;
};

} // namespace spla::cuda
