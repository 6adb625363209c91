// SPDX-FileCopyrightText: The spla authors
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
// Both branches and their combination on a real model's queries, keys and values, against the definition.
#include "../../examples/01_real_model/measure.hpp"
#include "../catch.hpp"
#include "../conformance/core.hpp"

#include <spla/reference/reference.hpp>

#include <filesystem>

namespace
{
constexpr int last = 12; // queries held against the definition, at the text's end

/// The last queries of the text in one prefill whose earlier tokens were appended: outputs, branches, lse and lists.
template <class Element>
void hold(spla::options<> o, double spoil = 1)
{
    using namespace lesson;
    using call = spla_test::calls<space, Element>;
    o.segment_tokens = 8192;
    auto const file = read_trace(
        (std::filesystem::path(__FILE__).parent_path() / "../../examples/data/smollm2_135m_layer_09.safetensors")
            .string());
    trace<Element> const x = views_of<Element>(file);
    space const exec;
    int const keys = x.tokens();
    auto const sizes = x.sizes(last, keys);
    auto state = call::make_state(exec, sizes, o);
    call::append(exec, tokens_of(x.key, 0, keys), tokens_of(x.value, 0, keys), x.key, x.value, state, o);
    auto const query = tokens_of(x.query, keys - last, keys);
    auto const lists = spla_test::unwritten_lists<space::memory_space>(
        1, spla::tile_count(last, keys, spla::window_of(o).tile), x.key_heads(), o.top_k);
    tensor<float> const output("output", 1, last, x.query_heads(), x.width()), sparse("sparse", output.layout()),
        residual("residual", output.layout());
    Kokkos::View<float***, Kokkos::LayoutRight, space::memory_space> const lse("lse", 1, last, x.query_heads());
    spla::attention_extras<Element> extras;
    extras.return_lists(lists).return_branches(sparse, residual).return_lse(lse);
    call::decode(exec, query, x.key, x.value, output, state, o, call::decode_scratch(exec, sizes, o), extras);
    exec.fence();

    spla::reference::sequence s;
    s.query = s.residual_query = spla::reference::heads_of(query, 0);
    s.key = s.residual_key = spla::reference::heads_of(x.key, 0);
    s.value = spla::reference::heads_of(x.value, 0);
    auto const chosen = spla_test::lists_of(spla_test::on_host(lists), 0);
    auto const truth = spla::reference::attend(s, chosen, o, 0x1p-24, 0x1p-24);
    auto const made = spla::reference::heads_of(output, 0), exact = spla::reference::heads_of(sparse, 0),
               linear = spla::reference::heads_of(residual, 0);
    auto const host_lse = Kokkos::create_mirror_view_and_copy(Kokkos::HostSpace{}, lse);
    spla::reference::comparison all;
    for (int h = 0; h < x.query_heads(); ++h)
    {
        std::string const head = ", head " + std::to_string(h);
        all.add("output" + head, spoil * made[h], truth.output[h], truth.output_bound[h]);
        all.add("sparse" + head, spoil * exact[h], truth.sparse[h], truth.sparse_bound[h]);
        all.add("residual" + head, spoil * linear[h], truth.residual[h], truth.residual_bound[h]);
        for (int t = 0; t < last; ++t) all.add(host_lse(0, t, h), truth.lse[h][t], truth.lse_bound[h][t], "lse" + head);
    }
    INFO(spla::name(spla::kind_of<Element>()) << ": " << all.text());
    CHECK(all.passed == (spoil == 1));
}
} // namespace

TEST_CASE("both branches of a real model's attention agree with the definition", "[trace]")
{
    hold<float>({});
    hold<spla::bfloat16>({});
    hold<float>({.top_k = 16, .share = spla::sharing::first_query(4), .normalised = true});
    hold<float>({}, 1.001); // a tenth of a per cent off is seen
}
