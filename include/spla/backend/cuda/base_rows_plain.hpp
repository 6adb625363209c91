// SPDX-FileCopyrightText: The spla authors
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once
#include "base_state_shape.hpp"
#include "matrix_product.hpp"

/// Finished rows as most calls ask for them: both branches without weights, in the inputs' type and nothing else (spec
/// section 5). These warps are few, and what they do is a chain of latencies: nothing here is found out row by row that
/// holds for all of them, and a row's exact branch is sent for a row earlier.
namespace spla::cuda
{

/// A warp's rows together, and every `warps`-th such rows after them: Width / 8 lanes a row, lane t has columns t * 4
/// and the next three of each half.
template <int Width, bool Normalises>
class base_rows_plain
{
    static constexpr int lanes = Width / 8;

public:
    static constexpr int warp_rows = 32 / lanes;

    /// Sends for the first rows.
    __device__ base_rows_plain(base_state_arguments const& a, base_rows const& note, int warp)
        : a_(a), place_(note, a.shape.tiles.group), rows_(note.count), lane_row_(threadIdx.x % 32 / lanes),
          first_(warp_rows * warp), exact_(note.exact + threadIdx.x % lanes * 4),
          output_(static_cast<bfloat16*>(note.output) + threadIdx.x % lanes * 4)
    {
        fetch(first_, now_);
    }

    /// products: shared address of the rows' products; 0 where they are zeros.
    __device__ void store(std::uint32_t products, int warps)
    {
        exact_row next; // two rows change places without a copy, which would wait for what was sent for
        int row = first_;
#pragma unroll 1
        while (row < rows_)
        {
            fetch(row + warp_rows * warps, next);
            store(products, row, now_);
            row += warp_rows * warps;
            if (row >= rows_) break;
            fetch(row + warp_rows * warps, now_);
            store(products, row, next);
            row += warp_rows * warps;
        }
    }

private:
    using exact_row = float4[2];
    /// Behind the last row that one again, which nobody stores.
    __device__ void fetch(int first, exact_row& to) const
    {
        int const last = rows_ - 1, row = first + lane_row_ < last ? first + lane_row_ : last;
        float const* const from = place_.row(exact_, a_.exact_steps, row);
        to[0] = __ldg(reinterpret_cast<float4 const*>(from));
        to[1] = __ldg(reinterpret_cast<float4 const*>(from + Width / 2));
    }
    __device__ void store(std::uint32_t products, int first, exact_row const& exact) const
    {
        int const row = first + lane_row_;
        std::uint32_t const from = products + row * (Width * 4) + (threadIdx.x % lanes * 16 ^ (row & 6) << 4);
        float4 const r[2] = {load(from, products), load(from + Width * 2, products)};
        float scale = 1.0f, exact_scale = 1.0f;
        if constexpr (Normalises)
        {
            // Of two neighbours the first sums the residual's squares and the second the exact branch's, then they
            // swap.
            float const squares = square_of(r[0]) + square_of(r[1]),
                        exact_squares = square_of(exact[0]) + square_of(exact[1]);
            bool const second = threadIdx.x % 2;
            float sum = second ? exact_squares : squares;
            sum += __shfl_xor_sync(0xffffffffu, second ? squares : exact_squares, 1);
#pragma unroll
            for (int far = 2; far < lanes; far *= 2) sum += __shfl_xor_sync(0xffffffffu, sum, far);
            float const mine = inverse_rms(sum), other = __shfl_xor_sync(0xffffffffu, mine, 1);
            scale = second ? other : mine, exact_scale = second ? mine : other;
        }
        bfloat16* const to = place_.row(output_, a_.output_steps, row);
#pragma unroll
        for (int i = 0; i < 2; ++i)
        {
            float4 const e = exact[i];
            store_pairs(to + Width / 2 * i,
                        pack<bfloat16>(fmaf(r[i].x, scale, e.x * exact_scale), fmaf(r[i].y, scale, e.y * exact_scale)),
                        pack<bfloat16>(fmaf(r[i].z, scale, e.z * exact_scale), fmaf(r[i].w, scale, e.w * exact_scale)),
                        row < rows_);
        }
    }
    /// If so. Without a branch.
    __device__ static void store_pairs(bfloat16* to, std::uint32_t first, std::uint32_t second, bool there)
    {
        asm volatile(
            "{\n.reg .pred there;\nsetp.ne.b32 there, %3, 0;\n@there st.global.v2.b32 [%0], {%1, %2};\n}\n" ::"l"(
                __cvta_generic_to_global(to)),
            "r"(first), "r"(second), "r"(static_cast<int>(there))
            : "memory");
    }
    /// Zeros if not there.
    static __device__ float4 load(std::uint32_t address, std::uint32_t there)
    {
        float4 x{0.0f, 0.0f, 0.0f, 0.0f};
        asm volatile("{\n.reg .pred there;\nsetp.ne.b32 there, %5, 0;\n"
                     "@there ld.shared.v4.f32 {%0, %1, %2, %3}, [%4];\n}\n"
                     : "+f"(x.x), "+f"(x.y), "+f"(x.z), "+f"(x.w)
                     : "r"(address), "r"(there));
        return x;
    }
    __device__ static float square_of(float4 const& x)
    {
        return x.x * x.x + x.y * x.y + (x.z * x.z + x.w * x.w);
    }
    /// To 2 units in the last place; a zero row stays zero.
    __device__ float inverse_rms(float squares) const
    {
        float const square = squares * (1.0f / Width) + a_.out.rule.epsilon;
        float y;
        asm("rsqrt.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(square)); // of normal numbers
        if (square < 0x1p-126f) y = square == 0.0f ? 0.0f : rsqrtf(square);
        return y;
    }

    base_state_arguments const& a_;
    base_row_place place_;
    int rows_, lane_row_, first_; ///< first_: of the warp's next rows
    float const* exact_;          ///< of this lane's columns
    bfloat16* output_;
    exact_row now_;
};

} // namespace spla::cuda
