// SPDX-FileCopyrightText: The spla authors
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once
#include "selection_shape.hpp"

/// The scoring warpgroups' side of the ring through which summaries come.
namespace spla::cuda
{

/// Takes vectors of summaries, sub-block by sub-block.
template <int Width>
class vector_ring
{
public:
    __device__ vector_ring(selection_places<Width> const& m, int places)
        : m_(m), places_(places), leader_(threadIdx.x % 32 == 0)
    {
    }

    /// Place of a vector of the sub-block at hand, once it is there.
    __device__ int wait(int vector) const
    {
        int place = place_ + vector;
        std::uint32_t parity = parity_;
        if (place >= places_) place -= places_, parity ^= 1;
        m_.fixed.full[place].wait(parity);
        return place;
    }
    /// Waits for what is there, before it is let go: the compiler moves nothing over this, so that work above is done
    /// while products are under way and does not sink below their end.
    __device__ void keep_above(int place) const { m_.fixed.full[place].wait(place >= place_ ? parity_ : parity_ ^ 1); }
    /// On to the next sub-block.
    __device__ void advance(int vectors)
    {
        place_ += vectors;
        if (place_ >= places_) place_ -= places_, parity_ ^= 1;
    }
    __device__ std::uint32_t address(int place) const { return shared_address(m_.vector[place]); }
    /// This warp has read it. Without a branch: products may be under way.
    __device__ void let_go(int place) const
    {
        asm volatile("{\n"
                     ".reg .pred leads;\n"
                     "setp.ne.b32 leads, %1, 0;\n"
                     "@leads mbarrier.arrive.shared::cta.b64 _, [%0];\n"
                     "}\n" ::"r"(shared_address(&m_.fixed.free[place])),
                     "r"(static_cast<int>(leader_))
                     : "memory");
    }

private:
    selection_places<Width> const& m_;
    int places_, place_ = 0; ///< of the sub-block's first vector
    std::uint32_t parity_ = 0;
    bool leader_;
};

} // namespace spla::cuda
