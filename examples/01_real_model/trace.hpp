// SPDX-FileCopyrightText: The spla authors
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once
#include "safetensors.hpp"

#include <spla/spla.hpp>

#include <cmath>

/// Queries, keys and values of a model as views that spla takes.
namespace lesson
{

using space = Kokkos::DefaultExecutionSpace;
using host_space = Kokkos::DefaultHostExecutionSpace;

template <class T, class Where = space>
using tensor = Kokkos::View<T****, Kokkos::LayoutRight, typename Where::memory_space>;

template <class Element>
struct trace
{
    tensor<Element> query, key, value;

    int tokens() const { return static_cast<int>(key.extent(1)); }
    int query_heads() const { return static_cast<int>(query.extent(2)); }
    int key_heads() const { return static_cast<int>(key.extent(2)); }
    int width() const { return static_cast<int>(key.extent(3)); }

    spla::problem sizes(int queries, int keys) const
    {
        spla::problem p;
        p.queries = queries;
        p.keys = keys;
        p.query_heads = query_heads();
        p.key_heads = key_heads();
        p.head_dim = width();
        p.value_dim = static_cast<int>(value.extent(3));
        p.element = spla::kind_of<Element>();
        return p;
    }
};

/// Tokens [first, end) of a view: no copy.
template <class View>
auto tokens_of(View const& view, int first, int end)
{
    return Kokkos::subview(view, Kokkos::ALL, Kokkos::make_pair(first, end), Kokkos::ALL, Kokkos::ALL);
}

namespace detail
{
inline float number_at(stored_tensor const& from, std::size_t i)
{
    std::uint16_t half = 0;
    float whole = 0;
    std::memcpy(from.type == stored_type::float32 ? static_cast<void*>(&whole) : &half,
                from.bytes.data() + i * size_of(from.type), size_of(from.type));
    if (from.type == stored_type::bfloat16) return static_cast<float>(Kokkos::bit_cast<spla::bfloat16>(half));
    if (from.type == stored_type::float16) return static_cast<float>(Kokkos::bit_cast<spla::float16>(half));
    return whole;
}

/// The tensor [token, head, dim] as a view [1, token, head, dim], `copies` times one after the other.
template <class Element>
tensor<Element> view_of(stored_tensor const& from, int copies)
{
    std::size_t const tokens = from.shape[0], row = from.shape[1] * from.shape[2];
    tensor<Element> const made("lesson::tensor", 1, tokens * copies, from.shape[1], from.shape[2]);
    auto const host = Kokkos::create_mirror_view(made);
    for (std::size_t i = 0; i < tokens * row * copies; ++i)
        host.data()[i] = static_cast<Element>(number_at(from, i % (tokens * row)));
    Kokkos::deep_copy(made, host);
    return made;
}
} // namespace detail

using trace_file = std::map<std::string, stored_tensor>;

/// Reads q, k and v. @throws file_error  where they are not the finite queries, keys and values of one text
inline trace_file read_trace(std::string const& path)
{
    trace_file file = read_safetensors(path, {"q", "k", "v"});
    auto const refuse = [&](std::string const& why) { throw file_error(path + ": " + why); };
    for (auto const& [name, t] : file)
    {
        if (t.shape.size() != 3 || t.shape[0] < 1 || t.shape[1] < 1 || t.shape[2] < 1)
            refuse("tensor '" + name + "' is not of shape [token, head, dim]");
        std::size_t const numbers = t.bytes.size() / size_of(t.type);
        for (std::size_t i = 0; i < numbers; ++i)
            if (!std::isfinite(detail::number_at(t, i)))
                refuse("tensor '" + name + "' holds a number that is not finite");
    }
    auto const &q = file["q"].shape, &k = file["k"].shape, &v = file["v"].shape;
    if (q[0] != k[0] || q[0] != v[0]) refuse("q, k and v have different numbers of tokens");
    if (k[1] != v[1] || q[1] % k[1] != 0)
        refuse("q has " + std::to_string(q[1]) + " heads, no multiple of k's " + std::to_string(k[1]) +
               ", or v's differ");
    if (q[2] != k[2]) refuse("q and k have different widths");
    return file;
}

/// Most tokens that the lesson takes: its truth is dense attention, in double.
inline constexpr std::int64_t least_tokens = 1024, most_tokens = 131072;

/// @throws file_error  where the lesson or spla cannot take what read_trace() has read
inline void require_supported(std::string const& path, trace_file const& file)
{
    auto const &q = file.at("q").shape, &k = file.at("k").shape, &v = file.at("v").shape;
    if (k[0] < least_tokens || k[0] > most_tokens)
        throw file_error(path + ": has " + std::to_string(k[0]) + " tokens; this lesson takes " +
                         std::to_string(least_tokens) + " to " + std::to_string(most_tokens));
    spla::problem p;
    p.queries = p.keys = k[0];
    p.query_heads = q[1], p.key_heads = k[1];
    p.head_dim = k[2], p.value_dim = v[2];
    if (auto const found = spla::check(p, spla::options<>{}, "prefill"))
        throw file_error(path + ": " + found->message());
}

template <class Element>
trace<Element> views_of(trace_file const& file, int copies = 1)
{
    return {detail::view_of<Element>(file.at("q"), copies), detail::view_of<Element>(file.at("k"), copies),
            detail::view_of<Element>(file.at("v"), copies)};
}

} // namespace lesson
