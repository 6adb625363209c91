// SPDX-FileCopyrightText: The spla authors
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
// Lesson 9: tokens per second. Sequences with long contexts decode token after token, all of a batch in one call;
// beside them the same step of dense attention: the same kernels, every block on the list, no linear state. Lengths
// grow on the device: the host only launches.
//
// Prints (the figures are of one NVIDIA H200; a step is one layer's attention, with its launches):
//     spla::run_batch: ... selection hopper, attention hopper
//      context  batch    spla tokens/s  us a step   dense tokens/s  us a step   ratio
//        32768      1            20500       48.8             7915      126.3    2.6x
//        32768     16            67763      236.1            24410      655.5    2.8x
//        32768     64           108269      591.1            27514     2326.1    3.9x
#include <spla/spla.hpp>

#include <algorithm>
#include <cstdio>
#include <iostream>
#include <type_traits>
#include <vector>

using space = Kokkos::DefaultExecutionSpace;
using memory = space::memory_space;
constexpr bool on_host = Kokkos::SpaceAccessibility<Kokkos::HostSpace, memory>::accessible;
using element = std::conditional_t<on_host, float, spla::bfloat16>;
using rows = Kokkos::View<element***, Kokkos::LayoutRight, memory>;
using cache_view = Kokkos::View<element****, Kokkos::LayoutRight, memory>;
using numbers = Kokkos::View<std::int32_t*, memory>;
using list_view = spla::block_list<Kokkos::View<std::int32_t****, Kokkos::LayoutRight, memory>,
                                   Kokkos::View<std::int32_t***, Kokkos::LayoutRight, memory>>;

// Small where it runs on a CPU: a lesson, and a test.
constexpr int query_heads = on_host ? 4 : 32, key_heads = on_host ? 1 : 8, width = on_host ? 64 : 128;
constexpr int context = on_host ? 8192 : 32768, chunk = on_host ? 1024 : 8192, steps = on_host ? 4 : 64;

/// What a model would compute: numbers made of a position, the same for every sequence.
template <class View>
void fill(View const& view, std::size_t period, unsigned what)
{
    Kokkos::parallel_for(
        "fill", Kokkos::RangePolicy<space, Kokkos::IndexType<std::int64_t>>(0, view.size()),
        KOKKOS_LAMBDA(std::int64_t const i) {
            unsigned x = static_cast<unsigned>(i % period) * 2654435761u + what;
            x = (x ^ x >> 15) * 2246822519u, x ^= x >> 13;
            view.data()[i] = static_cast<element>(static_cast<float>(x >> 8) * 0x1p-23f - 1.0f);
        });
}

numbers numbers_of(std::vector<std::int32_t> const& values)
{
    numbers const made("numbers", values.size());
    auto const host = Kokkos::create_mirror_view(made);
    std::copy(values.begin(), values.end(), host.data());
    Kokkos::deep_copy(made, host);
    return made;
}

/// A batch whose sequences all have the context, and decode on from there.
class decoder
{
public:
    decoder(int sequences, bool dense) : batch_(sequences), dense_(dense)
    {
        limits_.element = spla::kind_of<element>();
        limits_.batch = sequences, limits_.queries = sequences, limits_.keys = room;
        limits_.query_heads = query_heads, limits_.key_heads = key_heads, limits_.head_dim = limits_.value_dim = width;
        if (dense) options_.combine = spla::combination_kind::sparse_only, options_.top_k = room / options_.block;
        pool_ = spla::make_state_pool(exec_, limits_, {.slots = sequences, .page_tokens = room}, options_);
        cache_ = {cache_view("keys", sequences, room, key_heads, width),
                  cache_view("values", sequences, room, key_heads, width)};
        fill(cache_.key, cache_.key.size() / sequences, 1), fill(cache_.value, cache_.value.size() / sequences, 2);
        fill(query_, query_.size(), 3), fill(key_, key_.size(), 4), fill(value_, value_.size(), 5);
        if (dense)
            list_every_block();
        else
            prefill();
        plan_ = spla::plan_batch<element>(exec_, limits_, options_);
        scratch_ = spla::make_workspace(exec_, plan_);
        std::vector<std::int32_t> offsets(sequences + 1), slots(sequences);
        for (int b = 0; b <= sequences; ++b) offsets[b] = b;
        for (int b = 0; b < sequences; ++b) slots[b] = b;
        lengths_ = numbers_of(std::vector<std::int32_t>(sequences, context));
        now_ = {numbers_of(offsets), lengths_, numbers_of(slots)};
        spla::warm_up(exec_, plan_);
    }

