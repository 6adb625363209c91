// SPDX-FileCopyrightText: The spla authors
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once
#include "selection_shape.hpp"

/// The best blocks of lists, while their masses stream by in descending order of blocks: candidates that reach a
/// threshold are kept, and thinned out whenever they outgrow their room. Memory does not depend on the number of
/// blocks; what is left in the end depends on the masses alone.
///
/// `Lanes` of a warp serve one list, so that a warp serves several at a time: their chains of steps run beside each
/// other. All lanes call each function; those without a list say so by a count of 0.
namespace spla::cuda
{

inline constexpr std::int32_t rank_not_finite = -1; ///< of a block whose score is not finite: it ranks last
inline constexpr std::int32_t rank_absent = -2;     ///< of what does not compete
inline constexpr int candidate_slack = 8;           ///< places after a list's room: the next list's lie in other banks

/// A panel of one list, spread over its lanes: a lane has `pieces` runs of `run` blocks, each run beside those of the
/// other lanes.
template <int Lanes>
struct lane_panel
{
    static constexpr int numbers = panel_blocks / Lanes;
    static constexpr int run = numbers < 4 ? numbers : 4;
    static constexpr int pieces = numbers / run;

    __device__ static int lane() { return threadIdx.x % Lanes; }
    /// Column of a lane's number i.
    __device__ static int column(int i) { return i / run * (run * Lanes) + lane() * run + i % run; }

    /// Order of masses as numbers: larger mass, larger rank. left: blocks from the panel's first on that compete.
    __device__ static void rank(float const (&mass)[numbers], int left, std::int32_t (&rank)[numbers])
    {
        constexpr std::uint32_t infinite = 0x7f800000u; // and NaN and whatever is negative beyond it
        std::uint32_t top = 0;
#pragma unroll
        for (int i = 0; i < numbers; ++i)
        {
            rank[i] = __float_as_int(mass[i]);
            top = ::max(top, static_cast<std::uint32_t>(rank[i]));
        }
        if (__any_sync(0xffffffffu, top >= infinite || left < panel_blocks))
        {
#pragma unroll
            for (int i = 0; i < numbers; ++i)
            {
                if (static_cast<std::uint32_t>(rank[i]) >= infinite) rank[i] = rank_not_finite;
                if (column(i) >= left) rank[i] = rank_absent;
            }
        }
    }
};

template <int Lanes>
class best_blocks
{
    using panel = lane_panel<Lanes>;

public:
    /// places: of candidates, for ranks and for blocks each.
    __device__ best_blocks(std::int32_t* candidates, int places, int wanted)
        : rank_(candidates), block_(candidates + places), room_(places - candidate_slack), wanted_(wanted),
          lane_(panel::lane())
    {
    }

    __device__ static float mass_of(std::int32_t rank) { return rank > 0 ? __int_as_float(rank) : 0.0f; }

    /// first: block of the panel's first column.
    __device__ void offer(list_progress& p, std::int32_t const (&rank)[panel::numbers], int first) const
    {
        std::uint32_t takes = 0;
#pragma unroll
        for (int i = 0; i < panel::numbers; ++i) takes |= rank[i] >= p.threshold ? 1u << i : 0u;
        if (!__any_sync(everyone, takes != 0)) return;
        // Descending: before a lane's own go those of higher lanes. Each piece's number has a byte.
        std::uint32_t own = 0;
#pragma unroll
        for (int k = 0; k < panel::pieces; ++k)
            own |= static_cast<std::uint32_t>(__popc(takes >> (k * panel::run) & ((1u << panel::run) - 1u))) << (8 * k);
        std::uint32_t upwards = own; // with those of higher lanes
#pragma unroll
        for (int far = 1; far < Lanes; far *= 2)
        {
            std::uint32_t const more = __shfl_down_sync(everyone, upwards, far, Lanes);
            upwards += lane_ + far < Lanes ? more : 0u;
        }
        std::uint32_t const all = __shfl_sync(everyone, upwards, 0, Lanes), higher = upwards - own;
#pragma unroll
        for (int k = panel::pieces - 1; k >= 0; --k)
        {
            int to = p.count + static_cast<int>(higher >> (8 * k) & 255u);
#pragma unroll
            for (int i = (k + 1) * panel::run - 1; i >= k * panel::run; --i)
            {
                if (takes >> i & 1u)
                {
                    rank_[to] = rank[i], block_[to] = first + panel::column(i);
                    ++to;
                }
            }
            p.count += static_cast<int>(all >> (8 * k) & 255u);
        }
        if (__any_sync(everyone, p.count > room_ - panel_blocks))
            thin_out(p, ::min(room_ / 8, room_ - panel_blocks - wanted_));
    }

