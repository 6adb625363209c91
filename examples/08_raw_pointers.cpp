// SPDX-FileCopyrightText: The spla authors
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
// Lesson 8: a stream and raw pointers. An engine that does not use Kokkos has a CUDA or HIP stream and memory of its
// own: spla takes both, and a buffer each for states and workspace, whose sizes it says. On a CPU the same lines take
// plain memory.
//
// Prints (the workspace depends on the machine):
//     state of 300 tokens: pool 30.5 KiB, workspace 332.2 KiB, on a CPU
//     the step's output is that of prefill, bit for bit: yes
#include <spla/spla.hpp>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <vector>

#if defined(KOKKOS_ENABLE_CUDA)
using space = Kokkos::Cuda;
struct engine
{
    static constexpr char const* where = "a CUDA stream";
    cudaStream_t stream = nullptr;
    engine() { cudaStreamCreate(&stream); }
    ~engine() { cudaStreamDestroy(stream); }
    space instance() const { return space(stream); }
    void* allocate(std::size_t bytes) const
    {
        void* p = nullptr;
        cudaMalloc(&p, bytes);
        return p;
    }
    void free(void* p) const { cudaFree(p); }
    void upload(void* to, void const* from, std::size_t bytes) const
    {
        cudaMemcpyAsync(to, from, bytes, cudaMemcpyHostToDevice, stream);
    }
    void download(void* to, void const* from, std::size_t bytes) const
    {
        cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToHost, stream);
        cudaStreamSynchronize(stream);
    }
};
#elif defined(KOKKOS_ENABLE_HIP)
using space = Kokkos::HIP;
struct engine
{
    static constexpr char const* where = "a HIP stream";
    hipStream_t stream = nullptr;
    engine() { (void)hipStreamCreate(&stream); }
    ~engine() { (void)hipStreamDestroy(stream); }
    space instance() const { return space(stream); }
    void* allocate(std::size_t bytes) const
    {
        void* p = nullptr;
        (void)hipMalloc(&p, bytes);
        return p;
    }
    void free(void* p) const { (void)hipFree(p); }
    void upload(void* to, void const* from, std::size_t bytes) const
    {
        (void)hipMemcpyAsync(to, from, bytes, hipMemcpyHostToDevice, stream);
    }
    void download(void* to, void const* from, std::size_t bytes) const
    {
        (void)hipMemcpyAsync(to, from, bytes, hipMemcpyDeviceToHost, stream);
        (void)hipStreamSynchronize(stream);
    }
};
#else
using space = Kokkos::DefaultHostExecutionSpace;
struct engine
{
    static constexpr char const* where = "a CPU";
    space instance() const { return space(); }
    void* allocate(std::size_t bytes) const { return std::aligned_alloc(256, (bytes + 255) / 256 * 256); }
    void free(void* p) const { std::free(p); }
    void upload(void* to, void const* from, std::size_t bytes) const { std::memcpy(to, from, bytes); }
    void download(void* to, void const* from, std::size_t bytes) const { std::memcpy(to, from, bytes); }
};
#endif
using memory = space::memory_space;
using unmanaged = Kokkos::MemoryTraits<Kokkos::Unmanaged>;

int main(int count, char* arguments[])
{
    Kokkos::ScopeGuard const kokkos(count, arguments);
    int const tokens = 300, query_heads = 4, key_heads = 2, width = 32;
    engine const mine; // leaves before Kokkos does
    space const exec = mine.instance();

    std::vector<float> query(tokens * query_heads * width), key(tokens * key_heads * width), value(key.size());
    unsigned seed = 1;
    for (auto* v : {&query, &key, &value})
        for (float& x : *v) seed = seed * 1664525u + 1013904223u, x = static_cast<float>(seed >> 8) * 0x1p-23f - 1.0f;
    std::vector<void*> taken;
    auto const on_device = [&](auto const* from, std::size_t numbers) {
        using number = std::remove_cv_t<std::remove_pointer_t<decltype(from)>>;
        auto* const p = static_cast<number*>(mine.allocate(numbers * sizeof(number)));
        taken.push_back(p);
        if (from) mine.upload(p, from, numbers * sizeof(number));
        return p;
    };
    float* const q = on_device(query.data(), query.size());
    float* const k = on_device(key.data(), key.size());
    float* const v = on_device(value.data(), value.size());
    float* const out = on_device(static_cast<float const*>(nullptr), query.size());
    float* const dense = on_device(static_cast<float const*>(nullptr), query.size());
    std::int32_t const numbers[] = {0, tokens, tokens, 0}; // offsets [2], length, slot
    std::int32_t* const arrays = on_device(numbers, 4);

    // Sizes first, then memory of your own.
    spla::options<> const options{.block = 16, .local_blocks = 2, .top_k = 4};
    spla::batch_limits limits;
    limits.queries = limits.keys = tokens, limits.query_heads = query_heads, limits.key_heads = key_heads;
    limits.head_dim = limits.value_dim = width;
    auto const plan = spla::plan_batch<float>(exec, limits, options);
    auto const layout = spla::pool_layout_of(limits, {.slots = 1, .page_tokens = 304}, options);
    using bytes = Kokkos::View<std::byte*, memory>;
    std::byte const* const nothing = nullptr;
    spla::state_pool<memory> const pool(layout, bytes(on_device(nothing, layout.bytes), layout.bytes));
    bytes const scratch(on_device(nothing, plan.workspace_bytes()), plan.workspace_bytes());
    spla::warm_up(exec, plan);
    std::printf("state of %d tokens: pool %.1f KiB, workspace %.1f KiB, on %s\n", tokens,
                static_cast<double>(layout.bytes) * 0x1p-10, static_cast<double>(plan.workspace_bytes()) * 0x1p-10,
                engine::where);

    // Views are shapes beside your pointers: nothing is copied or owned.
    using packed = Kokkos::View<float***, Kokkos::LayoutRight, memory, unmanaged>;
    using cache_rows = Kokkos::View<float****, Kokkos::LayoutRight, memory, unmanaged>;
    using integers = Kokkos::View<std::int32_t const*, memory>;
    spla::sequence_batch<memory> const batch{integers(arrays, 2), integers(arrays + 2, 1), integers(arrays + 3, 1)};
    cache_rows const keys(k, 1, tokens, key_heads, width), values(v, 1, tokens, key_heads, width);
    spla::run_batch(exec, plan, batch, packed(q, tokens, query_heads, width),
                    spla::slot_cache<cache_rows, cache_rows>{keys, values}, packed(out, tokens, query_heads, width),
                    pool, scratch);

    // The same by prefill(), of a batch of one.
    auto state = spla::make_sequence_state(exec, limits, options);
    auto const more = spla::make_workspace(exec, spla::plan_prefill(exec, limits, options));
    spla::prefill(exec, cache_rows(q, 1, tokens, query_heads, width), keys, values,
                  cache_rows(dense, 1, tokens, query_heads, width), state, options, more);

    std::vector<float> step(query.size()), whole(query.size());
    mine.download(step.data(), out, step.size() * sizeof(float));
    mine.download(whole.data(), dense, whole.size() * sizeof(float));
    bool const same = step == whole && step != query;
    std::printf("the step's output is that of prefill, bit for bit: %s\n", same ? "yes" : "NO");
    for (void* p : taken) mine.free(p);
    return same ? 0 : 1;
}
