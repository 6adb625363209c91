// SPDX-FileCopyrightText: The spla authors
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once
#include "algorithm/view_rules.hpp"
#include "state_pool.hpp"

#include <cstring>
#include <initializer_list>
#include <type_traits>

namespace spla
{

/// The bytes of one sequence's state, on the host: what a pool keeps for it, in a form that another run reads.
using state_image = Kokkos::View<std::byte*, Kokkos::HostSpace>;

namespace detail
{
/// What an image begins with. A change of what follows takes another version.
struct image_header
{
    static constexpr std::int32_t present = 1;

    char magic[8] = {'s', 'p', 'l', 'a', 's', 't', 'a', 't'};
    std::int32_t version = present;
    std::int32_t order = 0x01020304; ///< of bytes in a number
    std::int64_t bytes = 0;          ///< of the image
    std::int64_t pages = 0;          ///< whose summaries are in it
    std::int64_t numbers[24] = {};   ///< of the layout
    char metric[256] = {}, feature_map[256] = {};
};
static_assert(std::is_trivially_copyable_v<image_header>);

/// Every number of a layout that an image depends on, for both directions.
template <class Layout, class Use>
void each_number(Layout& l, Use const& use)
{
    int i = 0;
    for (auto* n : {&l.key_heads, &l.head_dim, &l.value_dim, &l.residual_width, &l.features, &l.block, &l.sink_blocks,
                    &l.local_blocks, &l.tile, &l.sub_blocks, &l.kept_keys, &l.vectors, &l.top_k, &l.kept_states,
                    &l.kept_lists, &l.sizes.page_tokens})
        use(i++, *n);
}

inline image_header header_of(pool_layout const& l, std::int64_t pages, std::size_t bytes)
{
    image_header h;
    h.bytes = static_cast<std::int64_t>(bytes);
    h.pages = pages;
    each_number(l, [&](int i, std::int64_t const& n) { h.numbers[i] = n; });
    std::int64_t const kinds[] = {static_cast<std::int64_t>(l.share),
                                  static_cast<std::int64_t>(l.storage),
                                  l.residual,
                                  l.normalised,
                                  l.reads_keys,
                                  static_cast<std::int64_t>(l.accumulator)};
    for (int i = 0; i < 6; ++i) h.numbers[16 + i] = kinds[i];
    l.metric.copy(h.metric, sizeof(h.metric) - 1);
    l.feature_map.copy(h.feature_map, sizeof(h.feature_map) - 1);
    return h;
}

/// The layout that an image was made of, as far as it says; the rest as `l` has it.
inline pool_layout layout_of(image_header const& h, pool_layout l)
{
    each_number(l, [&](int i, std::int64_t& n) { n = h.numbers[i]; });
    l.share = static_cast<sharing_kind>(h.numbers[16]), l.storage = static_cast<summary_storage>(h.numbers[17]);
    l.residual = h.numbers[18] != 0, l.normalised = h.numbers[19] != 0, l.reads_keys = h.numbers[20] != 0;
    l.accumulator = static_cast<element_kind>(h.numbers[21]);
    l.metric = h.metric, l.feature_map = h.feature_map;
    return l;
}

/// Where one sequence's bytes lie in the pool: use(first byte, bytes) for each part, in the image's order.
template <class Pages, class Use>
void each_part(pool_layout const& l, std::int64_t slot, Pages const& pages, Use const& use)
{
    auto const part = [&](std::size_t begin, std::int64_t number, std::int64_t bytes) {
        if (bytes > 0) use(static_cast<std::int64_t>(begin) + number * bytes, bytes);
    };
    part(l.linear, slot, l.linear_bytes());
    part(l.normaliser, slot, l.normaliser_bytes());
    part(l.shared_list, slot, l.list_bytes());
    part(l.shared_length, slot, l.length_bytes());
    part(l.held, slot, 8);
    auto const summaries = [&](std::int64_t row) {
        part(l.summaries, row, l.summary_bytes());
        part(l.scales, row, l.scale_bytes());
    };
    if (l.sizes.pages == 0) summaries(slot);
    for (std::size_t i = 0; l.sizes.pages > 0 && i < pages.extent(0); ++i) summaries(pages(i));
}

template <class Exec, class MemorySpace, class Pages>
void require_image(char const* call, Exec const&, state_pool<MemorySpace> const& pool, std::int64_t slot,
                   Pages const& pages)
{
    static_assert(Pages::rank() == 1 && std::is_same_v<typename Pages::non_const_value_type, std::int32_t> &&
                      accessible_from<Kokkos::DefaultHostExecutionSpace, Pages>,
                  "spla: an image's pages are a view of rank 1, of int32, on the host");
    pool_layout const& l = pool.layout();
    rule_checker c(call);
    c.require(slot >= 0 && slot < l.sizes.slots, rule_kind::value, "slot", slot, phrase{"0 to ", l.sizes.slots - 1});
    c.require(l.sizes.pages > 0 || pages.extent(0) == 0, rule_kind::value, "pages", pages.extent(0),
              "none: the pool was made for a row of each slot");
    for (std::size_t i = 0; i < pages.extent(0); ++i)
        c.require(pages(i) >= 0 && pages(i) < l.sizes.pages, rule_kind::value, phrase{"pages(", i, ")"}, pages(i),
                  phrase{"0 to ", l.sizes.pages - 1});
    c.throw_if_found();
}
} // namespace detail

/// Bytes of the image of one sequence: its slot, and the summaries of `pages` pages (0 where the pool has a row for
/// each slot: the row's are in it).
inline std::size_t image_bytes(pool_layout const& l, std::int64_t pages)
{
    return sizeof(detail::image_header) +
           static_cast<std::size_t>(l.slot_bytes() + (l.sizes.pages > 0 ? pages * l.page_bytes() : 0));
}

/// Saves what the pool holds of a sequence: that in `slot`, and the summaries of its `pages` (int32, on the host, in
/// the order of its tokens; none where the pool has a row for each slot). Its keys and values are the caller's to save.
/// Waits for the instance: not for a step.
/// @throws argument_error  a slot or page that does not exist, an image of another size than image_bytes()
template <class Exec, class MemorySpace, class Pages>
void save_sequence(Exec const& exec, state_pool<MemorySpace> const& pool, std::int64_t slot, Pages const& pages,
                   state_image const& image)
{
    detail::require_image("save_sequence", exec, pool, slot, pages);
    pool_layout const& l = pool.layout();
    std::size_t const bytes = image_bytes(l, static_cast<std::int64_t>(pages.extent(0)));
    detail::rule_checker c("save_sequence");
    c.require(image.extent(0) == bytes, rule_kind::value, "image.extent(0)", image.extent(0),
              detail::phrase{bytes, " (image_bytes())"});
    c.throw_if_found();
    auto const header = detail::header_of(l, static_cast<std::int64_t>(pages.extent(0)), bytes);
    std::memcpy(image.data(), &header, sizeof(header));
    auto at = static_cast<std::int64_t>(sizeof(header));
    detail::each_part(l, slot, pages, [&](std::int64_t first, std::int64_t count) {
        Kokkos::deep_copy(exec, Kokkos::subview(image, Kokkos::make_pair(at, at + count)),
                          Kokkos::subview(pool.buffer(), Kokkos::make_pair(first, first + count)));
        at += count;
    });
    exec.fence("spla::save_sequence");
}

/// The sequence of an image goes on in `slot` and `pages` of this pool, as many pages as were saved, in their order: of
/// the same sizes and options, in this run or another, on this device or another. Waits for the instance.
/// @throws argument_error  an image that was cut off, that another version or a pool for other sizes or options made;
/// nothing is written then
template <class Exec, class MemorySpace, class Pages>
void restore_sequence(Exec const& exec, state_pool<MemorySpace> const& pool, std::int64_t slot, Pages const& pages,
                      state_image const& image)
{
    using detail::phrase;
    detail::require_image("restore_sequence", exec, pool, slot, pages);
    pool_layout const& l = pool.layout();
    detail::rule_checker c("restore_sequence");
    auto const value = rule_kind::value;
    detail::image_header header;
    c.require(image.extent(0) >= sizeof(header), value, "image.extent(0)", image.extent(0),
              phrase{"at least the ", sizeof(header), " bytes of a header"});
    c.throw_if_found();
    std::memcpy(&header, image.data(), sizeof(header));
    header.metric[sizeof(header.metric) - 1] = header.feature_map[sizeof(header.feature_map) - 1] = '\0';
    detail::image_header const own;
    c.require(std::memcmp(header.magic, own.magic, sizeof(own.magic)) == 0 && header.order == own.order, value, "image",
              "other bytes", "what save_sequence() made on a machine of this byte order");
    c.require(header.version == own.version, value, "image's version", header.version, own.version);
    c.throw_if_found();
    pool_layout const saved = detail::layout_of(header, l);
    detail::require_layout(c, saved, l, detail::state_parts::all);
    c.require(saved.kept_states == l.kept_states && saved.kept_lists == l.kept_lists, rule_kind::state,
              "image's kept states and lists", phrase{saved.kept_states, ", ", saved.kept_lists},
              phrase{l.kept_states, ", ", l.kept_lists, " (of rewind_tokens)"});
    c.require(saved.sizes.page_tokens == l.sizes.page_tokens, rule_kind::state, "image's page_tokens",
              saved.sizes.page_tokens, l.sizes.page_tokens);
    c.require(header.pages == static_cast<std::int64_t>(pages.extent(0)), value, "pages", pages.extent(0),
              phrase{header.pages, ", the image's"});
    auto const bytes = image_bytes(l, header.pages);
    c.require(image.extent(0) == bytes && header.bytes == static_cast<std::int64_t>(bytes), value, "image.extent(0)",
              image.extent(0), phrase{bytes, " (image_bytes())"});
    c.throw_if_found();
    auto at = static_cast<std::int64_t>(sizeof(header));
    detail::each_part(l, slot, pages, [&](std::int64_t first, std::int64_t count) {
        Kokkos::deep_copy(exec, Kokkos::subview(pool.buffer(), Kokkos::make_pair(first, first + count)),
                          Kokkos::subview(image, Kokkos::make_pair(at, at + count)));
        at += count;
    });
    exec.fence("spla::restore_sequence");
}

} // namespace spla
