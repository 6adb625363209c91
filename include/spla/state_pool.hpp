// SPDX-FileCopyrightText: The spla authors
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once
#include "sequence_state.hpp"

namespace spla
{

/// What a pool is made for.
struct pool_sizes
{
    std::int64_t slots = 0;         ///< sequences that are alive at once
    std::int64_t pages = 0;         ///< pages of the cache; 0: a row for each slot
    std::int64_t page_tokens = 0;   ///< tokens of a page (of a row), a multiple of the block
    std::int64_t rewind_tokens = 0; ///< how far a sequence may go back from the longest that it ever was

    friend bool operator==(pool_sizes const&, pool_sizes const&) = default;
};

/// What a pool holds, and where its parts lie in its buffer. The fields of state_layout mean what they mean there, with
/// these shapes:
///
/// | part             | shape                                                      | type                      |
/// |------------------|------------------------------------------------------------|---------------------------|
/// | summaries        | [page or slot, block, key_head, sub_block, vector, head_dim] | bf16, fp32 or int8      |
/// | scales           | [page or slot, block, key_head, sub_block, vector]         | fp32 (int8 summaries only)|
/// | linear           | [slot, kept_states, key_head, features, value_dim]         | accumulation type         |
/// | normaliser       | [slot, kept_states, key_head, features]                    | accumulation type         |
/// | shared list      | [slot, kept_lists, key_head, top_k] and lengths            | int32 (first_query only)  |
/// | held             | [slot, 2] tokens after its last step, and most so far      | int32                     |
struct pool_layout : state_layout
{
    pool_sizes sizes;
    std::int64_t kept_states = 1; ///< running states of a slot: the last, and those that it may go back to
    std::int64_t kept_lists = 1;  ///< lists of a slot's last tiles
    std::int64_t step = 1;        ///< blocks by which a running state grows
    std::size_t held = 0;

    friend bool operator==(pool_layout const&, pool_layout const&) = default;

