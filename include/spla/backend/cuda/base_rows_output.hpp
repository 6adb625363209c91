// SPDX-FileCopyrightText: The spla authors
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once
#include "base_state_shape.hpp"
#include "residual_output.hpp"

/// Finished rows from shared memory to the outputs, alone and with the exact branch's (spec section 5): Width / 8
/// lanes a row, lane t has columns t * 4 and the next three of each half.
namespace spla::cuda
{

/// A warp's rows together, and every `warps`-th such rows after them. Full: values are Width wide.
template <int Width, bool Full>
class base_rows_output
{
    static constexpr int fours = 2; ///< of a lane
    static constexpr int lanes = Width / 8;

public:
    static constexpr int warp_rows = 32 / lanes;

    /// Sends for the first of the exact branch's rows.
    __device__ base_rows_output(base_state_arguments const& a, base_rows const& note, int warp)
        : a_(a), note_(note), place_(note, a.shape.tiles.group), rows_(note.count),
          row_(warp_rows * warp + threadIdx.x % 32 / lanes)
    {
        fetch_exact(row_);
    }

    /// products: shared address of the rows' products; 0 where they are zeros.
    __device__ void store(std::uint32_t products, int warps)
    {
        // Without an output of both, the exact branch's kernel has stored its rows itself.
        bool const both = static_cast<bool>(a_.out.output);
        int const count = (rows_ + warp_rows - 1) / warp_rows * warp_rows; // all of a warp are here
#pragma unroll 1
        for (; row_ < count; row_ += warp_rows * warps)
        {
            residual_row const residual{products ? products + row_ * (Width * 4) : 0, row_};
            if (a_.out.residual) store_row(a_.out.residual, note_.residual, residual);
            if (!both) continue;
            if (a_.out.sparse) store_row(a_.out.sparse, note_.sparse, x_);
            combine(residual);
            store_row(a_.out.output, note_.output, x_);
            fetch_exact(row_ + warp_rows * warps);
        }
    }

private:
    __device__ static int column(int i)
    {
        return Width / 2 * i + threadIdx.x % lanes * 4;
    }
    __device__ bool has(int i) const
    {
        return Full || column(i) < a_.shape.tiles.value_dim;
    }
    /// A row of products: read where it is wanted, twice rather than kept.
    struct residual_row
    {
        std::uint32_t address; ///< 0: zeros
        int row;

        __device__ float4 operator[](int i) const
        {
            float4 x{0.0f, 0.0f, 0.0f, 0.0f};
            if (address)
                asm volatile("ld.shared.v4.f32 {%0, %1, %2, %3}, [%4];"
                             : "=f"(x.x), "=f"(x.y), "=f"(x.z), "=f"(x.w)
                             : "r"(address + product_column(row, column(i)) * 4));
            return x;
        }
    };
    /// Zeros behind the width, and behind the rows.
    __device__ void fetch_exact(int row)
    {
        float const* const from = a_.out.output && row < rows_ ? place_.row(note_.exact, a_.exact, row) : nullptr;
#pragma unroll
        for (int i = 0; i < fours; ++i) x_[i] = load_four(from, 0.0f, i);
    }
    /// This lane's columns of a row, however it lies; `otherwise` where there is none.
    __device__ float4 load_four(float const* row, float otherwise, int i) const
    {
        if (!row || !has(i)) return {otherwise, otherwise, otherwise, otherwise};
        float const* const four = row + column(i);
        if (reinterpret_cast<std::uintptr_t>(row) % 16 == 0) return *reinterpret_cast<float4 const*>(four);
        return {four[0], four[1], four[2], four[3]};
    }
    /// The exact branch's row becomes the output.
    __device__ void combine(residual_row const& residual)
    {
        detail::combination_rule<float> const& rule = a_.out.rule;
        float squares = 0.0f, exact_squares = 0.0f;
#pragma unroll
        for (int i = 0; i < fours; ++i) // columns that are not there are zeros
        {
            squares += square_of(residual[i]);
            exact_squares += square_of(x_[i]);
        }
#pragma unroll
        for (int far = 1; far < lanes; far *= 2)
        {
            squares += __shfl_xor_sync(0xffffffffu, squares, far);
            exact_squares += __shfl_xor_sync(0xffffffffu, exact_squares, far);
        }
        float const scale = rule.inverse_rms_of(squares, a_.shape.tiles.value_dim);
        float const exact_scale = rule.inverse_rms_of(exact_squares, a_.shape.tiles.value_dim);
        float const* const weights = weights_of(rule.residual_weight);
        float const* const exact_weights = weights_of(rule.sparse_weight);
#pragma unroll
        for (int i = 0; i < fours; ++i)
        {
            float4 const r = residual[i], w = load_four(weights, 1.0f, i), v = load_four(exact_weights, 1.0f, i);
            x_[i].x = w.x * (r.x * scale) + v.x * (x_[i].x * exact_scale);
            x_[i].y = w.y * (r.y * scale) + v.y * (x_[i].y * exact_scale);
            x_[i].z = w.z * (r.z * scale) + v.z * (x_[i].z * exact_scale);
            x_[i].w = w.w * (r.w * scale) + v.w * (x_[i].w * exact_scale);
        }
    }
    __device__ static float square_of(float4 const& x)
    {
        return x.x * x.x + x.y * x.y + (x.z * x.z + x.w * x.w);
    }
    __device__ float const* weights_of(detail::weight_tensor<float> const& w) const
    {
        return w.data && row_ < rows_ ? w.data + (note_.head * a_.shape.tiles.group + place_.head(row_)) * w.stride
                                      : nullptr;
    }
    /// x[i]: this lane's numbers from column(i) on.
    template <class Numbers>
    __device__ void store_row(detail::output_tensor<bfloat16> const& out, void* first, Numbers const& x) const
    {
        if (row_ >= rows_) return;
        if (!out.wide)
        {
            bfloat16* const to = place_.row(static_cast<bfloat16*>(first), out, row_);
#pragma unroll
            for (int i = 0; i < fours; ++i)
            {
                if (!has(i)) continue;
                float4 const four = x[i];
                *reinterpret_cast<uint2*>(to + column(i)) =
                    uint2{pack<bfloat16>(four.x, four.y), pack<bfloat16>(four.z, four.w)};
            }
            return;
        }
        float* const to = place_.row(static_cast<float*>(first), out, row_);
        bool const together = reinterpret_cast<std::uintptr_t>(to) % 16 == 0;
#pragma unroll
        for (int i = 0; i < fours; ++i)
        {
            if (!has(i)) continue;
            float* const there = to + column(i);
            float4 const four = x[i];
            if (together)
                *reinterpret_cast<float4*>(there) = four;
            else
                there[0] = four.x, there[1] = four.y, there[2] = four.z, there[3] = four.w;
        }
    }

    base_state_arguments const& a_;
    base_rows const& note_;
    base_row_place place_;
    int rows_, row_;  ///< this lane's next
    float4 x_[fours]; ///< the exact branch's, then the output's
};

} // namespace spla::cuda
