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

/// A panel of one list, spread over its lanes: a lane has neighbouring blocks, which lie in runs.
template <int Lanes>
struct lane_panel
{
    static constexpr int numbers = panel_blocks / Lanes;
    static constexpr int run = numbers < 4 ? numbers : 4;
    static constexpr int runs = numbers / run;

    __device__ static int lane() { return threadIdx.x % Lanes; }
    /// Column of a lane's first number.
    __device__ static int column() { return lane() * numbers; }

    /// Order of masses as numbers: larger mass, larger rank. left: blocks from the panel's first on that compete.
    __device__ static void rank(float const (&mass)[numbers], int left, std::int32_t (&rank)[numbers])
    {
        constexpr std::uint32_t infinite = 0x7f800000u; // and NaN and whatever is negative beyond it
#pragma unroll
        for (int i = 0; i < numbers; ++i) rank[i] = __float_as_int(mass[i]);
        std::uint32_t top = 0;
#pragma unroll
        for (int i = 0; i < numbers; i += 2)
            top = __vimax3_u32(top, static_cast<std::uint32_t>(rank[i]), static_cast<std::uint32_t>(rank[i + 1]));
        if (__any_sync(0xffffffffu, top >= infinite || left < panel_blocks))
        {
            left -= column();
#pragma unroll
            for (int i = 0; i < numbers; ++i)
            {
                if (static_cast<std::uint32_t>(rank[i]) >= infinite) rank[i] = rank_not_finite;
                if (i >= left) rank[i] = rank_absent;
            }
        }
    }
};

template <int Lanes>
class best_blocks
{
    using panel = lane_panel<Lanes>;

public:
    __device__ best_blocks(candidate* candidates, int places, int wanted)
        : candidate_(candidates), room_(places - candidate_slack), wanted_(wanted), lane_(panel::lane())
    {
    }

    __device__ static float mass_of(std::int32_t rank) { return rank > 0 ? __int_as_float(rank) : 0.0f; }

    /// first: block of the panel's first column.
    __device__ void offer(list_progress& p, std::int32_t const (&rank)[panel::numbers], int first) const
    {
        // Signs of differences, the first in the highest bit, tell which are too small.
        std::uint32_t fails = 0;
#pragma unroll
        for (int i = 0; i < panel::numbers; ++i) fails = sign_first(rank[i] - p.threshold, fails);
        int const own = panel::numbers - __popc(fails);
        if (!__any_sync(everyone, own != 0)) return;
        // Descending: before a lane's own go those of higher lanes.
        lane_sums const sums = sum_lanes(own);
        std::uint32_t to = shared_address(candidate_ + p.count + sums.higher);
        int const lane_first = first + panel::column();
#pragma unroll
        for (int i = panel::numbers - 1; i >= 0; --i)
        {
            append(to, rank[i], lane_first + i, fails & 1u << (panel::numbers - 1 - i));
        }
        p.count += static_cast<int>(sums.all);
    }

    /// Makes room for another panel, or leaves the best alone, as many as are wanted.
    __device__ void thin_out(list_progress& p, bool best_alone) const
    {
        bool const crowded = p.count > (best_alone ? wanted_ : room_ - panel_blocks);
        if (__any_sync(everyone, crowded))
            thin_out(p, best_alone ? 0 : ::min(room_ / 6, room_ - panel_blocks - wanted_));
    }

    /// Writes the list of the best alone, ascending; returns its length. goal: top_p's share of everything that
    /// competes, or negative.
    __device__ int store(list_progress p, std::int32_t* list, int capacity, int first_block, double goal) const
    {
        __syncwarp(); // candidates are written
        int const n = __any_sync(everyone, goal >= 0) ? cut(p.count, goal) : p.count;
        for (int i = lane_; i < capacity; i += Lanes) list[i] = i < n ? first_block + candidate_[n - 1 - i].block : -1;
        __syncwarp(); // candidates are read
        return n;
    }

private:
    static constexpr std::uint32_t everyone = 0xffffffffu;
    static constexpr int at_once = 2 * Lanes; ///< candidates of a list that are looked at together
    static constexpr int moved = 8;           ///< of a lane together: neighbours, no more than the slack

    /// Where it does not fail. Said so, it takes no branch, nor a copy of the place.
    __device__ static void append(std::uint32_t& to, std::int32_t rank, int block, std::uint32_t fails)
    {
        asm volatile("{\n"
                     ".reg .pred stays;\n"
                     "setp.eq.u32 stays, %3, 0;\n"
                     "@stays st.shared.v2.b32 [%0], {%1, %2};\n"
                     "@stays add.u32 %0, %0, 8;\n"
                     "}\n"
                     : "+r"(to)
                     : "r"(rank), "r"(block), "r"(fails)
                     : "memory");
    }