    /// Bytes of the parts, of one slot ...
    std::int64_t linear_bytes() const { return states() * padded_value_dim() * number_bytes(); }
    std::int64_t normaliser_bytes() const { return normalised ? states() * number_bytes() : 0; }
    std::int64_t list_bytes() const { return length_bytes() * top_k; }
    std::int64_t length_bytes() const { return share == sharing_kind::first_query ? kept_lists * key_heads * 4 : 0; }
    /// ... and of one page (of a slot's row, where there are no pages).
    std::int64_t summary_bytes() const
    {
        std::int64_t const stored = storage == summary_storage::fp32 ? 4 : (storage == summary_storage::bf16 ? 2 : 1);
        return blocks * key_heads * summary_vectors() * head_dim * stored;
    }
    std::int64_t scale_bytes() const
    {
        return storage == summary_storage::int8 ? blocks * key_heads * summary_vectors() * 4 : 0;
    }
    /// What a sequence takes of the pool: its slot, and its pages.
    std::int64_t slot_bytes() const
    {
        return linear_bytes() + normaliser_bytes() + list_bytes() + length_bytes() + 8 +
               (sizes.pages > 0 ? 0 : page_bytes());
    }
    std::int64_t page_bytes() const { return summary_bytes() + scale_bytes(); }

private:
    std::int64_t states() const { return residual ? kept_states * key_heads * features : 0; }
    std::int64_t number_bytes() const { return accumulator == element_kind::float64 ? 8 : 4; }
};

namespace detail
{
template <class Metric, class FeatureMap>
void require_pool(rule_checker& c, pool_sizes const& z, options<Metric, FeatureMap> const& o)
{
    auto const value = rule_kind::value;
    c.require(z.slots >= 1, value, "slots", z.slots, "1 or more");
    c.require(z.pages >= 0, value, "pages", z.pages, "0 or more");
    c.require(z.page_tokens >= 1 && z.page_tokens % o.block == 0, value, "page_tokens", z.page_tokens,
              phrase{"a multiple of the block, ", o.block});
    c.require(z.rewind_tokens >= 0, value, "rewind_tokens", z.rewind_tokens, "0 or more");
    double const most = 2147483647.0; // int32, as slots, pages and lengths are
    c.require(static_cast<double>(z.slots) <= most && static_cast<double>(z.pages) <= most &&
                  static_cast<double>(z.page_tokens) <= most,
              rule_kind::unsupported, "slots, pages or page_tokens", std::max({z.slots, z.pages, z.page_tokens}),
              "below 2^31");
}

/// Of sizes and options that the rules have nothing against.
template <class Metric, class FeatureMap>
pool_layout layout_of(problem p, pool_sizes const& z, options<Metric, FeatureMap> const& o)
{
    p.batch = z.slots;
    p.keys = z.page_tokens;
    pool_layout s;
    static_cast<state_layout&>(s) = layout_of(p, o);
    s.sizes = z;
    s.slots = 0; // prefix states are the workspace's
    s.step = ceil_divide(s.tile, s.block);
    s.kept_states = ceil_divide(z.rewind_tokens, s.step * s.block) + 1;
    s.kept_lists = ceil_divide(z.rewind_tokens, s.tile) + 1;
    s.top_k = s.share == sharing_kind::first_query ? o.top_k : 0;

    buffer_carver place;
    std::int64_t const rows = z.pages > 0 ? z.pages : z.slots;
    s.summaries = place(rows * s.summary_bytes(), 1);
    s.scales = place(rows * s.scale_bytes(), 1);
    s.linear = place(z.slots * s.linear_bytes(), 1);
    s.normaliser = place(z.slots * s.normaliser_bytes(), 1);
    s.prefix = s.prefix_normaliser = place(0, 1);
    s.shared_list = place(z.slots * s.list_bytes(), 1);
    s.shared_length = place(z.slots * s.length_bytes(), 1);
    s.held = place(z.slots * 8, 1);
    s.bytes = place(0, 1);
    return s;
}

template <class Metric, class FeatureMap>
std::optional<violation> check_pool(char const* call, problem const& sizes, pool_sizes const& z,
                                    options<Metric, FeatureMap> const& o)
{
    problem p = without_queries(sizes);
    p.batch = 1, p.keys = 0;
    if (auto const found = check(p, o, call)) return found;
    rule_checker c(call);
    require_pool(c, z, o);
    if (c.found()) return c.found();
    auto const number = [](std::int64_t n) { return static_cast<double>(n); };
    p.batch = std::max(z.slots, z.pages), p.keys = z.page_tokens;
    double const steps = number(z.rewind_tokens) / o.block + 2;
    double const numbers = std::max(most_numbers(p, o, o.feature_map.features(static_cast<int>(p.residual_width()))),
                                    number(z.slots) * number(p.key_heads) * steps * 4096 * 1040);
    c.require(numbers < 0x1p58, rule_kind::unsupported, "numbers of the pool", numbers, "below 2^58");
    return c.found();
}
} // namespace detail

/// Layout of a pool; sizes.batch, queries, keys and query_heads do not matter. `bytes` is what the caller provides. A
/// slot takes kept_states * Hk * F * Dv numbers of the accumulation type; a page takes (page_tokens / B) * Hk * vectors
/// * D numbers of the storage type.
/// @throws argument_error  what check() returns of the sizes and options, or a rule on pool_sizes
template <class Metric, class FeatureMap>
pool_layout pool_layout_of(problem const& sizes, pool_sizes const& z, options<Metric, FeatureMap> const& o)
{
    if (auto const found = detail::check_pool("pool_layout_of", sizes, z, o)) throw_violation(*found);
    return detail::layout_of(detail::without_queries(sizes), z, o);
}

/// What persists between steps for every sequence of an engine: summaries by page (or slot), and in each slot the
/// linear state, the lists of the tile under way, and what a sequence needs to go back. A slot begins anew with a
/// sequence's first token, whatever it held: to free one is to use it for another.
///
/// The bytes are the caller's (a view of at least layout.bytes, aligned to buffer_alignment), or come from
/// make_state_pool(). What a sequence takes of them: slot_bytes() and page_bytes() of the layout. Copies of the object
/// share them. All progress lies in the bytes: the object never changes.
template <class MemorySpace>
class state_pool
{
public:
    using memory_space = MemorySpace;
    using buffer_type = Kokkos::View<std::byte*, MemorySpace>;

    state_pool() = default;
    state_pool(pool_layout const& layout, buffer_type buffer) : layout_(layout), buffer_(std::move(buffer)) {}

    pool_layout const& layout() const { return layout_; }
    buffer_type const& buffer() const { return buffer_; }

    template <class T>
    T* part(std::size_t offset) const
    {
        return reinterpret_cast<T*>(buffer_.data() + offset);
    }

private:
    pool_layout layout_;
    buffer_type buffer_;
};

/// Allocates the bytes of a pool once, uninitialised, on the instance's memory space.
/// @throws argument_error  as pool_layout_of()
template <class Exec, class Metric, class FeatureMap>
state_pool<typename Exec::memory_space> make_state_pool(Exec const& exec, problem const& sizes, pool_sizes const& z,
                                                        options<Metric, FeatureMap> const& o)
{
    if (auto const found = detail::check_pool("make_state_pool", sizes, z, o)) throw_violation(*found);
    pool_layout const layout = detail::layout_of(detail::without_queries(sizes), z, o);
    using pool = state_pool<typename Exec::memory_space>;
    typename pool::buffer_type buffer(Kokkos::view_alloc(exec, Kokkos::WithoutInitializing, "spla::state_pool"),
                                      layout.bytes);
    return pool(layout, buffer);
}

} // namespace spla
