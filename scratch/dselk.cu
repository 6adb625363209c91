// The selection for decoded tokens alone, of a fixed batch: quick to compile; times and a sum of what it selects.
#include <spla/backend/cuda/decode_selection.hpp>

#include <cstdio>
#include <cstdlib>
#include <vector>

namespace cuda = spla::cuda; namespace portable = spla::portable; namespace detail = spla::detail; using spla::bfloat16; using spla::summary_storage; using spla::taylor; using spla::diagonal;
__global__ void fill(bfloat16* to, std::int64_t n, int vectors, int d, float scale)
{
    for (std::int64_t i = blockIdx.x * 256ll + threadIdx.x; i < n; i += gridDim.x * 256ll)
    {
        std::uint64_t z = (i + 1) * 0x9e3779b97f4a7c15ull;
        z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull, z = (z ^ (z >> 27)) * 0x94d049bb133111ebull, z ^= z >> 31;
        float x = (float(z & 0xffff) / 65536 + float(z >> 16 & 0xffff) / 65536 + float(z >> 32 & 0xffff) / 65536 - 1.5f) * 2 * scale;
        if (vectors > 1 && i / d % vectors == 1) x = fabsf(x) * 0.5f;
        to[i] = bfloat16(x);
    }
}
#ifdef DSEL_CLOCK
#define CLOCKS 1
#else
#define CLOCKS 0
#endif
__global__ void delay() { long long t = clock64(); while (clock64() - t < 100000) {} }
__global__ void nothing() {}
int main(int argc, char** argv)
{
    char const* name = argc > 1 ? argv[1] : "";
    struct one { int batch, keys, group, fresh; };
    std::vector<one> const all = {{1, 32768, 4, 1}, {16, 32768, 4, 1}, {64, 32768, 4, 1}, {1, 131072, 4, 1}, {16, 131072, 4, 1}, {64, 131072, 4, 1}, {1, 524288, 4, 1}, {64, 32768, 16, 1}, {1, 32768, 4, 8}};
    char* other;
    cudaMalloc(&other, 512 << 20);
    for (one const& c : all)
    {
        int const heads = 8, d = 128, vectors = 3;
        portable::selection_shape s{};
        s.sequences = {c.batch, c.fresh, c.keys};
        s.key_heads = heads, s.group = c.group, s.width = d;
        s.bounds = {64, 1, 8, 1};
        s.top_k = 54, s.kept = 1, s.top_p = 1, s.scale = 1 / std::sqrt(128.0);
        s.most_blocks = s.bounds.competing(c.keys - 1).count();
        detail::summary_tensor sum;
        std::int64_t const n = std::int64_t(c.batch) * (c.keys / 64) * heads * vectors * d, nq = std::int64_t(c.batch) * c.fresh * heads * c.group * d;
        bfloat16* q;
        cudaMalloc(&sum.values, n * 2), cudaMalloc(&q, nq * 2);
        fill<<<1024, 256>>>((bfloat16*)sum.values, n, vectors, d, 0.7f), fill<<<64, 256>>>(q, nq, 1, d, 2.0f);
        sum.storage = summary_storage::bf16, sum.head_dim = d, sum.key_heads = heads, sum.blocks = c.keys / 64, sum.vectors = vectors;
        detail::tensor<bfloat16 const> query;
        query.data = q;
        query.stride[2] = d, query.stride[1] = d * heads * c.group, query.stride[0] = query.stride[1] * c.fresh;
        detail::list_tensor list;
        std::size_t const lists = std::size_t(c.batch) * c.fresh * heads;
        cudaMalloc(&list.indices, lists * 54 * 4), cudaMalloc(&list.lengths, lists * 4);
        list.capacity = 54, list.stride[2] = 54, list.stride[1] = 54 * heads, list.stride[0] = list.stride[1] * c.fresh;
        list.length_stride[2] = 1, list.length_stride[1] = heads, list.length_stride[0] = heads * c.fresh;
        cuda::decode_selection_arguments a{query, sum, list, cuda::decode_selection_sizes_of<taylor<diagonal>>(s, vectors, 8)};
        auto const l = cuda::decode_selection_layout::of(a.sizes);
        portable::decoded_work w{a.sizes.lists_each, cuda::decode_panel_blocks, nullptr, 0};
        a.sizes.panels = {c.batch, w.panels(s, s.sequences[0])}, a.sizes.list_panels = {c.batch, w.list_panels(s, s.sequences[0])};
        std::byte* memory;
        cudaMalloc(&memory, l.bytes);
        a.mass = reinterpret_cast<float*>(memory + l.mass), a.sum = reinterpret_cast<cuda::panel_sum*>(memory + l.sum), a.finished = reinterpret_cast<std::int32_t*>(memory + l.finished);
        auto const kernel = cuda::decode_selection_kernel<bfloat16>;
        int const bytes = int(cuda::decode_selection_memory::bytes(a.sizes));
        cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes);
        int const blocks = int(std::min<std::int64_t>(132, a.sizes.most_panels));
        cudaEvent_t e[2];
        cudaEventCreate(&e[0]), cudaEventCreate(&e[1]);
        double med[3];
        for (int flush = 0; flush < 3; ++flush)
        {
            std::vector<float> us;
            for (int i = 0; i < 14; ++i)
            {
                if (flush == 1) cudaMemsetAsync(other, i, 512 << 20);
                cudaMemsetAsync(a.finished, 0, l.items * 4);
                if (flush != 1) delay<<<1, 1>>>();
                cudaEventRecord(e[0]);
                if (flush == 2) nothing<<<blocks, cuda::decode_threads, 1024>>>();
                else kernel<<<blocks, cuda::decode_threads, bytes>>>(a);
                cudaEventRecord(e[1]);
                cudaEventSynchronize(e[1]);
                float ms;
                cudaEventElapsedTime(&ms, e[0], e[1]);
                if (i > 1) us.push_back(ms * 1000);
            }
            std::sort(us.begin(), us.end());
            med[flush] = us[us.size() / 2];
        }
        std::vector<int> h(lists * 54);
        cudaMemcpy(h.data(), list.indices, h.size() * 4, cudaMemcpyDeviceToHost);
        unsigned hash = 0;
        for (int x : h) hash = hash * 31 + unsigned(x);
        std::printf("%-10s batch %2d keys %6d G %2d new %d: %6.1f us flushed, %6.1f warm, %4.1f empty, floor %6.1f; lists %08x %s\n", name, c.batch, c.keys, c.group, c.fresh, med[1], med[0], med[2], double(n) * 2 / 4.52e6, hash, cudaGetErrorString(cudaGetLastError()));
#ifdef DSEL_CLOCK
        unsigned long long clocks[32];
        cudaMemcpyFromSymbol(clocks, cuda::dsel_clock, sizeof clocks);
        for (int i = 0; i < 16; ++i)
            if (clocks[16 + i]) std::printf("   [%d] %.0f x%.1f", i, double(clocks[i]) / clocks[16 + i], double(clocks[16 + i]) / 28 / 132);
        std::printf("\n");
        unsigned long long zero[32] = {};
        cudaMemcpyToSymbol(cuda::dsel_clock, zero, sizeof zero);
#endif
        cudaFree(sum.values), cudaFree(q), cudaFree(list.indices), cudaFree(list.lengths), cudaFree(memory);
    }
}
