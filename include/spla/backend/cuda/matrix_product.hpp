// SPDX-FileCopyrightText: The spla authors
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once
#include "../../element_types.hpp"

#include <cstdint>
#include <type_traits>

/// Warpgroup matrix products (PTX ISA: wgmma) of 64 rows, and the panels of shared memory that they read.
///
/// A panel is [rows][64 numbers of 16 bits], a row 128 bytes, its eight 16-byte pieces exchanged by row number (swizzle
/// of 128 bytes): what a bulk copy writes. Wider operands are panels one after the other.
///
/// Accumulators: thread t of the warpgroup holds rows t / 32 * 16 + t % 32 / 4 (and 8 more), columns 8 j + t % 4 * 2
/// and the next, as d[4 j], d[4 j + 1] (d[4 j + 2], d[4 j + 3]).
namespace spla::cuda
{

/// Descriptor of an operand that starts at a shared address. Bytes between: groups of 8 rows; panels (where the product
/// runs along the rows). Swizzle: 128 bytes, or 64 where rows are no longer.
template <int Swizzle = 128>
__device__ std::uint64_t panel_descriptor(std::uint32_t address, std::uint32_t between_groups,
                                          std::uint32_t between_panels)
{
    static_assert(Swizzle == 128 || Swizzle == 64);
    std::uint64_t const swizzle = std::uint64_t{Swizzle == 128 ? 1 : 2} << 62;
    return swizzle | (address & 0x3ffffu) >> 4 | std::uint64_t{between_panels >> 4} << 16 |
           std::uint64_t{between_groups >> 4} << 32;
}

/// Descriptor of panels at a shared address that all threads of a warp have alike: said so, what follows from it is
/// computed once a warp.
inline __device__ std::uint64_t warp_descriptor(std::uint32_t address, std::uint32_t between_panels)
{
    return panel_descriptor(__shfl_sync(0xffffffffu, address, 0), 1024, between_panels);
}
/// The same some bytes on.
inline __device__ std::uint64_t moved(std::uint64_t descriptor, std::uint32_t bytes)
{
    std::uint64_t const upper = descriptor >> 32;
    return upper << 32 | (static_cast<std::uint32_t>(descriptor) + (bytes >> 4)); // addresses are below 2^18
}

/// Registers of accumulators are the matrix units' from here to wait_products().
__device__ inline void open_products()
{
    asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
}
__device__ inline void close_products()
{
    asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
}
/// Waits until at most N closed groups are under way.
template <int N>
__device__ void wait_products()
{
    asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(N) : "memory");
}

/// The compiler may not move uses of these registers above this point.
template <int N>
__device__ void pin(float (&d)[N])
{
#pragma unroll
    for (int i = 0; i < N; ++i) asm volatile("" : "+f"(d[i])::"memory");
}

/// Two numbers as one register of a 16-bit operand, the first in the lower half.
template <class Element>
__device__ std::uint32_t pack(float low, float high)
{
    std::uint32_t r;
    if constexpr (std::is_same_v<Element, bfloat16>)
        asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(r) : "f"(high), "f"(low));
    else
        asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(r) : "f"(high), "f"(low));
    return r;
}

