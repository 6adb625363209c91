// SPDX-FileCopyrightText: The spla authors
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once
#include "inputs.hpp"
#include "step_numbers.hpp"

#include <algorithm>
#include <stdexcept>
#include <string>
#include <vector>

/// A step of an engine that decodes one token of each of its sequences, all of one length, replayed from a graph.
namespace spla_bench
{

inline void require(cudaError_t e)
{
    if (e != cudaSuccess) throw std::runtime_error(cudaGetErrorString(e));
}

/// An instance on a stream of its own, which alone can be captured.
class captured_stream
{
public:
    captured_stream() { require(cudaStreamCreate(&stream_)); }
    captured_stream(captured_stream const&) = delete;
    captured_stream& operator=(captured_stream const&) = delete;
    ~captured_stream() { cudaStreamDestroy(stream_); }
    cudaStream_t get() const { return stream_; }

private:
    cudaStream_t stream_{};
};

/// Work of a stream, recorded once and replayed.
class graph
{
public:
    template <class Work>
    graph(cudaStream_t stream, Work const& work) : stream_(stream)
    {
        cudaGraph_t recorded{};
        require(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal));
        work();
        require(cudaStreamEndCapture(stream, &recorded));
        require(cudaGraphInstantiate(&made_, recorded, 0));
        cudaGraphDestroy(recorded);
    }
    graph(graph const&) = delete;
    graph& operator=(graph const&) = delete;
    ~graph() { cudaGraphExecDestroy(made_); }
    void replay() const { require(cudaGraphLaunch(made_, stream_)); }

private:
    cudaStream_t stream_;
    cudaGraphExec_t made_{};
};

class decode_case
{
    using element = inputs::element;
    using space = exec_space::memory_space;
    using rows = Kokkos::View<element***, Kokkos::LayoutRight, space>;
    using part_of_rows = Kokkos::View<element***, Kokkos::LayoutRight, space, Kokkos::MemoryTraits<Kokkos::Unmanaged>>;
    using int_lists = spla::block_list<view4<std::int32_t>, Kokkos::View<std::int32_t***, Kokkos::LayoutRight, space>>;
    using cache = spla::slot_cache<view4<element>, view4<element>>;
    using step_plan = spla::batch_plan<element, spla::options<>>;

public:
    /// given: the context of every sequence, whose last token is the one to decode.
    decode_case(captured_stream const& stream, inputs const& given, spla::options<> const& wanted, int sequences)
        : o(wanted), batch(sequences), sizes(given.sizes),
          exec_(stream.get()), cache_{view4<element>("keys", batch, room(), sizes.key_heads, sizes.head_dim),
                                      view4<element>("values", batch, room(), sizes.key_heads, sizes.value_dim)},
          query_("query", batch, sizes.query_heads, sizes.head_dim),
          new_key_("new key", batch, sizes.key_heads, sizes.head_dim),
          new_value_("new value", batch, sizes.key_heads, sizes.value_dim),
          output("output", batch, sizes.query_heads, sizes.value_dim),
          lists{view4<std::int32_t>("lists", 1, batch, sizes.key_heads, std::max(o.top_k, 1)),
                {"lengths", 1, static_cast<std::size_t>(batch), static_cast<std::size_t>(sizes.key_heads)}},
          last("last row", 1, sizes.query_heads, sizes.value_dim)
    {
        for (int b = 0; b < batch; ++b)
        {
            copy_row(cache_.key, b, given.key), copy_row(cache_.value, b, given.value);
            copy_token(query_, b, given.query), copy_token(new_key_, b, given.key);
            copy_token(new_value_, b, given.value);
        }
        pool_ = spla::make_state_pool(exec_, sizes, {batch, 0, room(), 0}, o);
        prefill(given);
        auto const limits = limits_of(batch, 1);
        plan_ = spla::plan_batch<element>(exec_, limits, o);
        auto exact = o;
        exact.combine = spla::combination_kind::sparse_only;
        exact_plan_ = spla::plan_batch<element>(exec_, limits, exact);
        exact_pool_ = spla::make_state_pool(exec_, sizes, {batch, 0, room(), 0}, exact); // a residual's holds more
        scratch_ = spla::make_workspace(exec_, plan_);
        std::vector<std::int64_t> offsets(batch + 1), slots(batch), lengths(batch, sizes.keys);
        for (int b = 0; b <= batch; ++b) offsets[b] = b;
        for (int b = 0; b < batch; ++b) slots[b] = b;
        all_ = {numbers_of(offsets), numbers_of(lengths), numbers_of(slots)};
        spla::warm_up(exec_, plan_), spla::warm_up(exec_, exact_plan_);
        spla::attention_extras<element> wants;
        step(plan_, pool_, wants.return_lists(lists));
        exec_.fence();
    }

