// SPDX-FileCopyrightText: The spla authors
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once
#include "algorithm/combination.hpp"
#include "block_list.hpp"

#include <cstddef>
#include <cstdint>
#include <type_traits>

namespace spla
{

namespace detail
{
/// What rules read of a view, whatever its type: so that they are compiled once and not for each type. Rank 0: absent.
struct view_facts
{
    int rank = 0;
    std::int64_t extent[4] = {0, 0, 0, 0}, stride[4] = {0, 0, 0, 0};
    std::uintptr_t begin = 0;
    std::int64_t number_bytes = 1;
    std::uint64_t bytes = 0;     ///< from the first number to the end of the last
    char const* space = "";      ///< name of the memory space
    bool without_memory = false; ///< null, but not empty
    bool on_host = true;         ///< reached from the default host execution space
    bool on_device = true;       ///< reached from the default execution space

    explicit operator bool() const { return rank > 0; }
    /// Sets begin and bytes of numbers of `size` bytes.
    void span(void const* data, std::size_t size)
    {
        begin = reinterpret_cast<std::uintptr_t>(data);
        number_bytes = static_cast<std::int64_t>(size);
        std::int64_t last = 0;
        bool empty = false;
        for (int i = 0; i < rank; ++i)
        {
            empty = empty || extent[i] == 0;
            last += (extent[i] - 1) * stride[i];
        }
        without_memory = data == nullptr && !empty;
        bytes = empty || without_memory ? 0 : static_cast<std::uint64_t>(last + 1) * size;
    }
};

template <class V>
view_facts facts_of(V const& view)
{
    using memory_space = typename V::memory_space;
    view_facts f;
    f.rank = static_cast<int>(V::rank());
    for (int i = 0; i < f.rank; ++i)
    {
        f.extent[i] = static_cast<std::int64_t>(view.extent(i));
        f.stride[i] = static_cast<std::int64_t>(view.stride(i));
    }
    f.span(view.data(), sizeof(typename V::value_type));
    f.space = memory_space::name();
    f.on_host = Kokkos::SpaceAccessibility<Kokkos::DefaultHostExecutionSpace, memory_space>::accessible;
    f.on_device = Kokkos::SpaceAccessibility<Kokkos::DefaultExecutionSpace, memory_space>::accessible;
    return f;
}

/// The views of attention_extras, for rules.
struct extras_facts
{
    view_facts residual_query, residual_key;
    view_facts given_indices, given_lengths, returned_indices, returned_lengths;
    view_facts sparse, residual, lse;
    view_facts sparse_weight, residual_weight;
};
} // namespace detail

/// What a call takes or returns beyond query, key, value and output. Element is the inputs' element type. Every setter
/// returns *this; the views must outlive the enqueued work. Setters do not know the execution space: the call refuses
/// views that it cannot reach.
template <class Element>
class attention_extras
{
public:
    using element_type = element_t<Element>;
    using accumulator = accumulator_t<element_type>;

    /// The residual branch's own queries [batch, L, Hq, Dr] and keys [batch, M, Hk, Dr] (spec section 4); last
    /// dimensions contiguous. Every call of the sequence then needs its keys: append too (see residual_keys()).
    template <tensor_view Query, tensor_view Key>
    attention_extras& residual_inputs(Query const& query, Key const& key)
    {
        residual_query = detail::as_const(detail::tensor_of(query));
        facts.residual_query = detail::facts_of(query);
        return residual_keys(key);
    }
    /// Its keys alone, for append(), which has no queries.
    template <tensor_view Key>
    attention_extras& residual_keys(Key const& key)
    {
        residual_key = detail::as_const(detail::tensor_of(key));
        facts.residual_key = detail::facts_of(key);
        return *this;
    }
    /// The caller's own lists, instead of a selection; any number of entries each.
    template <class Indices, class Lengths>
    attention_extras& use_lists(block_list<Indices, Lengths> const& lists)
    {
        given = detail::list_of(lists);
        facts.given_indices = detail::facts_of(lists.indices);
        facts.given_lengths = detail::facts_of(lists.lengths);
        return *this;
    }
    /// Where the selected lists go; at least top_k entries each.
    template <class Indices, class Lengths>
    attention_extras& return_lists(block_list<Indices, Lengths> const& lists)
    {
        static_assert(detail::writable_list<Indices, Lengths>,
                      "spla: returned lists are views of int32, not of const int32");
        returned = detail::list_of(lists);
        facts.returned_indices = detail::facts_of(lists.indices);
        facts.returned_lengths = detail::facts_of(lists.lengths);
        return *this;
    }
    /// Where both branches go, [batch, L, Hq, Dv] (element or accumulation type), last dimension contiguous. Not with
    /// sparse_only, which has no residual branch: its output is the exact branch.
    template <output_view Sparse, output_view Residual>
    attention_extras& return_branches(Sparse const& o_sparse, Residual const& r)
    {
        sparse = detail::output_of<element_type>(o_sparse);
        residual = detail::output_of<element_type>(r);
        facts.sparse = detail::facts_of(o_sparse);
        facts.residual = detail::facts_of(r);
        return *this;
    }
    /// Where the exact branch's natural log-sum-exp goes, [batch, L, Hq], any strides.
    template <class Lse>
    attention_extras& return_lse(Lse const& view)
    {
        static_assert(Lse::rank() == 3 && std::is_same_v<typename Lse::value_type, accumulator>,
                      "spla: lse is a view of rank 3, [batch, query, query_head], of the accumulation type");
        lse = view.data();
        facts.lse = detail::facts_of(view);
        for (int i = 0; i < 3; ++i) lse_stride[i] = facts.lse.stride[i];
        return *this;
    }
    /// Weights of the combination, [Hq, Dv] each, of the accumulation type, last dimension contiguous; ones where
    /// absent.
    template <class Weights>
    attention_extras& norm_weights(Weights const& of_sparse, Weights const& of_residual)
    {
        static_assert(Weights::rank() == 2 && std::is_same_v<typename Weights::non_const_value_type, accumulator>,
                      "spla: norm weights are views of rank 2, [query_head, value_dim], of the accumulation type");
        facts.sparse_weight = detail::facts_of(of_sparse);
        facts.residual_weight = detail::facts_of(of_residual);
        sparse_weight = {of_sparse.data(), facts.sparse_weight.stride[0]};
        residual_weight = {of_residual.data(), facts.residual_weight.stride[0]};
        return *this;
    }

    detail::tensor<element_type const> residual_query, residual_key;
    detail::list_tensor given, returned;
    detail::output_tensor<element_type> sparse, residual;
    accumulator* lse = nullptr;
    std::int64_t lse_stride[3] = {0, 0, 0};
    detail::weight_tensor<accumulator> sparse_weight, residual_weight;
    detail::extras_facts facts; ///< shapes and places of all of them, for the calls' rules
};

} // namespace spla
