// SPDX-FileCopyrightText: The spla authors
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once
#include "selection_shape.hpp"

/// The best blocks of lists, while their masses stream by in descending order of blocks: candidates that reach a
/// threshold are kept, and thinned out whenever they outgrow their room. Memory does not depend on the number of
/// blocks; what is left in the end depends on the masses alone.
///
/// A warp serves four lists at a time, eight lanes a list: their chains of steps run beside each other. All lanes call
/// each function; those without a list say so by a count of 0.
namespace spla::cuda
{

/// Marks a block whose score is not finite: no sum of it with masses (at most one each) is positive.
inline constexpr float no_mass = -0x1p40f;

inline constexpr int list_lanes = 8;                  ///< of a warp, for one list
inline constexpr int lists_at_once = 32 / list_lanes; ///< of a warp
inline constexpr int lane_blocks = panel_blocks / list_lanes;

class best_blocks
{
public:
    __device__ best_blocks(candidate* candidates, int wanted)
        : candidates_(candidates), wanted_(wanted), lane_(threadIdx.x % list_lanes)
    {
    }

    /// Order of a mass as a number: larger mass, larger number; not finite is 0 and ranks last.
    static __device__ std::int32_t rank_of(float mass)
    {
        std::int32_t const bits = __float_as_int(mass);
        return bits < 0 ? 0 : bits + 1;
    }
    __device__ static float mass_of(std::int32_t rank) { return rank > 0 ? __int_as_float(rank - 1) : 0.0f; }

    /// This lane's masses are those of blocks first + i; it has `count` of them.
    __device__ void offer(list_progress& p, float const (&mass)[lane_blocks], int first, int count, int room) const
    {
        std::int32_t rank[lane_blocks];
        std::uint32_t takes = 0;
#pragma unroll
        for (int i = 0; i < lane_blocks; ++i)
        {
            rank[i] = rank_of(mass[i]);
            takes |= static_cast<std::uint32_t>(i < count && rank[i] >= p.threshold) << i;
        }
        if (!__any_sync(everyone, takes != 0)) return;
        // Descending: before a lane's own go those of higher lanes.
        int const own = __popc(takes);
        int upwards = own; // with those of higher lanes
#pragma unroll
        for (int far = 1; far < list_lanes; far *= 2)
        {
            int const more = __shfl_down_sync(everyone, upwards, far, list_lanes);
            upwards += lane_ + far < list_lanes ? more : 0;
        }
        int const all = __shfl_sync(everyone, upwards, 0, list_lanes);
        candidate* to = candidates_ + p.count + upwards - own;
#pragma unroll
        for (int i = lane_blocks - 1; i >= 0; --i)
            if (takes >> i & 1) *to++ = {rank[i], first + i};
        p.count += all;
        if (__any_sync(everyone, p.count > room - panel_blocks)) thin_out(p, room / 8);
    }

    /// Writes the list, ascending; returns its length. goal: top_p's share of everything that competes, or negative.
    __device__ int store(list_progress p, std::int32_t* list, int capacity, int first_block, double goal) const
    {
        thin_out(p, 0);
        int const n = __any_sync(everyone, goal >= 0) ? cut(p.count, goal) : p.count;
        for (int i = lane_; i < capacity; i += list_lanes)
            list[i] = i < n ? first_block + candidates_[n - 1 - i].block : -1;
        return n;
    }

private:
    static constexpr std::uint32_t everyone = 0xffffffffu;