    Kokkos::Cuda const& exec() const { return exec_; }
    step_plan const& plan() const { return plan_; }

    /// The token into the cache, statistics, state, selection, both branches.
    void whole() const
    {
        spla::run_batch(exec_, plan_, all_, query_, spla::new_tokens{new_key_, new_value_}, cache_, output, pool_,
                        scratch_);
    }
    /// Both branches on lists that are given; or the exact one alone.
    void attention() const { step(plan_, pool_, given_lists()); }
    void exact() const { step(exact_plan_, exact_pool_, given_lists()); }

    spla::options<> o;
    int batch;
    spla::problem sizes;

private:
    /// Tokens of a slot: whole blocks.
    std::int64_t room() const { return spla::ceil_divide(sizes.keys, std::int64_t{o.block}) * o.block; }

    Kokkos::Cuda exec_;
    cache cache_;
    rows query_, new_key_, new_value_;

public:
    rows output;
    int_lists lists; ///< that the step selected
    rows last;       ///< output of the token as prefill makes it

private:
    spla::attention_extras<element> given_lists() const
    {
        spla::attention_extras<element> with;
        return with.use_lists(lists);
    }
    void step(step_plan const& how, spla::state_pool<space> const& states,
              spla::attention_extras<element> const& extras) const
    {
        spla::run_batch(exec_, how, all_, query_, cache_, output, states, scratch_, extras);
    }
    spla::batch_limits limits_of(std::int64_t sequences, std::int64_t queries) const
    {
        spla::batch_limits limits;
        static_cast<spla::problem&>(limits) = sizes;
        limits.batch = sequences, limits.queries = queries;
        return limits;
    }
    static void copy_row(view4<element> const& to, int b, view4<element> const& from)
    {
        Kokkos::deep_copy(Kokkos::subview(to, b, Kokkos::pair<std::int64_t, std::int64_t>(0, from.extent(1)),
                                          Kokkos::ALL, Kokkos::ALL),
                          Kokkos::subview(from, 0, Kokkos::ALL, Kokkos::ALL, Kokkos::ALL));
    }
    /// The last one.
    static void copy_token(rows const& to, int b, view4<element> const& from)
    {
        Kokkos::deep_copy(Kokkos::subview(to, b, Kokkos::ALL, Kokkos::ALL),
                          Kokkos::subview(from, 0, from.extent(1) - 1, Kokkos::ALL, Kokkos::ALL));
    }
    /// The whole context in the first slot, for the output of its last token; then all but that token, and the other
    /// slots like it.
    void prefill(inputs const& given)
    {
        std::int64_t const chunk = std::min<std::int64_t>(32768, sizes.keys);
        auto const how = spla::plan_batch<element>(exec_, limits_of(1, chunk), o);
        auto const scratch = spla::make_workspace(exec_, how);
        spla::warm_up(exec_, how);
        rows const made("rows", chunk, sizes.query_heads, sizes.value_dim);
        std::int64_t const queries = sizes.query_heads * sizes.head_dim, outputs = sizes.query_heads * sizes.value_dim;
        for (bool const all : {true, false})
        {
            std::int64_t const end = all ? sizes.keys : sizes.keys - 1;
            for (std::int64_t begin = 0; begin < end; begin += chunk)
            {
                std::int64_t const count = std::min(chunk, end - begin);
                part_of_rows const query(given.query.data() + begin * queries, count, sizes.query_heads,
                                         sizes.head_dim);
                part_of_rows const output(made.data(), count, sizes.query_heads, sizes.value_dim);
                spla::run_batch(
                    exec_, how,
                    spla::sequence_batch<space>{numbers_of({0, count}), numbers_of({begin + count}), numbers_of({0})},
                    query, cache_, output, pool_, scratch);
                exec_.fence();
                if (begin + count == sizes.keys)
                    Kokkos::deep_copy(
                        last, part_of_rows(made.data() + (count - 1) * outputs, 1, sizes.query_heads, sizes.value_dim));
            }
        }
        std::vector<std::int64_t> others;
        for (int b = 1; b < batch; ++b) others.push_back(b);
        if (!others.empty())
            spla::fork_slots(exec_, pool_, numbers_of(std::vector<std::int64_t>(others.size(), 0)), numbers_of(others));
        exec_.fence();
    }

    spla::state_pool<space> pool_, exact_pool_;
    step_plan plan_, exact_plan_;
    spla::workspace<space> scratch_;
    spla::sequence_batch<space> all_;
};

} // namespace spla_bench
