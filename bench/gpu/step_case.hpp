// SPDX-FileCopyrightText: The spla authors
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once
#include "prefill_case.hpp"
#include "step_numbers.hpp"

#include <algorithm>
#include <vector>

/// The same prompt as an engine runs it: steps of a batch over a paged cache, all of it at once or chunk by chunk.
namespace spla_bench
{

class step_case
{
    using element = inputs::element;
    using space = exec_space::memory_space;
    using pages = view4<element>;
    using rows = Kokkos::View<element***, Kokkos::LayoutRight, space, Kokkos::MemoryTraits<Kokkos::Unmanaged>>;
    using table = Kokkos::View<std::int32_t**, Kokkos::LayoutRight, space>;

public:
    static constexpr std::int64_t page_tokens = 64;

    /// chunk: new tokens of a step, at most.
    step_case(inputs const& given, spla::options<> const& wanted, std::int64_t chunk)
        : in_(given), o_(wanted),
          output("output", 1, given.sizes.queries, given.sizes.query_heads, given.sizes.value_dim)
    {
        spla::problem const& p = in_.sizes;
        std::int64_t const count = spla::ceil_divide(p.keys, page_tokens);
        spla::batch_limits limits;
        static_cast<spla::problem&>(limits) = p;
        limits.queries = std::min(chunk, p.keys);
        plan_ = spla::plan_batch<element>(exec_, limits, o_);
        pool_ = spla::make_state_pool(exec_, limits, {1, count, page_tokens, 0}, o_);
        scratch_ = spla::make_workspace(exec_, plan_);
        pages_ = table("pages", 1, count);
        auto const host = Kokkos::create_mirror_view(pages_);
        for (std::int64_t i = 0; i < count; ++i) host(0, i) = static_cast<std::int32_t>(count - 1 - i);
        Kokkos::deep_copy(pages_, host);
        key_ = paged(in_.key), value_ = paged(in_.value);
        for (std::int64_t begin = 0; begin < p.keys; begin += chunk)
        {
            std::int64_t const end = std::min(begin + chunk, p.keys);
            steps_.push_back({begin, end, numbers_of({0, end - begin}), numbers_of({end}), numbers_of({0})});
        }
        spla::warm_up(exec_, plan_);
    }
    spla::plan const& plan() const { return plan_.how; }

    void whole()
    {
        spla::problem const& p = in_.sizes;
        for (auto const& s : steps_)
        {
            auto const part = [&](auto const& all, std::int64_t dim) {
                return rows(all.data() + s.begin * p.query_heads * dim, s.end - s.begin, p.query_heads, dim);
            };
            spla::run_batch(exec_, plan_, spla::sequence_batch<space>{s.offsets, s.lengths, s.slots},
                            part(in_.query, p.head_dim), spla::paged_cache{key_, value_, pages_},
                            part(output, p.value_dim), pool_, scratch_);
        }
    }

private:
    struct step
    {
        std::int64_t begin, end;
        step_numbers offsets, lengths, slots;
    };
    /// Pages from the last to the first.
    pages paged(pages const& all) const
    {
        std::size_t const count = pages_.extent(1);
        pages const made("pages", count, page_tokens, all.extent(2), all.extent(3));
        for (std::size_t i = 0; i < count; ++i)
        {
            auto const tokens = std::min<std::size_t>(page_tokens, all.extent(1) - i * page_tokens);
            auto const range = [](std::size_t first, std::size_t n) { return std::pair(first, first + n); };
            Kokkos::deep_copy(Kokkos::subview(made, count - 1 - i, range(0, tokens), Kokkos::ALL, Kokkos::ALL),
                              Kokkos::subview(all, 0, range(i * page_tokens, tokens), Kokkos::ALL, Kokkos::ALL));
        }
        return made;
    }

    exec_space exec_;
    inputs const& in_;
    spla::options<> o_;
    spla::batch_plan<element, spla::options<>> plan_;
    spla::state_pool<space> pool_;
    spla::workspace<space> scratch_;
    pages key_, value_;
    table pages_;
    std::vector<step> steps_;

public:
    view4<element> output;
};

} // namespace spla_bench
