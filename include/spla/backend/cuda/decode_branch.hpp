// SPDX-FileCopyrightText: The spla authors
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once
#include "../../algorithm/buffer_carver.hpp"
#include "coverage.hpp"
#include "decode_kernel.hpp"
#include "launch.hpp"
#include "tensor_map.hpp"

#include <cstddef>

/// From a checked call to decode on Hopper: which calls it takes, what memory it wants, and its launch.
namespace spla::cuda
{

/// Which decoded tokens stay on the portable kernel, and why; null where they are attended on matrix units. p: the most
/// of any call; tokens: decoded ones of a call, at most.
template <class Metric, class FeatureMap>
char const* why_no_decode(int device, problem const& p, options<Metric, FeatureMap> const& o, std::int64_t tokens)
{
    bool const residual = o.combine != combination_kind::sparse_only;
    if (p.element != element_kind::bfloat16) return "elements other than bf16";
    if (char const* const why = why_no_rows(p.head_dim, p.value_dim)) return why;
    if (o.block != block_tokens) return "blocks of other than 64 tokens";
    if (p.group() > 64) return "more than 64 query heads to a key head";
    if (o.scale && *o.scale <= 0) return "a logit scale that is not positive";
    if (residual)
    {
        if (feature_halves<FeatureMap> == 0) return "a feature map of the user's own";
        if (p.residual_width() != p.head_dim) return "a residual with queries and keys of its own";
        if (o.normalised) return "a residual divided by its features' sum";
        if (o.may_read_unselected || o.residual == residual_mode::direct) return "unselected keys are summed directly";
    }
    double const runs = static_cast<double>(tokens) * static_cast<double>(p.query_heads) *
                        (static_cast<double>(p.keys) / (block_tokens * run_blocks) + 3);
    if (p.keys > std::numeric_limits<int>::max() / 2 || runs > std::numeric_limits<int>::max() / 2)
        return "more tokens than an int counts";
    if (p.keys == 0) return "no keys";
    return why_not_here(device);
}

/// Of shapes that why_no_decode() has nothing against.
inline decode_shape decode_shape_of(portable::attention_shape const& shape, std::int64_t list_capacity)
{
    decode_shape s{};
    s.sequences = shape.sequences;
    s.bounds = window_in_int(shape.bounds, shape.sequences.keys);
    s.few_queries = static_cast<int>(shape.few_queries);
    s.key_heads = static_cast<int>(shape.key_heads);
    s.group = shape.group;
    s.parts = (shape.group + most_decode_rows - 1) / most_decode_rows;
    s.rows = (shape.group + s.parts - 1) / s.parts;
    s.width = shape.width, s.value_dim = shape.value_dim, s.features = shape.features;
    s.list_capacity = static_cast<int>(list_capacity);
    s.scale = static_cast<float>(shape.scale * 1.4426950408889634); // exp2 in place of exp
    s.residual = shape.residual;
    s.run_numbers = unmerged_numbers(s.rows, s.value_dim);
    return s;
}

/// Where runs wait to be merged: of at most `tokens` decoded tokens, of sequences within shape.sequences.keys. Counters
/// of items come first.
struct decode_places
{
    std::int64_t items, runs;
    std::size_t unmerged, bytes; ///< offset of the runs; of all

