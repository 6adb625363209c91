// SPDX-FileCopyrightText: The spla authors
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once
#include "algorithm/combination.hpp"
#include "block_list.hpp"

namespace spla
{

/// What a call takes or returns beyond query, key, value and output. Element is the inputs' element type. Every setter
/// returns *this; the views must outlive the enqueued work.
template <class Element>
class attention_extras
{
public:
    using element_type = element_t<Element>;
    using accumulator = accumulator_t<element_type>;

    /// The residual branch's own queries [batch, L, Hq, Dr] and keys [batch, M, Hk, Dr] (spec section 4).
    template <tensor_view Query, tensor_view Key>
    attention_extras& residual_inputs(Query const& query, Key const& key)
    {
        residual_query = detail::as_const(detail::tensor_of(query));
        residual_key = detail::as_const(detail::tensor_of(key));
        return *this;
    }
    /// The caller's own lists, instead of a selection.
    template <class Indices, class Lengths>
    attention_extras& use_lists(block_list<Indices, Lengths> const& lists)
    {
        given = detail::list_of(lists);
        given_tiles = static_cast<std::int64_t>(lists.indices.extent(1));
        return *this;
    }
    /// Where the selected lists go; at least top_k entries each.
    template <class Indices, class Lengths>
    attention_extras& return_lists(block_list<Indices, Lengths> const& lists)
    {
        returned = detail::list_of(lists);
        returned_tiles = static_cast<std::int64_t>(lists.indices.extent(1));
        return *this;
    }
    /// Where both branches go, [batch, L, Hq, Dv] (element or accumulation type).
    template <output_view Sparse, output_view Residual>
    attention_extras& return_branches(Sparse const& o_sparse, Residual const& r)
    {
        sparse = detail::output_of<element_type>(o_sparse);
        residual = detail::output_of<element_type>(r);
        for (int i = 0; i < 4; ++i)
        {
            branch_extent[i] = static_cast<std::int64_t>(o_sparse.extent(i));
            if (o_sparse.extent(i) != r.extent(i)) branch_extent[i] = -1;
        }
        return *this;
    }
    /// Where the exact branch's natural log-sum-exp goes, [batch, L, Hq].
    template <class Lse>
    attention_extras& return_lse(Lse const& view)
    {
        static_assert(Lse::rank() == 3 && std::is_same_v<typename Lse::value_type, accumulator>,
                      "spla: lse is a view of rank 3, [batch, query, query_head], of the accumulation type");
        lse = view.data();
        for (int i = 0; i < 3; ++i)
        {
            lse_stride[i] = static_cast<std::int64_t>(view.stride(i));
            lse_extent[i] = static_cast<std::int64_t>(view.extent(i));
        }
        return *this;
    }
    /// Weights of the combination, [Hq, Dv] each, of the accumulation type; ones where absent.
    template <class Weights>
    attention_extras& norm_weights(Weights const& of_sparse, Weights const& of_residual)
    {
        static_assert(Weights::rank() == 2 && std::is_same_v<typename Weights::non_const_value_type, accumulator>,
                      "spla: norm weights are views of rank 2, [query_head, value_dim], of the accumulation type");
        sparse_weight = {of_sparse.data(), static_cast<std::int64_t>(of_sparse.stride(0))};
        residual_weight = {of_residual.data(), static_cast<std::int64_t>(of_residual.stride(0))};
        for (int i = 0; i < 2; ++i)
            weight_extent[i] =
                of_sparse.extent(i) == of_residual.extent(i) ? static_cast<std::int64_t>(of_sparse.extent(i)) : -1;
        return *this;
    }

    detail::tensor<element_type const> residual_query, residual_key;
    detail::list_tensor given, returned;
    std::int64_t given_tiles = 0, returned_tiles = 0;
    detail::output_tensor<element_type> sparse, residual;
    std::int64_t branch_extent[4] = {0, 0, 0, 0};
    accumulator* lse = nullptr;
    std::int64_t lse_stride[3] = {0, 0, 0}, lse_extent[3] = {0, 0, 0};
    detail::weight_tensor<accumulator> sparse_weight, residual_weight;
    std::int64_t weight_extent[2] = {0, 0};
};

} // namespace spla