    /// Leaves the best `wanted` candidates and at most `spare` more, and raises the threshold to their lowest rank or
    /// somewhat below.
    __device__ void thin_out(list_progress& p, int spare) const
    {
        __syncwarp(); // candidates are written
        bool const thins = p.count > wanted_;
        if (!__any_sync(everyone, thins)) return;
        int const n = thins ? p.count : 0;
        std::int32_t largest = 0;
        for (int i = lane_; i < n; i += list_lanes)
            largest = candidates_[i].rank > largest ? candidates_[i].rank : largest;
#pragma unroll
        for (int far = 1; far < list_lanes; far *= 2)
        {
            std::int32_t const other = __shfl_xor_sync(everyone, largest, far);
            largest = other > largest ? other : largest;
        }
        // Bisection for the largest rank that `wanted` reach: it has the bits that the threshold and the largest share.
        int bit = 31 - __clz(largest ^ p.threshold);
        std::int32_t found = bit < 0 ? largest : largest >> (bit + 1) << (bit + 1);
        int reaching = n;
        while (__any_sync(everyone, bit >= 0 && reaching > wanted_ + spare))
        {
            bool const goes_on = bit >= 0 && reaching > wanted_ + spare;
            std::int32_t const higher = goes_on ? found + (1 << bit) : found;
            int const reach = sum_lanes(count_reaching(goes_on ? n : 0, higher));
            if (goes_on && reach >= wanted_) found = higher, reaching = reach;
            bit -= goes_on;
        }
        // Many of one rank: of those the lowest blocks stay, which are the last.
        int const leaving = thins && reaching > wanted_ + spare ? reaching - wanted_ : 0;
        bool const ties = __any_sync(everyone, leaving > 0);
        int const kept = keep(n, [&, met = 0](candidate const& c, bool exists) mutable {
            bool stays = exists && c.rank >= found;
            if (ties)
            {
                std::uint32_t const on = of_list(__ballot_sync(everyone, exists && c.rank == found));
                stays = stays && (c.rank > found || met + __popc(on & below()) >= leaving);
                met += __popc(on);
            }
            return stays;
        });
        if (thins) p.count = kept, p.threshold = found;
    }

    __device__ int count_reaching(int n, std::int32_t rank) const
    {
        int count = 0;
#pragma unroll 8
        for (int i = lane_; i < n; i += list_lanes) count += candidates_[i].rank >= rank;
        return count;
    }

    /// top_p: the fewest whose sum, from the largest down, reaches the goal (spec section 2). Returns their number.
    __device__ int cut(int n, double goal) const
    {
        for (int i = lane_; i < n; i += list_lanes)
        {
            std::int32_t const rank = candidates_[i].rank;
            double before = 0; // of what ranks above it, equal ones in lower blocks included
            for (int j = 0; j < n; ++j)
                if (candidates_[j].rank > rank || (candidates_[j].rank == rank && j > i))
                    before += static_cast<double>(mass_of(candidates_[j].rank));
            if (before >= goal) candidates_[i].block = -1; // ranks are still looked at
        }
        __syncwarp();
        return keep(n, [](candidate const& c, bool exists) { return exists && c.block >= 0; });
    }

    /// Keeps, in order, the candidates that stays(candidate, exists) names. Returns their number.
    template <class Stays>
    __device__ int keep(int n, Stays stays) const
    {
        int kept = 0;
        for (int i = lane_; __any_sync(everyone, i < n); i += list_lanes)
        {
            candidate const mine = i < n ? candidates_[i] : candidate{};
            bool const here = stays(mine, i < n);
            std::uint32_t const all = of_list(__ballot_sync(everyone, here));
            __syncwarp(); // all have read theirs
            if (here) candidates_[kept + __popc(all & below())] = mine;
            kept += __popc(all);
        }
        __syncwarp();
        return kept;
    }

    /// Bits of this list's lanes.
    __device__ std::uint32_t of_list(std::uint32_t all) const
    {
        return all >> (threadIdx.x % 32 / list_lanes * list_lanes) & ((1u << list_lanes) - 1u);
    }
    __device__ std::uint32_t below() const
    {
        return (1u << lane_) - 1u;
    }
    __device__ static int sum_lanes(int x)
    {
#pragma unroll
        for (int far = 1; far < list_lanes; far *= 2) x += __shfl_xor_sync(everyone, x, far);
        return x;
    }

    candidate* candidates_;
    int wanted_, lane_;
};

} // namespace spla::cuda
