// SPDX-FileCopyrightText: The spla authors
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#include "../conformance/core.hpp"
#include "targets.hpp"

#include <spla/run_batch.hpp>

using namespace spla_fuzz;
using spla_test::host;

namespace
{
spla::problem sizes_from(number_source& s)
{
    spla::problem p;
    p.batch = s.number(), p.queries = s.number(), p.keys = s.number();
    p.query_heads = s.number(), p.key_heads = s.number();
    p.head_dim = s.number(), p.value_dim = s.number(), p.residual_dim = s.number();
    p.element = static_cast<spla::element_kind>(s.below(4));
    return p;
}

spla::options<> options_from(number_source& s)
{
    spla::options<> o;
    std::uint8_t const changed = s.byte(); // most inputs change little, so that later rules are reached
    if (changed & 1) o.scale = s.raw<double>();
    if (changed & 2) o.block = s.small_number(), o.sub_blocks = s.small_number();
    if (changed & 4) o.sink_blocks = s.small_number(), o.local_blocks = s.small_number();
    if (changed & 8) o.top_k = s.small_number(), o.kept_keys = s.small_number();
    if (changed & 16) o.top_p = s.raw<double>(), o.epsilon = s.raw<double>();
    if (changed & 32) o.share = {static_cast<spla::sharing_kind>(s.below(3)), s.small_number(), s.small_number()};
    if (changed & 64) o.segment_tokens = s.small_number();
    std::uint8_t const kinds = s.byte();
    o.storage = static_cast<spla::summary_storage>(kinds & 3);
    o.residual = static_cast<spla::residual_mode>((kinds >> 2 & 3) % 3);
    o.combine = static_cast<spla::combination_kind>(kinds >> 4 & 3);
    o.may_read_unselected = kinds & 64, o.normalised = kinds & 128;
    return o;
}

/// The call throws just where check() has found something, or refuses what no kernel of this build does.
template <class Call>
void same_verdict(std::optional<spla::violation> const& found, Call const& call)
{
    try
    {
        call();
        must(!found, "a call throws what check() finds");
    } catch (spla::argument_error const& e)
    {
        must(printable(e.what()), "a message is one printable line");
        must(!e.found().argument.empty() && !e.found().allowed.empty(), "a violation says what and what is allowed");
        if (found) must(e.found().argument == found->argument, "a call throws the first that check() finds");
    }
}

void plans_and_layouts(number_source& s, spla::problem const& p, spla::options<> const& o)
{
    host const exec;
    auto const found = spla::check(p, o);
    same_verdict(found, [&] {
        auto const plan = spla::plan_prefill(exec, p, o);
        must(printable(plan.text()), "a plan is one printable line");
        must(plan.workspace_bytes < std::size_t{1} << 62, "bytes of a workspace are counted");
    });
    same_verdict(found, [&] { must(spla::plan_decode(exec, p, o).runs >= 1, "a decode has a run"); });
    try
    {
        must(spla::state_layout_of(p, o).bytes < std::size_t{1} << 62, "bytes of a state are counted");
        must(!spla::check(spla::detail::without_queries(p), o), "a layout has sizes that fit");
    } catch (spla::argument_error const& e)
    {
        must(printable(e.what()), "a message is one printable line");
    }
    spla::pool_sizes const z{s.number(), s.number(), s.number(), s.number()};
    try
    {
        auto const layout = spla::pool_layout_of(p, z, o);
        must(layout.bytes < std::size_t{1} << 62, "bytes of a pool are counted");
        must(layout.slot_bytes() > 0 && layout.page_bytes() >= 0, "a sequence takes bytes");
        double const rows = static_cast<double>(z.slots) * static_cast<double>(layout.slot_bytes()) +
                            static_cast<double>(z.pages) * static_cast<double>(layout.page_bytes());
        must(static_cast<double>(layout.bytes) >= rows * (1 - 1e-12), "a pool holds its slots and pages");
    } catch (spla::argument_error const& e)
    {
        must(printable(e.what()), "a message is one printable line");
    }
    spla::batch_limits l;
    static_cast<spla::problem&>(l) = p;
    l.tokens = s.number();
    std::int64_t const entries = s.below(4) == 0 ? s.number() : 0;
    try
    {
        auto const plan = spla::plan_batch<float>(exec, l, o, entries);
        must(plan.workspace_bytes() > 0 && plan.workspace_bytes() < std::size_t{1} << 62,
             "bytes of a step's workspace are counted");
    } catch (spla::argument_error const& e)
    {
        must(printable(e.what()), "a message is one printable line");
    }
}

using view = spla_test::any_view<float, host::memory_space>;

/// A view somewhere in `memory`, of any extents and strides: no call may read it before it has checked it.
view view_from(number_source& s, float* memory, std::int64_t heads, std::int64_t dim, std::int64_t tokens)
{
    std::uint8_t const changed = s.byte();
    std::int64_t extent[4] = {1, tokens, heads, dim};
    for (int i = 0; i < 4; ++i)
        if (changed >> i & 1) extent[i] = s.below(100);
    std::int64_t stride[4] = {extent[1] * extent[2] * extent[3], extent[2] * extent[3], extent[3], 1};
    if (changed & 16) stride[s.below(4)] = s.number() & 0xffffffff;
    Kokkos::LayoutStride layout;
    for (int i = 0; i < 4; ++i) layout.dimension[i] = extent[i], layout.stride[i] = stride[i];
    return view(changed & 32 ? nullptr : memory + s.byte() * 64, layout);
}

void views(number_source& s)
{
    static std::vector<float> const memory(256 * 64); // addresses: nothing of it is read
    auto* const at = const_cast<float*>(memory.data());
    auto const o = options_from(s);
    spla::problem p;
    p.batch = 1, p.queries = p.keys = 1 + s.below(64);
    p.query_heads = 1 + s.below(8), p.key_heads = 1 + s.below(4), p.head_dim = 1 + s.below(32);
    p.value_dim = 1 + s.below(32);
    view const q = view_from(s, at, p.query_heads, p.head_dim, p.queries);
    view const k = view_from(s, at, p.key_heads, p.head_dim, p.keys);
    view const v = view_from(s, at, p.key_heads, p.value_dim, p.keys);
    view const out = view_from(s, at, p.query_heads, p.value_dim, p.queries);
    host const exec;
    using call = spla_test::calls<host, float>;
    call::state const none;
    call::scratch const nothing;
    for (auto const& found :
         {call::check_prefill(exec, q, k, v, out, none, o, nothing), call::check_append(exec, k, v, k, v, none, o),
          call::check_decode(exec, q, k, v, out, none, o, nothing)})
    {
        // Without a state no call is right, whatever its views are.
        must(found.has_value(), "an empty state is refused");
        must(printable(found->message()), "a message is one printable line");
    }
}
} // namespace

void spla_fuzz::checker(std::uint8_t const* data, std::size_t size)
{
    number_source s(data, size);
    if (s.flag()) return views(s);
    auto const p = sizes_from(s);
    plans_and_layouts(s, p, options_from(s));
}