    spla::batch_plan<element, spla::options<>> const& plan() const { return plan_; }

    /// One more token of each sequence.
    void step()
    {
        auto const lengths = lengths_;
        Kokkos::parallel_for(
            "grow", Kokkos::RangePolicy<space>(exec_, 0, batch_), KOKKOS_LAMBDA(int const b) { ++lengths(b); });
        spla::attention_extras<element> with;
        if (dense_) with.use_lists(lists_);
        spla::run_batch(exec_, plan_, now_, query_, spla::new_tokens{key_, value_}, cache_, output_, pool_, scratch_,
                        with);
    }
    double seconds_a_step()
    {
        for (int i = 0; i < 2; ++i) step();
        exec_.fence();
        Kokkos::Timer const timer;
        for (int i = 0; i < steps; ++i) step();
        exec_.fence();
        return timer.seconds() / steps;
    }

    // nvcc wants functions with kernels to be public.
    /// The first sequence's context, chunk by chunk; then its state for the others, whose keys are the same.
    void prefill()
    {
        auto limits = limits_;
        limits.batch = 1, limits.queries = chunk;
        auto const plan = spla::plan_batch<element>(exec_, limits, options_);
        auto const scratch = spla::make_workspace(exec_, plan);
        rows const query("prompt", chunk, query_heads, width), output("prompt's output", chunk, query_heads, width);
        fill(query, query.size(), 6);
        spla::warm_up(exec_, plan);
        for (int end = chunk; end <= context; end += chunk)
        {
            spla::run_batch(exec_, plan,
                            spla::sequence_batch<memory>{numbers_of({0, chunk}), numbers_of({end}), numbers_of({0})},
                            query, cache_, output, pool_, scratch);
            exec_.fence();
        }
        if (batch_ == 1) return;
        std::vector<std::int32_t> others;
        for (int b = 1; b < batch_; ++b) others.push_back(b);
        spla::fork_slots(exec_, pool_, numbers_of(std::vector<std::int32_t>(others.size(), 0)), numbers_of(others));
        exec_.fence();
    }
    void list_every_block()
    {
        int const blocks = options_.top_k;
        lists_ = {{"lists", 1, static_cast<std::size_t>(batch_), key_heads, static_cast<std::size_t>(blocks)},
                  {"lengths", 1, static_cast<std::size_t>(batch_), key_heads}};
        Kokkos::deep_copy(lists_.lengths, blocks);
        auto const all = lists_.indices;
        Kokkos::parallel_for(
            "every block", Kokkos::RangePolicy<space>(exec_, 0, all.size()),
            KOKKOS_LAMBDA(std::int64_t const i) { all.data()[i] = static_cast<std::int32_t>(i % blocks); });
        exec_.fence();
    }

private:
    static constexpr int room = context + 128; ///< tokens of a slot, whole blocks
    space exec_;
    int batch_;
    bool dense_;
    spla::options<> options_;
    spla::batch_limits limits_;
    spla::state_pool<memory> pool_;
    spla::slot_cache<cache_view, cache_view> cache_;
    rows query_{"query", static_cast<std::size_t>(batch_), query_heads, width},
        output_{"output", static_cast<std::size_t>(batch_), query_heads, width},
        key_{"new key", static_cast<std::size_t>(batch_), key_heads, width},
        value_{"new value", static_cast<std::size_t>(batch_), key_heads, width};
    list_view lists_;
    numbers lengths_;
    spla::batch_plan<element, spla::options<>> plan_;
    spla::workspace<memory> scratch_;
    spla::sequence_batch<memory> now_;
};

int main(int count, char* arguments[])
{
    Kokkos::ScopeGuard const kokkos(count, arguments);
    std::vector<int> const batches = on_host ? std::vector<int>{1, 2} : std::vector<int>{1, 16, 64};
    for (int const batch : batches)
    {
        double seconds[2];
        for (bool const dense : {false, true})
        {
            decoder made(batch, dense);
            if (batch == batches.front() && !dense)
            {
                std::cout << made.plan() << '\n';
                std::printf("%8s %6s %16s %10s %16s %10s %7s\n", "context", "batch", "spla tokens/s", "us a step",
                            "dense tokens/s", "us a step", "ratio");
            }
            seconds[dense] = made.seconds_a_step();
        }
        std::printf("%8d %6d %16.0f %10.1f %16.0f %10.1f %6.1fx\n", context, batch, batch / seconds[0],
                    1e6 * seconds[0], batch / seconds[1], 1e6 * seconds[1], seconds[1] / seconds[0]);
    }
}
