// SPDX-FileCopyrightText: The spla authors
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once
#include "matrix_product.hpp"

/// Warpgroup matrix products of two operands whose panels' rows are the product's direction.
namespace spla::cuda
{

/// Products of 64 x 16 by 16 x N, for the N below.
template <int N>
struct column_product;

// As in matrix_product.hpp: r0 to r2 are the numbers of the operands after the accumulators.
#define SPLA_ACCUMULATORS_8(i)                                                                                         \
    "+f"(d[i]), "+f"(d[i + 1]), "+f"(d[i + 2]), "+f"(d[i + 3]), "+f"(d[i + 4]), "+f"(d[i + 5]), "+f"(d[i + 6]),        \
        "+f"(d[i + 7])
#define SPLA_ACCUMULATORS_AT_32(i)                                                                                     \
    SPLA_ACCUMULATORS_8(i), SPLA_ACCUMULATORS_8(i + 8), SPLA_ACCUMULATORS_8(i + 16), SPLA_ACCUMULATORS_8(i + 24)
#define SPLA_ACCUMULATORS_32 SPLA_ACCUMULATORS_AT_32(0)
#define SPLA_ACCUMULATORS_64 SPLA_ACCUMULATORS_32, SPLA_ACCUMULATORS_AT_32(32)
#define SPLA_ACCUMULATORS_128 SPLA_ACCUMULATORS_64, SPLA_ACCUMULATORS_AT_32(64), SPLA_ACCUMULATORS_AT_32(96)
#define SPLA_NUMBERS_32                                                                                                \
    "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "                                           \
    "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31"
#define SPLA_NUMBERS_64                                                                                                \
    SPLA_NUMBERS_32 ", "                                                                                               \
                    "%32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, "                 \
                    "%48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63"
#define SPLA_NUMBERS_128                                                                                               \
    SPLA_NUMBERS_64 ", "                                                                                               \
                    "%64, %65, %66, %67, %68, %69, %70, %71, %72, %73, %74, %75, %76, %77, %78, %79, "                 \
                    "%80, %81, %82, %83, %84, %85, %86, %87, %88, %89, %90, %91, %92, %93, %94, %95, "                 \
                    "%96, %97, %98, %99, %100, %101, %102, %103, %104, %105, %106, %107, %108, %109, %110, %111, "     \
                    "%112, %113, %114, %115, %116, %117, %118, %119, %120, %121, %122, %123, %124, %125, %126, %127"
#define SPLA_COLUMN_PRODUCT(columns, count, r0, r1, r2)                                                                \
    template <>                                                                                                        \
    struct column_product<columns>                                                                                     \
    {                                                                                                                  \
        static constexpr int registers = count;                                                                        \
        /** d += A^T B, or with Sign -1 d -= A^T B: A and B in panels whose rows are the product's direction. */       \
        template <int Sign = 1>                                                                                        \
        __device__ static void add(float (&d)[count], std::uint64_t a, std::uint64_t b)                                \
        {                                                                                                              \
            asm volatile("wgmma.mma_async.sync.aligned.m64n" #columns "k16.f32.bf16.bf16 "                             \
                         "{" SPLA_NUMBERS_##count "}, %" #r0 ", %" #r1 ", 1, %" #r2 ", 1, 1, 1;\n"                     \
                         : SPLA_ACCUMULATORS_##count                                                                   \
                         : "l"(a), "l"(b), "n"(Sign));                                                                 \
        }                                                                                                              \
    };
SPLA_COLUMN_PRODUCT(64, 32, 32, 33, 34)
SPLA_COLUMN_PRODUCT(128, 64, 64, 65, 66)
SPLA_COLUMN_PRODUCT(256, 128, 128, 129, 130)
#undef SPLA_COLUMN_PRODUCT
#undef SPLA_NUMBERS_128
#undef SPLA_NUMBERS_64
#undef SPLA_NUMBERS_32
#undef SPLA_ACCUMULATORS_128
#undef SPLA_ACCUMULATORS_64
#undef SPLA_ACCUMULATORS_32
#undef SPLA_ACCUMULATORS_AT_32
#undef SPLA_ACCUMULATORS_8

} // namespace spla::cuda