    /// Writes the list, ascending; returns its length. goal: top_p's share of everything that competes, or negative.
    __device__ int store(list_progress p, std::int32_t* list, int capacity, int first_block, double goal) const
    {
        __syncwarp(); // candidates are written
        thin_out(p, 0);
        int const n = __any_sync(everyone, goal >= 0) ? cut(p.count, goal) : p.count;
        for (int i = lane_; i < capacity; i += Lanes) list[i] = i < n ? first_block + block_[n - 1 - i] : -1;
        __syncwarp(); // candidates are read
        return n;
    }

private:
    static constexpr std::uint32_t everyone = 0xffffffffu;
    static constexpr int at_once = 4 * Lanes; ///< candidates of a list that are looked at together

    /// Leaves the best `wanted` candidates and at most `spare` more, and raises the threshold to their lowest rank or
    /// somewhat below.
    __device__ void thin_out(list_progress& p, int spare) const
    {
        __syncwarp(); // candidates are written
        bool const thins = p.count > wanted_;
        if (!__any_sync(everyone, thins)) return;
        int const n = thins ? p.count : 0;
        // What follows the last, up to a whole four, repeats the first: neither smallest nor largest change.
        std::int32_t const example = n > 0 ? rank_[0] : 0;
        int const extra = (4 - n % 4) % 4;
        if (n > 0 && lane_ < extra) rank_[n + lane_] = example;
        __syncwarp();
        std::int32_t low = 0x7fffffff, high = rank_absent;
#pragma unroll 2
        for (int i = 4 * lane_; i < n; i += at_once)
        {
            int4 const r = four(rank_ + i);
            low = ::min(low, ::min(::min(r.x, r.y), ::min(r.z, r.w))),
            high = ::max(high, ::max(::max(r.x, r.y), ::max(r.z, r.w)));
        }
#pragma unroll
        for (int far = 1; far < Lanes; far *= 2)
        {
            low = ::min(low, __shfl_xor_sync(everyone, low, far));
            high = ::max(high, __shfl_xor_sync(everyone, high, far));
        }
        if (!thins) low = high = 0;
        // The largest rank that `wanted` reach, or one that few enough do, lies from low on and before high. Ranks are
        // nearly logarithms, and spread evenly enough that it is guessed from the numbers that reach either.
        ++high;
        int reaching = n, beyond = 0;
        float const aim = static_cast<float>(wanted_) + 0.5f * static_cast<float>(spare);
        for (int round = 1;; ++round)
        {
            bool const goes_on = reaching > wanted_ + spare && high - low > 1;
            if (!__any_sync(everyone, goes_on)) break;
            float const share =
                round % 2 == 0 ? 0.5f // no bad guess twice
                               : __fdividef(static_cast<float>(reaching) - aim, static_cast<float>(reaching - beyond));
            int const step = static_cast<int>(static_cast<float>(high - low) * share);
            std::int32_t const middle = low + ::max(1, ::min(step, high - low - 1));
            int reach = sum_lanes(count_reaching(goes_on ? n : 0, middle));
            reach -= example >= middle ? extra : 0;
            if (goes_on)
            {
                bool const enough = reach >= wanted_;
                low = enough ? middle : low, reaching = enough ? reach : reaching;
                high = enough ? high : middle, beyond = enough ? beyond : reach;
            }
        }
        // Many of one rank: of those the lowest blocks stay, which are the last.
        int const leaving = thins && reaching > wanted_ + spare ? reaching - wanted_ : 0;
        bool const ties = __any_sync(everyone, leaving > 0);
        int met = 0;
        int const kept = keep(n, [&](int4 const& r, int4 const&, std::uint32_t exists) {
            std::uint32_t stays = bits(r.x >= low, r.y >= low, r.z >= low, r.w >= low) & exists;
            if (ties)
            {
                std::uint32_t const on = bits(r.x == low, r.y == low, r.z == low, r.w == low) & exists;
                int all, before = met + sum_before(__popc(on), all);
#pragma unroll
                for (int e = 0; e < 4; ++e)
                {
                    if ((on >> e & 1u) && before++ < leaving) stays &= ~(1u << e);
                }
                met += all;
            }
            return stays;
        });
        if (thins) p.count = kept, p.threshold = low;
    }

