// SPDX-FileCopyrightText: The spla authors
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
// Share of a real model's attention mass that selections hold, against figures computed apart from this library.
#include "../../examples/01_real_model/true_mass.hpp"
#include "../catch.hpp"

namespace
{
std::filesystem::path const root = std::filesystem::path(__FILE__).parent_path() / ".." / "..";
constexpr int first_query = 4096;

struct shipped
{
    lesson::trace_file file = lesson::read_trace((root / "examples/data/smollm2_135m_layer_09.safetensors").string());
    lesson::trace<spla::bfloat16> narrow = lesson::views_of<spla::bfloat16>(file);
    lesson::trace<float> wide = lesson::views_of<float>(file);
    lesson::dense_truth truth;
    nlohmann::json expected;

    shipped()
    {
        std::vector<int> positions;
        for (int p = first_query; p < wide.tokens(); p += 16) positions.push_back(p);
        truth = lesson::dense_attention(wide, positions, 0.125, 64);
        std::ifstream in((root / "tests/data/expected_selection.json").string());
        expected = nlohmann::json::parse(in)["expected"]["layer_09"];
    }
};

/// Read once, and freed before Kokkos ends.
shipped const& data()
{
    static std::unique_ptr<shipped> kept;
    if (!kept)
    {
        kept = std::make_unique<shipped>();
        Kokkos::push_finalize_hook([] { kept.reset(); });
    }
    return *kept;
}

template <class Element, class Metric>
lesson::capture run(lesson::trace<Element> const& x, spla::options<Metric> const& o)
{
    lesson::space const exec;
    int const keys = x.tokens(), queries = keys - first_query;
    auto state = spla::make_sequence_state(exec, x.sizes(queries, keys), o);
    spla::append(exec, x.key, x.value, x.key, x.value, state, o);
    auto const tiles = spla::tile_count(queries, keys, spla::window_of(o).tile);
    using memory = lesson::space::memory_space;
    spla::block_list<Kokkos::View<int****, Kokkos::LayoutRight, memory>,
                     Kokkos::View<int***, Kokkos::LayoutRight, memory>>
        lists{{"indices", 1, std::size_t(tiles), std::size_t(x.key_heads()), std::size_t(o.top_k)},
              {"lengths", 1, std::size_t(tiles), std::size_t(x.key_heads())}};
    spla::select(exec, lesson::tokens_of(x.query, first_query, keys), x.key, state, lists, o);
    auto const indices = Kokkos::create_mirror_view_and_copy(Kokkos::HostSpace{}, lists.indices);
    auto const lengths = Kokkos::create_mirror_view_and_copy(Kokkos::HostSpace{}, lists.lengths);
    return lesson::captured_mass(data().truth, indices, lengths, first_query, o);
}

/// Per token and shared, with fp32 and with bf16 summaries: two-sided, within the margins that the file states.
template <class Metric>
void hold(std::string const& name, spla::options<Metric> o)
{
    o.scale = 0.125;
    o.top_k = 16;
    o.segment_tokens = 8192;
    o.combine = spla::combination_kind::sparse_only;
    for (int const tile : {1, 128})
    {
        o.share = tile == 1 ? spla::sharing::per_token() : spla::sharing::tile_sum(tile);
        auto const& truth = data().expected[name]["T=" + std::to_string(tile)];
        for (bool const wide : {true, false})
        {
            o.storage = wide ? spla::summary_storage::fp32 : spla::summary_storage::bf16;
            double const margin = wide ? 0.0005 : (tile == 1 ? 0.002 : 0.005);
            lesson::capture const made = wide ? run(data().wide, o) : run(data().narrow, o);
            INFO(name << ", T=" << tile << (wide ? ", fp32" : ", bf16") << " summaries: captured " << made.captured
                      << ", total " << made.total << "; expected " << truth["captured"] << " and " << truth["total"]);
            CHECK(std::abs(made.captured - truth["captured"].template get<double>()) <= margin);
            CHECK(std::abs(made.total - truth["total"].template get<double>()) <= margin);
        }
    }
}

using spla::cumulant, spla::diagonal, spla::full, spla::low_rank, spla::taylor;
} // namespace

TEST_CASE("captured mass on a real model: the default metric")
{
    hold("taylor<diagonal>, 1 kept", spla::options<>{});
}
TEST_CASE("captured mass on a real model: the paper's metric")
{
    hold("taylor<diagonal>", spla::paper());
}
TEST_CASE("captured mass on a real model: mean_only")
{
    hold("mean_only", spla::options<spla::mean_only>{});
}
TEST_CASE("captured mass on a real model: the oracle")
{
    hold("exact_mass", spla::options<spla::exact_mass>{});
}

TEST_CASE("captured mass on a real model: every other metric", "[.full]")
{
    hold("taylor<low_rank<1>>", spla::options<taylor<low_rank<1>>>{.kept_keys = 0});
    hold("taylor<low_rank<4>>", spla::options<taylor<low_rank<4>>>{.kept_keys = 0});
    hold("taylor<full>", spla::options<taylor<full>>{.kept_keys = 0});
    hold("cumulant<diagonal>", spla::options<cumulant<diagonal>>{.kept_keys = 0});
    hold("cumulant<full>", spla::options<cumulant<full>>{.kept_keys = 0});
    hold("mean_only, 1 kept", spla::options<spla::mean_only>{.kept_keys = 1});
    hold("taylor<diagonal>, 2 kept", spla::options<>{.kept_keys = 2});
}

TEST_CASE("captured mass on a real model: statistics on two sub-blocks", "[.full]")
{
    hold("taylor<diagonal>, 2 sub-blocks", spla::options<>{.kept_keys = 0, .sub_blocks = 2});
    hold("taylor<diagonal>, 1 kept, 2 sub-blocks", spla::high_fidelity());
}