    /// Leaves the best `wanted` candidates and at most `spare` more, and raises the threshold to their lowest rank or
    /// somewhat below.
    __device__ void thin_out(list_progress& p, int spare) const
    {
        __syncwarp(); // candidates are written
        bool const thins = p.count > wanted_;
        if (!__any_sync(everyone, thins)) return;
        int const n = thins ? p.count : 0;
        // What follows the last, up to a whole pair, repeats the first: neither smallest nor largest change.
        std::int32_t const example = n > 0 ? candidate_[0].rank : 0;
        int const extra = n % 2;
        if (extra > 0 && lane_ == 0) candidate_[n] = {example, -1};
        __syncwarp();
        std::int32_t low = 0x7fffffff, high = rank_absent;
#pragma unroll 4
        for (int i = 2 * lane_; i < n; i += at_once)
        {
            candidate_pair const c = pair(i);
            low = __vimin3_s32(low, c.first.rank, c.second.rank),
            high = __vimax3_s32(high, c.first.rank, c.second.rank);
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
            int reach = static_cast<int>(sum_lanes(count_reaching(goes_on ? n : 0, middle)).all);
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
        int const kept = keep(n, [&](candidate const(&c)[moved], std::uint32_t fails) {
            std::uint32_t lower = 0, other = 0;
#pragma unroll
            for (int e = 0; e < moved; ++e) lower = sign_first(c[e].rank - low, lower);
            if (!ties) return lower | fails;
#pragma unroll
            for (int e = 0; e < moved; ++e) other = other << 1 | (c[e].rank != low ? 1u : 0u);
            int const own = moved - __popc(other | fails);
            lane_sums const sums = sum_lanes(own);
            int before = met + static_cast<int>(sums.all - sums.higher) - own;
            met += static_cast<int>(sums.all);
            std::uint32_t leaves = 0;
#pragma unroll
            for (int e = 0; e < moved; ++e)
            {
                bool const tied = ((other | fails) >> (moved - 1 - e) & 1u) == 0;
                leaves = leaves << 1 | (tied && before < leaving ? 1u : 0u);
                before += tied ? 1 : 0;
            }
            return lower | fails | leaves;
        });
        if (thins) p.count = kept, p.threshold = low;
    }

    __device__ int count_reaching(int n, std::int32_t rank) const
    {
        std::uint32_t count[2] = {0, 0};
        std::int32_t const below = rank - 1; // a difference's sign tells
#pragma unroll 4
        for (int i = 2 * lane_; i < n; i += at_once)
        {
            candidate_pair const c = pair(i);
            count[0] += static_cast<std::uint32_t>(below - c.first.rank) >> 31;
            count[1] += static_cast<std::uint32_t>(below - c.second.rank) >> 31;
        }
        return static_cast<int>(count[0] + count[1]);
    }

    /// top_p: the fewest whose sum, from the largest down, reaches the goal (spec section 2). Returns their number.
    __device__ int cut(int n, double goal) const
    {
        for (int i = lane_; i < n; i += Lanes)
        {
            std::int32_t const rank = candidate_[i].rank;
            double before = 0; // of what ranks above it, equal ones in lower blocks included
            for (int j = 0; j < n; ++j)
            {
                std::int32_t const other = candidate_[j].rank;
                if (other > rank || (other == rank && j > i)) before += static_cast<double>(mass_of(other));
            }
            if (before >= goal) candidate_[i].block = -1; // ranks are still looked at
        }
        __syncwarp();
        return keep(n, [](candidate const(&c)[moved], std::uint32_t fails) {
            std::uint32_t cut_off = 0;
#pragma unroll
            for (int e = 0; e < moved; ++e) cut_off = sign_first(c[e].block, cut_off);
            return cut_off | fails;
        });
    }

    /// Keeps candidates, in order, but for those that fails() names: of a lane's few, with those that do not exist, the
    /// first in the highest bit. Returns their number.
    template <class Fails>
    __device__ int keep(int n, Fails fails) const
    {
        int const most = static_cast<int>(__reduce_max_sync(everyone, static_cast<unsigned>(n)));
        int kept = 0;
#pragma unroll 1
        for (int first = 0; first < most; first += moved * Lanes)
        {
            int const at = first + moved * lane_, left = n - at;
            candidate c[moved];
#pragma unroll
            for (int e = 0; e < moved; e += 2)
            {
                candidate_pair const two = pair((left > 0 ? at : 0) + e);
                c[e] = two.first, c[e + 1] = two.second;
            }
            std::uint32_t const failing = fails(c, 255u >> ::max(0, ::min(left, moved)));
            int const own = moved - __popc(failing);
            lane_sums const sums = sum_lanes(own);
            __syncwarp(); // all have read theirs
            std::uint32_t to = shared_address(candidate_ + kept + (sums.all - sums.higher - own));
#pragma unroll
            for (int e = 0; e < moved; ++e) append(to, c[e].rank, c[e].block, failing & 1u << (moved - 1 - e));
            kept += static_cast<int>(sums.all);
        }
        __syncwarp();
        return kept;
    }
    static __device__ std::uint32_t sign_first(int number, std::uint32_t signs)
    {
        return __funnelshift_l(static_cast<std::uint32_t>(number), signs, 1);
    }

    struct alignas(16) candidate_pair
    {
        candidate first, second;
    };

    __device__ candidate_pair pair(int i) const
    {
        int4 const c = *reinterpret_cast<int4 const*>(candidate_ + i);
        return {{c.x, c.y}, {c.z, c.w}};
    }
    /// Over the list's lanes: of all, and of those after this one.
    struct lane_sums
    {
        std::uint32_t all, higher;
    };
    __device__ lane_sums sum_lanes(std::uint32_t x) const
    {
        if constexpr (Lanes == 4)
        {
            // At one time, where steps would wait for each other.
            std::uint32_t const a = __shfl_xor_sync(everyone, x, 1), b = __shfl_xor_sync(everyone, x, 2),
                                c = __shfl_xor_sync(everyone, x, 3);
            return {(x + a) + (b + c), ((lane_ & 1) != 0 ? 0u : a) + ((lane_ & 2) != 0 ? 0u : b + c)};
        }
        else
        {
            std::uint32_t upwards = x;
#pragma unroll
            for (int far = 1; far < Lanes; far *= 2)
            {
                std::uint32_t const more = __shfl_down_sync(everyone, upwards, far, Lanes);
                upwards += lane_ + far < Lanes ? more : 0u;
            }
            return {__shfl_sync(everyone, upwards, 0, Lanes), upwards - x};
        }
    }

    candidate* candidate_;
    int room_, wanted_, lane_;
};

} // namespace spla::cuda
