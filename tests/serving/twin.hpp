// SPDX-FileCopyrightText: The spla authors
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once
#include "engine.hpp"

namespace spla_test
{

/// Inputs of any number of tokens, on the host: what texts say at a position.
struct text
{
    host_view<float> query, key, value;

    text(engine_sizes const& z, unsigned seed)
    {
        data<host> const d({1, z.capacity, z.capacity, z.query_heads, z.key_heads, z.head_dim, z.value_dim}, seed);
        query = on_host(d.query), key = on_host(d.key), value = on_host(d.value);
    }
    static host_view<float> rows(host_view<float> const& v, int begin, int end)
    {
        host_view<float> const made("rows", 1, end - begin, v.extent(2), v.extent(3));
        std::copy_n(v.data() + static_cast<std::size_t>(begin) * v.stride(1), made.size(), made.data());
        return made;
    }
    /// Tokens [begin, end), new ones of the sequence in `slot`.
    step_part part(int slot, int begin, int end) const
    {
        return {slot, end, rows(query, begin, end), rows(key, begin, end), rows(value, begin, end)};
    }
};

/// The same sequence by itself, in the dense layout: append(), prefill() and decode() of a batch of one.
template <class Exec>
class twin
{
public:
    using call = calls<Exec, float>;
    twin(engine_sizes const& sizes, spla::options<> const& o);

    step_result step(step_part const& p);
    /// Back to `length` tokens, all made anew.
    void rewind(int length);
    /// A copy with bytes of its own.
    twin fork() const;

    int length() const { return static_cast<int>(state.tokens); }

private:
    spla::problem problem(int queries, int keys) const;

    engine_sizes sizes;
    spla::options<> o;
    Exec exec;
    any_view<float, typename Exec::memory_space> query, key, value;
    typename call::state state;
};

template <class Exec>
twin<Exec>::twin(engine_sizes const& given, spla::options<> const& with)
    : sizes(given), o(with), state(call::make_state(exec, problem(0, given.capacity), with))
{
    using space = typename Exec::memory_space;
    query = empty_view<float, space>(1, sizes.capacity, sizes.query_heads, sizes.head_dim);
    key = empty_view<float, space>(1, sizes.capacity, sizes.key_heads, sizes.head_dim);
    value = empty_view<float, space>(1, sizes.capacity, sizes.key_heads, sizes.value_dim);
}

template <class Exec>
spla::problem twin<Exec>::problem(int queries, int keys) const
{
    spla::problem p;
    p.queries = queries, p.keys = keys, p.query_heads = sizes.query_heads, p.key_heads = sizes.key_heads;
    p.head_dim = sizes.head_dim, p.value_dim = sizes.value_dim;
    return p;
}

template <class Exec>
step_result twin<Exec>::step(step_part const& p)
{
    int const n = p.count(), before = p.length - n;
    from_host(p.query, tokens(query, before, p.length));
    from_host(p.key, tokens(key, before, p.length));
    from_host(p.value, tokens(value, before, p.length));
    results<Exec> const r({1, n, p.length, sizes.query_heads, sizes.key_heads, sizes.head_dim, sizes.value_dim}, o);
    spla::attention_extras<float> e;
    auto const tiles = spla::tile_count(n, p.length, spla::window_of(o).tile);
    auto const lists = unwritten_lists<typename Exec::memory_space>(1, tiles, sizes.key_heads, o.top_k);
    e.return_lse(r.lse_of(0, n)).return_lists(lists);
    auto const q = tokens(query, before, p.length), k = tokens(key, 0, p.length), v = tokens(value, 0, p.length);
    auto const size = problem(n, p.length);
    if (n <= spla::detail::decode_queries)
    {
        call::append(exec, tokens(key, before, p.length), tokens(value, before, p.length), key, value, state, o);
        call::decode(exec, q, k, v, r.output, state, o, call::decode_scratch(exec, size, o), e);
    }
    else
        call::prefill(exec, q, k, v, r.output, state, o, call::prefill_scratch(exec, size, o), e);
    exec.fence();
    return {on_host(r.output), on_host(r.lse), lists_of(on_host(lists), 0)};
}

template <class Exec>
void twin<Exec>::rewind(int length)
{
    state.reset();
    if (length == 0) return;
    auto const size = problem(length, length);
    results<Exec> const r({1, length, length, sizes.query_heads, sizes.key_heads, sizes.head_dim, sizes.value_dim}, o);
    call::prefill(exec, tokens(query, 0, length), tokens(key, 0, length), tokens(value, 0, length), r.output, state, o,
                  call::prefill_scratch(exec, size, o));
    exec.fence();
}

template <class Exec>
twin<Exec> twin<Exec>::fork() const
{
    twin made(sizes, o);
    from_host(on_host(query), made.query);
    from_host(on_host(key), made.key);
    from_host(on_host(value), made.value);
    Kokkos::deep_copy(made.state.buffer(), state.buffer());
    static_cast<spla::sequence_progress&>(made.state) = state;
    return made;
}

extern template class twin<host>;
#if defined(SPLA_TEST_HAS_DEVICE)
extern template class twin<device>;
#endif
#if defined(SPLA_TEST_HAS_SERIAL)
extern template class twin<Kokkos::Serial>;
#endif

} // namespace spla_test
