// SPDX-FileCopyrightText: The spla authors
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once
#include <Kokkos_Macros.hpp>

#include <cstdint>

/// The sequences of one call and its work items, as kernels count them: all alike (a fixed batch), or each of its own
/// length, read where the kernels run (variable lengths), so that a captured call follows new lengths.
namespace spla::detail
{

/// One sequence of a call: its queries, the last of which sits at its last key.
struct sequence
{
    std::int64_t number = 0; ///< in the call
    std::int64_t queries = 0, keys = 0;

    /// Position of the first query; negative: that query sees nothing.
    KOKKOS_FUNCTION std::int64_t first_position() const { return keys - queries; }
};

struct sequence_table
{
    std::int64_t count = 0;                ///< sequences; of variable lengths the most
    std::int64_t queries = 0, keys = 0;    ///< of each; of variable lengths the most of any
    std::int32_t const* offsets = nullptr; ///< [count + 1] first query of each, among those of all
    std::int32_t const* lengths = nullptr; ///< [count] keys of each, those of its queries included
    std::int32_t const* slots = nullptr;   ///< [count] slot of each
    std::int64_t slot_count = 0;
    std::int64_t tokens = 0;                   ///< most queries of all together
    std::int32_t const* falls = nullptr;       ///< [count + 1] falling offsets before each, once they are counted
    std::int32_t const* key_offsets = nullptr; ///< of keys without a cache: [count + 1], of key_tokens
    std::int64_t key_tokens = 0;
    std::int32_t const* chosen = nullptr; ///< [count + 1] sequences before each that are chosen, once they are counted
    bool choice = true;                   ///< those are here, or all others
    std::int64_t few_queries = 0;         ///< of variable lengths: sequences with no more are passed over

    /// Of two kernels that share the sequences of a call, each has its own.
    sequence_table only(std::int32_t const* running_count, bool which) const
    {
        sequence_table part = *this;
        part.chosen = running_count, part.choice = which;
        return part;
    }
    /// Those with more queries alone.
    sequence_table beyond(std::int64_t queries_passed_over) const
    {
        sequence_table part = *this;
        part.few_queries = queries_passed_over;
        return part;
    }
    /// A sequence whose numbers break a rule has no queries: it is passed over, and no number of it becomes an address.
    /// So are all from the first falling offset on: together they may have more queries than there are.
    KOKKOS_FUNCTION sequence operator[](std::int64_t b) const
    {
        if (!offsets) return {b, queries, keys};
        if (falls && falls[b + 1] > 0) return {b, 0, 0};
        if (chosen && (chosen[b + 1] > chosen[b]) != choice) return {b, 0, 0};
        std::int64_t const first = offsets[b], n = offsets[b + 1] - first;
        if (n <= few_queries || first < 0 || n > queries || first + n > tokens) return {b, 0, 0};
        std::int64_t const length = lengths[b], slot = slots[b];
        if (length < n || length > keys || slot < 0 || slot >= slot_count) return {b, 0, 0};
        if (key_offsets && (key_offsets[b] < 0 || key_offsets[b] + length > key_tokens)) return {b, 0, 0};
        return {b, n, length};
    }
    /// The same of a sequence that has work items: it breaks none.
    KOKKOS_FUNCTION sequence at_work(std::int64_t b) const
    {
        if (!offsets) return {b, queries, keys};
        return {b, offsets[b + 1] - offsets[b], lengths[b]};
    }
};

/// Work items, sequence after sequence.
struct item_table
{
    std::int64_t sequences = 0;
    std::int64_t each = 0;               ///< items of every sequence, where `first` is null
    std::int32_t const* first = nullptr; ///< [sequences + 1] items before those of each

    struct place
    {
        std::int64_t sequence, item; ///< sequence == sequences: none
    };
    KOKKOS_FUNCTION place find(std::int64_t n) const
    {
        if (!first) return {n / each, n % each};
        if (n >= first[sequences]) return {sequences, 0};
        std::int64_t low = 0, high = sequences; // first[low] <= n < first[high]
        while (high - low > 1)
        {
            std::int64_t const middle = (low + high) / 2;
            (first[middle] <= n ? low : high) = middle;
        }
        return {low, n - first[low]};
    }
    /// Of all sequences.
    KOKKOS_FUNCTION std::int64_t count() const { return first ? first[sequences] : sequences * each; }
    /// Number of the first item of a sequence.
    KOKKOS_FUNCTION std::int64_t begin(std::int64_t sequence) const
    {
        return first ? first[sequence] : sequence * each;
    }
};

/// Where the tokens of a sequence lie in a tensor [batch, token, ...].
class token_map
{
public:
    /// In its row of the batch.
    token_map() = default;
    /// Sequence after sequence in one row: those of b from offsets[b] on.
    static token_map packed(std::int32_t const* offsets) { return {layout::packed, offsets, 0, 1, 0}; }
    /// In row slots[b].
    static token_map in_slots(std::int32_t const* slots) { return {layout::slots, slots, 0, 1, 0}; }
    /// In pages, which are rows of the batch: their numbers in a table [sequence, page], `stride` between sequences.
    static token_map in_pages(std::int32_t const* table, std::int64_t stride, std::int64_t page_tokens,
                              std::int64_t page_count)
    {
        return {layout::pages, table, stride, page_tokens, page_count};
    }

    struct place
    {
        std::int64_t batch, token;
    };
    KOKKOS_FUNCTION place operator()(std::int64_t b, std::int64_t token) const
    {
        if (layout_ == layout::fixed) return {b, token};
        return look_up(b, token);
    }
    KOKKOS_FUNCTION bool has_pages() const { return layout_ == layout::pages; }
    KOKKOS_FUNCTION std::int64_t page_tokens() const { return page_tokens_; }
    KOKKOS_FUNCTION std::int64_t page_count() const { return page_count_; }
    /// Number of a sequence's i-th page.
    KOKKOS_FUNCTION std::int64_t page(std::int64_t b, std::int64_t i) const { return table_[b * stride_ + i]; }
    /// Does the token have a place to be written to?
    KOKKOS_FUNCTION bool holds(std::int64_t b, std::int64_t token) const
    {
        if (!has_pages()) return true;
        std::int64_t const p = page(b, token / page_tokens_);
        return p >= 0 && p < page_count_;
    }

private:
    enum class layout
    {
        fixed,
        packed,
        slots,
        pages
    };
    token_map(layout l, std::int32_t const* table, std::int64_t stride, std::int64_t page_tokens,
              std::int64_t page_count)
        : layout_(l), table_(table), stride_(stride), page_tokens_(page_tokens), page_count_(page_count)
    {
    }
    /// A page out of range is taken for the nearest that exists: read, its numbers are wrong; never out of bounds. Out
    /// of line, so that the fixed batch pays one comparison, and compiles nothing more, wherever a row is asked for.
    [[gnu::cold]] KOKKOS_FUNCTION place look_up(std::int64_t b, std::int64_t token) const
    {
        if (layout_ == layout::packed) return {0, table_[b] + token};
        if (layout_ == layout::slots) return {table_[b], token};
        std::int64_t const i = token / page_tokens_, p = page(b, i);
        return {p < 0 ? 0 : (p < page_count_ ? p : page_count_ - 1), token - i * page_tokens_};
    }

    layout layout_ = layout::fixed;
    std::int32_t const* table_ = nullptr;
    std::int64_t stride_ = 0, page_tokens_ = 1, page_count_ = 0;
};

} // namespace spla::detail
