// SPDX-FileCopyrightText: The spla authors
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once
#include "algorithm/lanes.hpp"
#include "algorithm/sequence_table.hpp"

#include <Kokkos_Core.hpp>

#include <array>
#include <cstdint>

namespace spla
{

/// A Kokkos view of rank 4, [batch, token, head, dim], of a supported element type, in any layout.
template <class V>
concept tensor_view = Kokkos::is_view_v<V> && V::rank()
== 4 && !std::is_void_v<element_t<typename V::value_type>>;

/// The same, writable.
template <class V>
concept output_view = tensor_view<V> && !std::is_const_v<typename V::value_type>;

template <class Exec, class... Views>
inline constexpr bool accessible_from = (Kokkos::SpaceAccessibility<Exec, typename Views::memory_space>::accessible &&
                                         ...);

namespace detail
{
/// Rows at equal distances: those of a block and head, or the same vector of neighbouring summaries.
template <class T>
struct strided_rows
{
    T* data = nullptr;
    std::int64_t stride = 0;
    KOKKOS_FUNCTION T* operator()(std::int64_t r) const { return data + r * stride; }
    KOKKOS_FUNCTION strided_rows from(std::int64_t r) const { return {data + r * stride, stride}; }
};

/// What kernels see of a view: a pointer and 64-bit strides; the last dimension is contiguous. Null where optional and
/// absent. `map` is the one place that knows a fixed batch, variable lengths and pages apart.
template <class T>
struct tensor
{
    T* data = nullptr;
    std::int64_t stride[3] = {0, 0, 0};
    std::int64_t extent[4] = {0, 0, 0, 0};
    token_map map;

    /// Row of a sequence's token.
    KOKKOS_FUNCTION T* row(std::int64_t sequence, std::int64_t token, std::int64_t head) const
    {
        auto const at = map(sequence, token);
        return data + at.batch * stride[0] + at.token * stride[1] + head * stride[2];
    }
    /// The tokens from `token` on, as far as its block reaches: pages are whole blocks.
    KOKKOS_FUNCTION strided_rows<T> rows(std::int64_t sequence, std::int64_t token, std::int64_t head) const
    {
        return {row(sequence, token, head), stride[1]};
    }
    KOKKOS_FUNCTION explicit operator bool() const { return data != nullptr; }

    /// The same tensor from token `first` on.
    tensor from_token(std::int64_t first, std::int64_t count) const
    {
        tensor part = *this;
        if (part.data) part.data += first * stride[1];
        part.extent[1] = count;
        return part;
    }
};

template <class V>
using tensor_element = std::conditional_t<std::is_const_v<typename V::value_type>,
                                          element_t<typename V::value_type> const, element_t<typename V::value_type>>;

template <tensor_view V>
tensor<tensor_element<V>> tensor_of(V const& view)
{
    tensor<tensor_element<V>> t;
    t.data = reinterpret_cast<tensor_element<V>*>(view.data());
    for (int i = 0; i < 3; ++i) t.stride[i] = static_cast<std::int64_t>(view.stride(i));
    for (int i = 0; i < 4; ++i) t.extent[i] = static_cast<std::int64_t>(view.extent(i));
    return t;
}

template <class T>
tensor<T const> as_const(tensor<T> const& t)
{
    tensor<T const> c;
    c.data = t.data;
    for (int i = 0; i < 3; ++i) c.stride[i] = t.stride[i];
    for (int i = 0; i < 4; ++i) c.extent[i] = t.extent[i];
    c.map = t.map;
    return c;
}

/// A row whose element is the input's or the accumulation type (`wide`): numbers are narrowed or widened.
template <class Element>
struct output_row
{
    using accumulator = accumulator_t<Element>;
    void* data;
    bool wide;

    KOKKOS_FUNCTION void set(std::int64_t d, accumulator x) const
    {
        if (wide)
            static_cast<accumulator*>(data)[d] = x;
        else
            static_cast<Element*>(data)[d] = static_cast<Element>(x);
    }
    KOKKOS_FUNCTION accumulator get(std::int64_t d) const
    {
        return wide ? static_cast<accumulator const*>(data)[d]
                    : widen<accumulator>(static_cast<Element const*>(data)[d]);
    }
};

/// An output of such rows.
template <class Element>
struct output_tensor
{
    void* data = nullptr;
    bool wide = false;
    std::int64_t stride[3] = {0, 0, 0};
    token_map map;

    KOKKOS_FUNCTION explicit operator bool() const { return data != nullptr; }
    KOKKOS_FUNCTION output_row<Element> row(std::int64_t sequence, std::int64_t token, std::int64_t head) const
    {
        auto const at = map(sequence, token);
        std::int64_t const first = at.batch * stride[0] + at.token * stride[1] + head * stride[2];
        if (wide) return {static_cast<accumulator_t<Element>*>(data) + first, true};
        return {static_cast<Element*>(data) + first, false};
    }
};

template <class Element, tensor_view V>
output_tensor<Element> output_of(V const& view)
{
    using element_type = element_t<typename V::value_type>;
    static_assert(std::is_same_v<element_type, Element> || std::is_same_v<element_type, accumulator_t<Element>>,
                  "spla: an output's element type is the inputs' or their accumulation type");
    output_tensor<Element> t;
    t.data = const_cast<void*>(static_cast<void const*>(view.data()));
    t.wide = std::is_same_v<element_type, accumulator_t<Element>>;
    for (int i = 0; i < 3; ++i) t.stride[i] = static_cast<std::int64_t>(view.stride(i));
    return t;
}
} // namespace detail

} // namespace spla