/// d += A B^T of one warp (PTX ISA: mma.m16n8k16), its accumulators those of a warp of the above: for the few rows that
/// must be made again.
template <class Element>
__device__ void add_warp_product(float* d, std::uint32_t const (&a)[4], std::uint32_t const (&b)[2])
{
    if constexpr (std::is_same_v<Element, bfloat16>)
        asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, "
                     "%9}, {%0, %1, %2, %3};"
                     : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
                     : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
    else
        asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
                     "{%0, %1, %2, %3};"
                     : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
                     : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

/// Products of 64 x 16 by 16 x N, for the N below.
template <class Element, int N>
struct product;

// An instruction names each of its registers, so that its text is the same for any element and width but for their
// names. r0 to r4: the numbers of the operands after the accumulators.
#define SPLA_ACCUMULATORS_8(i)                                                                                         \
    "+f"(d[i]), "+f"(d[i + 1]), "+f"(d[i + 2]), "+f"(d[i + 3]), "+f"(d[i + 4]), "+f"(d[i + 5]), "+f"(d[i + 6]),        \
        "+f"(d[i + 7])
#define SPLA_ACCUMULATORS_AT_32(i)                                                                                     \
    SPLA_ACCUMULATORS_8(i), SPLA_ACCUMULATORS_8(i + 8), SPLA_ACCUMULATORS_8(i + 16), SPLA_ACCUMULATORS_8(i + 24)
#define SPLA_ACCUMULATORS_16 SPLA_ACCUMULATORS_8(0), SPLA_ACCUMULATORS_8(8)
#define SPLA_ACCUMULATORS_32 SPLA_ACCUMULATORS_AT_32(0)
#define SPLA_ACCUMULATORS_64 SPLA_ACCUMULATORS_32, SPLA_ACCUMULATORS_AT_32(32)
#define SPLA_ACCUMULATORS_128 SPLA_ACCUMULATORS_64, SPLA_ACCUMULATORS_AT_32(64), SPLA_ACCUMULATORS_AT_32(96)
#define SPLA_NUMBERS_16 "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15"
#define SPLA_NUMBERS_32                                                                                                \
    SPLA_NUMBERS_16 ", "                                                                                               \
                    "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31"
#define SPLA_NUMBERS_64                                                                                                \
    SPLA_NUMBERS_32 ", %32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, "               \
                    "%48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63"
#define SPLA_NUMBERS_128                                                                                               \
    SPLA_NUMBERS_64 ", "                                                                                               \
                    "%64, %65, %66, %67, %68, %69, %70, %71, %72, %73, %74, %75, %76, %77, %78, %79, "                 \
                    "%80, %81, %82, %83, %84, %85, %86, %87, %88, %89, %90, %91, %92, %93, %94, %95, "                 \
                    "%96, %97, %98, %99, %100, %101, %102, %103, %104, %105, %106, %107, %108, %109, %110, %111, "     \
                    "%112, %113, %114, %115, %116, %117, %118, %119, %120, %121, %122, %123, %124, %125, %126, %127"
#define SPLA_PRODUCT(Element, type, columns, count, r0, r1, r2, r3, r4, r5)                                            \
    template <>                                                                                                        \
    struct product<Element, columns>                                                                                   \
    {                                                                                                                  \
        static constexpr int registers = count;                                                                        \
        /** A and B^T in panels, both along the product's direction; `add`: to what d holds. */                        \
        __device__ static void rows_by_rows(float (&d)[count], std::uint64_t a, std::uint64_t b, bool add)             \
        {                                                                                                              \
            asm volatile("{\n.reg .pred more;\nsetp.ne.b32 more, %" #r2 ", 0;\n"                                       \
                         "wgmma.mma_async.sync.aligned.m64n" #columns "k16.f32." type "." type " "                     \
                         "{" SPLA_NUMBERS_##count "}, %" #r0 ", %" #r1 ", more, 1, 1, 0, 0;\n}\n"                      \
                         : SPLA_ACCUMULATORS_##count                                                                   \
                         : "l"(a), "l"(b), "r"(static_cast<int>(add)));                                                \
        }                                                                                                              \
        /** A in registers, B^T in panels along the product's direction. */                                            \
        __device__ static void registers_by_rows(float (&d)[count], std::uint32_t const* a, std::uint64_t b, bool add) \
        {                                                                                                              \
            asm volatile("{\n.reg .pred more;\nsetp.ne.b32 more, %" #r5 ", 0;\n"                                       \
                         "wgmma.mma_async.sync.aligned.m64n" #columns "k16.f32." type "." type " "                     \
                         "{" SPLA_NUMBERS_##count "}, {%" #r0 ", %" #r1 ", %" #r2 ", %" #r3 "}, %" #r4                 \
                                                  ", more, 1, 1, 0;\n}\n"                                              \
                         : SPLA_ACCUMULATORS_##count                                                                   \
                         : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(static_cast<int>(add)));            \
        }                                                                                                              \
        /** d += A B: A in registers, B in panels whose rows are the product's direction. */                           \
        __device__ static void registers_by_columns(float (&d)[count], std::uint32_t const* a, std::uint64_t b)        \
        {                                                                                                              \
            asm volatile("wgmma.mma_async.sync.aligned.m64n" #columns "k16.f32." type "." type " "                     \
                         "{" SPLA_NUMBERS_##count "}, {%" #r0 ", %" #r1 ", %" #r2 ", %" #r3 "}, %" #r4                 \
                                                  ", 1, 1, 1, 1;\n"                                                    \
                         : SPLA_ACCUMULATORS_##count                                                                   \
                         : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b));                                        \
        }                                                                                                              \
    };
SPLA_PRODUCT(bfloat16, "bf16", 64, 32, 32, 33, 34, 35, 36, 37)
SPLA_PRODUCT(bfloat16, "bf16", 128, 64, 64, 65, 66, 67, 68, 69)
SPLA_PRODUCT(bfloat16, "bf16", 256, 128, 128, 129, 130, 131, 132, 133)
SPLA_PRODUCT(float16, "f16", 64, 32, 32, 33, 34, 35, 36, 37)
SPLA_PRODUCT(float16, "f16", 128, 64, 64, 65, 66, 67, 68, 69)
SPLA_PRODUCT(float16, "f16", 256, 128, 128, 129, 130, 131, 132, 133)
#undef SPLA_PRODUCT

/// The same of bfloat16 where both operands lie in panels whose rows are the product's direction.
template <int N>
struct column_product;

#define SPLA_COLUMN_PRODUCT(columns, count, r0, r1, r2, r3)                                                            \
    template <>                                                                                                        \
    struct column_product<columns>                                                                                     \
    {                                                                                                                  \
        static constexpr int registers = count;                                                                        \
        /** d += Sign A^T B: A and B in panels whose rows are the product's direction. First: to zeros instead. */     \
        template <int Sign = 1, bool First = false>                                                                    \
        __device__ static void add(float (&d)[count], std::uint64_t a, std::uint64_t b)                                \
        {                                                                                                              \
            asm volatile("wgmma.mma_async.sync.aligned.m64n" #columns "k16.f32.bf16.bf16 "                             \
                         "{" SPLA_NUMBERS_##count "}, %" #r0 ", %" #r1 ", %" #r2 ", %" #r3 ", 1, 1, 1;\n"              \
                         : SPLA_ACCUMULATORS_##count                                                                   \
                         : "l"(a), "l"(b), "n"(!First), "n"(Sign));                                                    \
        }                                                                                                              \
    };
SPLA_COLUMN_PRODUCT(32, 16, 16, 17, 18, 19)
SPLA_COLUMN_PRODUCT(64, 32, 32, 33, 34, 35)
SPLA_COLUMN_PRODUCT(128, 64, 64, 65, 66, 67)
#undef SPLA_COLUMN_PRODUCT
#undef SPLA_NUMBERS_128
#undef SPLA_NUMBERS_64
#undef SPLA_NUMBERS_32
#undef SPLA_NUMBERS_16
#undef SPLA_ACCUMULATORS_128
#undef SPLA_ACCUMULATORS_64
#undef SPLA_ACCUMULATORS_32
#undef SPLA_ACCUMULATORS_16
#undef SPLA_ACCUMULATORS_AT_32
#undef SPLA_ACCUMULATORS_8

} // namespace spla::cuda