    __device__ int count_reaching(int n, std::int32_t rank) const
    {
        int count[2] = {0, 0};
#pragma unroll 4
        for (int i = 4 * lane_; i < n; i += at_once)
        {
            int4 const r = four(rank_ + i);
            count[0] += (r.x >= rank) + (r.y >= rank), count[1] += (r.z >= rank) + (r.w >= rank);
        }
        return count[0] + count[1];
    }

    /// top_p: the fewest whose sum, from the largest down, reaches the goal (spec section 2). Returns their number.
    __device__ int cut(int n, double goal) const
    {
        for (int i = lane_; i < n; i += Lanes)
        {
            std::int32_t const rank = rank_[i];
            double before = 0; // of what ranks above it, equal ones in lower blocks included
            for (int j = 0; j < n; ++j)
                if (rank_[j] > rank || (rank_[j] == rank && j > i)) before += static_cast<double>(mass_of(rank_[j]));
            if (before >= goal) block_[i] = -1; // ranks are still looked at
        }
        __syncwarp();
        return keep(n, [](int4 const&, int4 const& b, std::uint32_t exists) {
            return bits(b.x >= 0, b.y >= 0, b.z >= 0, b.w >= 0) & exists;
        });
    }

    /// Keeps, in order, the candidates that stays(four ranks, four blocks, which of them exist) names. Returns their
    /// number.
    template <class Stays>
    __device__ int keep(int n, Stays stays) const
    {
        int const most = static_cast<int>(__reduce_max_sync(everyone, static_cast<unsigned>(n)));
        int kept = 0;
        int4 next_rank{}, next_block{};
        auto const read = [&](int i) { // what is read was not written meanwhile: that all lies before
            if (i < n) next_rank = four(rank_ + i), next_block = four(block_ + i);
        };
        read(4 * lane_);
#pragma unroll 1
        for (int first = 0; first < most; first += at_once)
        {
            int const i = first + 4 * lane_;
            int4 const r = next_rank, b = next_block;
            read(i + at_once);
            std::uint32_t const here = stays(r, b, i >= n ? 0u : n - i >= 4 ? 15u : (1u << (n - i)) - 1u);
            int all, to = kept + sum_before(__popc(here), all);
            __syncwarp(); // all have read theirs
            if (here & 1u) rank_[to] = r.x, block_[to] = b.x, ++to;
            if (here & 2u) rank_[to] = r.y, block_[to] = b.y, ++to;
            if (here & 4u) rank_[to] = r.z, block_[to] = b.z, ++to;
            if (here & 8u) rank_[to] = r.w, block_[to] = b.w;
            kept += all;
        }
        __syncwarp();
        return kept;
    }

    static __device__ int4 four(std::int32_t const* p)
    {
        return *reinterpret_cast<int4 const*>(p);
    }
    static __device__ std::uint32_t bits(bool a, bool b, bool c, bool d)
    {
        return (a ? 1u : 0u) | (b ? 2u : 0u) | (c ? 4u : 0u) | (d ? 8u : 0u);
    }
    /// Of the list's lanes before this one; all: of all of them.
    __device__ int sum_before(int x, int& all) const
    {
        int upto = x;
#pragma unroll
        for (int far = 1; far < Lanes; far *= 2)
        {
            int const more = __shfl_up_sync(everyone, upto, far, Lanes);
            upto += lane_ >= far ? more : 0;
        }
        all = sum_lanes(x); // beside the above, not after it
        return upto - x;
    }
    __device__ static int sum_lanes(int x)
    {
#pragma unroll
        for (int far = 1; far < Lanes; far *= 2) x += __shfl_xor_sync(everyone, x, far);
        return x;
    }

    std::int32_t *rank_, *block_;
    int room_, wanted_, lane_;
};

} // namespace spla::cuda
