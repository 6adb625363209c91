// SPDX-FileCopyrightText: The spla authors
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once
#include "../../examples/01_real_model/true_mass.hpp"
#include "../catch.hpp"
#include "../conformance/core.hpp"

/// Share of a real model's attention mass that selections hold, against figures computed apart from this library.
namespace spla_test
{
inline std::filesystem::path const root = std::filesystem::path(__FILE__).parent_path() / ".." / "..";
inline constexpr int first_query = 4096;

/// One layer's queries, keys and values, what dense attention does with them, and the figures expected of selections.
struct real_layer
{
    lesson::trace_file file;
    lesson::trace<spla::bfloat16> narrow = lesson::views_of<spla::bfloat16>(file);
    lesson::trace<float> wide = lesson::views_of<float>(file);
    lesson::dense_truth truth;
    nlohmann::json expected;

    real_layer(std::filesystem::path const& folder, std::string const& name)
        : file(lesson::read_trace((folder / ("smollm2_135m_" + name + ".safetensors")).string())),
          expected(all_expected().at(name))
    {
        std::vector<int> positions;
        for (int p = first_query; p < wide.tokens(); p += 16) positions.push_back(p);
        truth = lesson::dense_attention(wide, positions, 0.125, 64);
    }
    static nlohmann::json all_expected()
    {
        std::ifstream in((root / "tests/data/expected_selection.json").string());
        return nlohmann::json::parse(in)["expected"];
    }
};

/// The layer that is shipped; read once, and freed before Kokkos ends.
inline real_layer const& shipped()
{
    static std::unique_ptr<real_layer> kept;
    if (!kept)
    {
        kept = std::make_unique<real_layer>(root / "examples/data", "layer_09");
        Kokkos::push_finalize_hook([] { kept.reset(); });
    }
    return *kept;
}

template <class Element, class Metric>
lesson::capture run(lesson::trace<Element> const& x, lesson::dense_truth const& truth, spla::options<Metric> const& o)
{
    using call = calls<lesson::space, Element, spla::options<Metric>>;
    lesson::space const exec;
    int const keys = x.tokens(), queries = keys - first_query;
    auto state = call::make_state(exec, x.sizes(queries, keys), o);
    call::append(exec, x.key, x.value, x.key, x.value, state, o);
    auto const tiles = spla::tile_count(queries, keys, spla::window_of(o).tile);
    auto const lists = unwritten_lists<lesson::space::memory_space>(1, tiles, x.key_heads(), o.top_k);
    call::select(exec, lesson::tokens_of(x.query, first_query, keys), x.key, state, lists, o);
    auto const made = on_host(lists);
    return lesson::captured_mass(truth, made.indices, made.lengths, first_query, o);
}

/// Per token and shared, with summaries in fp32, and of 16-bit keys in bf16 and 8 bits: two-sided, within the margins
/// that the file states; 8 bits are held to those of bf16.
template <class Metric>
void hold(std::string const& name, spla::options<Metric> o, real_layer const& layer = shipped())
{
    o.scale = 0.125;
    o.top_k = 16;
    o.segment_tokens = 8192;
    o.combine = spla::combination_kind::sparse_only;
    for (int const tile : {1, 128})
    {
        o.share = tile == 1 ? spla::sharing::per_token() : spla::sharing::tile_sum(tile);
        auto const& truth = layer.expected.at(name).at("T=" + std::to_string(tile));
        for (auto const& [storage, in] : {std::pair{spla::summary_storage::fp32, "fp32"},
                                          {spla::summary_storage::bf16, "bf16"},
                                          {spla::summary_storage::int8, "8 bits"}})
        {
            o.storage = storage;
            bool const wide = storage == spla::summary_storage::fp32;
            double const margin = wide ? 0.0005 : (tile == 1 ? 0.002 : 0.005);
            lesson::capture const made = wide ? run(layer.wide, layer.truth, o) : run(layer.narrow, layer.truth, o);
            INFO(name << ", T=" << tile << ", summaries in " << in << ": captured " << made.captured << ", total "
                      << made.total << "; expected " << truth["captured"] << " and " << truth["total"]);
            CHECK(std::abs(made.captured - truth["captured"].template get<double>()) <= margin);
            CHECK(std::abs(made.total - truth["total"].template get<double>()) <= margin);
        }
    }
}

/// The metrics that the demo shows; the others belong to the long tests.
void hold_the_first_metrics(real_layer const& layer);

} // namespace spla_test