    decode_places(decode_shape const& s, std::int64_t tokens)
        : items(tokens * s.key_heads * s.parts), runs(items * s.runs(static_cast<int>(s.sequences.keys)))
    {
        detail::buffer_carver place;
        place(items, sizeof(std::int32_t));
        unmerged = place(runs * s.run_numbers, sizeof(float));
        bytes = place(0, 1);
    }
};
/// Bytes of workspace, aligned to 256, that attend_decoded() wants.
inline std::size_t decode_bytes(portable::attention_shape const& shape, std::int64_t list_capacity, std::int64_t tokens)
{
    return decode_places(decode_shape_of(shape, list_capacity), tokens).bytes;
}

template <class FeatureMap, int Width, int Columns>
void launch_decode(Kokkos::Cuda const& exec, decode_arguments a, std::int64_t runs)
{
    using memory = decode_memory<feature_halves<FeatureMap>, Width>;
    constexpr int teams = decode_teams<Width, Columns>, most_bytes = (most_shared_bytes + 1024) / teams - 1024;
    constexpr auto places = [](int bytes) {
        int const fit = (bytes - memory::bytes(0)) / (memory::bytes(1) - memory::bytes(0));
        return fit < memory::most_places ? fit : memory::most_places;
    };
    static_assert(places(most_bytes) >= 2);
    // Few runs have a multiprocessor each, and room for a block of each warp; more, and they would not begin beside
    // earlier launches.
    bool const few = runs <= multiprocessors_of(exec);
    a.places = few ? std::min(block_tokens / slice_keys, places(most_shared_bytes)) : places(most_bytes);
    launch_blocks("decode", exec, decode_kernel<FeatureMap, Width, Columns>, runs, memory::bytes(a.places), a,
                  {.threads = 32 * decode_warps, .each = few ? 1 : teams, .begins_early = true});
}
template <class FeatureMap>
void launch_decode(Kokkos::Cuda const& exec, decode_arguments const& a, std::int64_t runs)
{
    if constexpr (has_narrow_kernels)
    {
        if (is_narrow(a.shape.width, a.shape.value_dim))
            return launch_decode<FeatureMap, 64, most_decode_rows>(exec, a, runs);
    }
    if (a.shape.rows <= 4) return launch_decode<FeatureMap, 128, 4>(exec, a, runs);
    launch_decode<FeatureMap, 128, most_decode_rows>(exec, a, runs);
}

/// A user's own map has no residual here, but its exact branch alone.
template <class FeatureMap>
using decode_map = std::conditional_t<(feature_halves<FeatureMap> > 0), FeatureMap, identity>;

/// The device loads the kernel of such a shape, for no sequence.
template <class FeatureMap>
void load_decode(Kokkos::Cuda const& exec, portable::attention_shape const& shape)
{
    decode_arguments a{};
    a.shape = decode_shape_of(shape, 0);
    a.shape.sequences = {};
    launch_decode<decode_map<FeatureMap>>(exec, a, 1);
}

/// Can such a call be decoded here? Known before a step's schedule is made. False where a view cannot be copied by 16
/// bytes, the residual has queries or keys of its own, or its state is of features that were not rounded.
template <class FeatureMap>
bool can_decode(Kokkos::Cuda const& exec, detail::tensor<bfloat16 const> const& query,
                detail::tensor<bfloat16 const> const& residual_query, detail::tensor<bfloat16 const> const& key,
                detail::tensor<bfloat16 const> const& value, portable::linear_tensor<float> const& state,
                portable::attention_shape const& shape)
{
    if (!runs_here(exec) || !can_map(query) || !can_map(key) || !can_map(value) || !shape.exact) return false;
    bool const same_queries =
        residual_query.data == query.data && std::equal(query.stride, query.stride + 3, residual_query.stride);
    return !shape.residual ||
           (feature_halves<FeatureMap> > 0 && shape.same_keys && same_queries && state.rounds_features);
}

/// Both branches and their combination (or the exact one alone, by shape.residual) of every sequence that has new
/// tokens, but no more than shape.few_queries: `tokens` together, at most. Others are passed over; nothing of them is
/// touched. Of calls that can_decode(). memory: decode_bytes(), its counters cleared.
template <class FeatureMap>
void attend_decoded(Kokkos::Cuda const& exec, detail::tensor<bfloat16 const> const& query,
                    detail::tensor<bfloat16 const> const& key, detail::tensor<bfloat16 const> const& value,
                    detail::list_tensor const& list, portable::linear_tensor<float> const& state,
                    portable::attention_outputs<bfloat16> const& out, portable::attention_shape const& shape,
                    std::int64_t tokens, std::byte* memory)
{
    decode_arguments a{};
    a.shape = decode_shape_of(shape, list ? list.capacity : 0);
    a.shape.sequences.falls = nullptr; // not counted yet when the kernel looks at them
    decode_places const places(a.shape, tokens);
    if (places.runs <= 0) return;
    // Rows come as panels of 128 bytes: were more fetched with each, memory would be read half as much again.
    a.key = make_tensor_map<bfloat16>(key, 1, slice_keys, panel_width, CU_TENSOR_MAP_L2_PROMOTION_NONE);
    a.value = make_tensor_map<bfloat16>(value, 1, slice_keys, panel_width, CU_TENSOR_MAP_L2_PROMOTION_NONE);
    a.key_map = key.map, a.value_map = value.map;
    a.query = query;
    a.list = list;
    a.state = state;
    a.out = out;
    a.finished = reinterpret_cast<std::int32_t*>(memory);
    a.unmerged = reinterpret_cast<float*>(memory + places.unmerged);
    launch_decode<decode_map<FeatureMap>>(exec, a, places.runs);
}

} // namespace spla::cuda
