// SPDX-FileCopyrightText: The spla authors
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
// A step of a mixed batch gives every sequence, bit for bit, what it gets alone in the dense layout.
#include "../catch.hpp"
#include "twin.hpp"

using namespace spla_test;

namespace
{
bool same(step_result const& a, step_result const& b)
{
    return same_bits(a.output, b.output) && same_bits(a.lse, b.lse) && a.chosen == b.chosen;
}

std::vector<spla::options<>> variants()
{
    std::vector<spla::options<>> all;
    auto const add = [&](auto const& change) {
        auto o = small_options();
        change(o);
        all.push_back(o);
    };
    add([](auto&) {});
    add([](auto& o) { o.share = spla::sharing::first_query(8); });
    add([](auto& o) { o.share = spla::sharing::first_query(32); });
    add([](auto& o) { o.normalised = true, o.combine = spla::combination_kind::sum; });
    add([](auto& o) { o.combine = spla::combination_kind::sparse_only, o.storage = spla::summary_storage::int8; });
    add([](auto& o) { o.local_blocks = 0, o.sink_blocks = 0, o.top_k = 2, o.kept_keys = 0; });
    add([](auto& o) { o.local_blocks = 12, o.top_k = 12; }); // decoded tokens visit several runs
    return all;
}

/// New tokens of each sequence in each step; 0: it is not in the batch, -1: it is padding.
std::vector<std::vector<int>> const courses{{96, 1, 1, 5, -1, 8, 9, 1, 1, 90, 1},
                                            {0, 40, -1, 1, 1, 1, 1, 96, 33, 1, 7},
                                            {3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3},
                                            {0, 0, 0, 70, 1, 1, 96, 1, -1, 1, 96}};
} // namespace

TEMPLATE_LIST_TEST_CASE("a step gives each sequence what it gets alone", "[serving][invariants]", spaces)
{
    engine_sizes const z;
    std::vector<text> texts;
    for (unsigned b = 0; b < courses.size(); ++b) texts.emplace_back(z, 100 + b);
    int variant = 0;
    for (auto const& o : variants())
    {
        std::vector<engine<TestType>> engines;
        for (auto const layout : {cache_layout::slots, cache_layout::pages, cache_layout::packed})
            engines.emplace_back(z, o, layout);
        std::vector<twin<TestType>> twins(courses.size(), twin<TestType>(z, o));
        for (auto& t : twins) t = t.fork(); // bytes of their own
        std::vector<int> length(courses.size(), 0);
        for (std::size_t step = 0; step < courses[0].size(); ++step)
        {
            std::vector<step_part> parts;
            std::vector<step_result> alone;
            for (std::size_t b = 0; b < courses.size(); ++b)
            {
                int const n = courses[b][step];
                int const slot = static_cast<int>((b * 5 + 3) % 8);
                if (n == 0) continue;
                parts.push_back(texts[b].part(slot, length[b], length[b] + std::max(n, 0)));
                if (n < 0) parts.back().slot = -4, parts.back().length = 1 << 30; // must not matter
                alone.push_back(n > 0 ? twins[b].step(parts.back())
                                      : step_result{parts.back().query, parts.back().query, {}});
                length[b] += std::max(n, 0);
            }
            for (auto& e : engines)
            {
                auto const made = e.step(parts);
                for (std::size_t i = 0; i < parts.size(); ++i)
                {
                    INFO("variant " << variant << ", layout " << static_cast<int>(e.layout) << ", step " << step
                                    << ", sequence " << i << " of " << parts[i].count() << " new tokens");
                    CHECK((parts[i].count() == 0 || same(made[i], alone[i])));
                }
            }
        }
        ++variant;
    }
}
