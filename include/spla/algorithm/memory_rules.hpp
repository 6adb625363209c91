// SPDX-FileCopyrightText: The spla authors
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once
#include "../attention_extras.hpp"
#include "../check.hpp"

#include <cstdint>
#include <string_view>

/// Rules on where a call's views lie: each has memory, and what is written is apart from all else. Rows are written
/// while others are still read, so an overlap would be a silent race.
namespace spla::detail
{

/// Bytes from the first number to the end of the last of dimensions [first, rank).
inline std::int64_t inner_bytes(view_facts const& f, int first)
{
    std::int64_t last = 0;
    for (int i = first; i < f.rank; ++i) last += (f.extent[i] - 1) * f.stride[i];
    return (last + 1) * f.number_bytes;
}

/// Do two views lie woven into one another without touching, as keys and values of one cache [token, key or value,
/// head, dim] do? Looks for outer dimensions of equal strides within whose smallest both inner parts have their place.
inline bool interleaved(view_facts const& a, view_facts const& b)
{
    for (int outer = 1; outer < a.rank && outer < b.rank; ++outer)
    {
        std::int64_t step = 0; // bytes
        bool same = true;
        for (int i = 0; i < outer; ++i)
        {
            if (a.extent[i] == 1 && b.extent[i] == 1) continue;
            std::int64_t const of_a = a.stride[i] * a.number_bytes, of_b = b.stride[i] * b.number_bytes;
            same = same && of_a == of_b && of_a > 0 && (step == 0 || step % of_a == 0);
            step = of_a;
        }
        if (!same || step == 0) continue;
        std::int64_t const in_a = inner_bytes(a, outer), in_b = inner_bytes(b, outer);
        std::int64_t const difference = static_cast<std::int64_t>(b.begin - a.begin) % step;
        std::int64_t const offset = difference < 0 ? difference + step : difference;
        if (offset >= in_a && offset + in_b <= step) return true;
    }
    return false;
}

inline bool overlap(view_facts const& a, view_facts const& b)
{
    if (a.bytes == 0 || b.bytes == 0) return false;
    if (a.begin >= b.begin + b.bytes || b.begin >= a.begin + a.bytes) return false;
    return !interleaved(a, b);
}

/// Is `part` tokens [first, ...) of `whole`, at their place there?
inline bool is_part(view_facts const& part, view_facts const& whole, std::int64_t first)
{
    bool same = part.begin == whole.begin + static_cast<std::uintptr_t>(first * whole.stride[1] * whole.number_bytes);
    for (int i = 0; i < 3; ++i) same = same && (part.extent[i] <= 1 || part.stride[i] == whole.stride[i]);
    return same;
}

/// Where the views of one call lie.
class memory_map
{
public:
    /// The facts must outlive the map; absent views are passed over.
    memory_map& reads(std::string_view name, view_facts const& f) { return add(name, f, false); }
    memory_map& writes(std::string_view name, view_facts const& f) { return add(name, f, true); }

    void require(rule_checker& c) const
    {
        for (int i = 0; i < count_; ++i)
            c.require(!entries_[i].facts->without_memory, rule_kind::shape, entries_[i].name, "a view without memory",
                      "a view of allocated memory");
        for (int i = 0; i < count_; ++i)
            for (int j = 0; j < count_; ++j)
            {
                entry const &written = entries_[i], &other = entries_[j];
                if (i == j || !written.written || (other.written && j < i)) continue;
                c.require(!overlap(*written.facts, *other.facts), rule_kind::value, written.name,
                          phrase{"memory that overlaps ", other.name}, phrase{"memory apart from ", other.name});
            }
    }

private:
    struct entry
    {
        std::string_view name;
        view_facts const* facts;
        bool written;
    };
    memory_map& add(std::string_view name, view_facts const& f, bool written)
    {
        if (f) entries_[count_++] = {name, &f, written};
        return *this;
    }
    static constexpr int most = 24; // of a step with new tokens and all of attention_extras: 23
    entry entries_[most];
    int count_ = 0;
};

/// Everything in attention_extras.
inline void add_extras(memory_map& map, extras_facts const& e)
{
    map.reads("residual_query", e.residual_query).reads("residual_key", e.residual_key);
    map.reads("extras.use_lists", e.given_indices).reads("extras.use_lists lengths", e.given_lengths);
    map.reads("extras.norm_weights of_sparse", e.sparse_weight);
    map.reads("extras.norm_weights of_residual", e.residual_weight);
    map.writes("extras.return_branches sparse", e.sparse).writes("extras.return_branches residual", e.residual);
    map.writes("extras.return_lse", e.lse);
    map.writes("extras.return_lists", e.returned_indices).writes("extras.return_lists lengths", e.returned_lengths);
}

} // namespace spla::detail
