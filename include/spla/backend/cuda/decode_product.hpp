// SPDX-FileCopyrightText: The spla authors
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once
#include "instructions.hpp"
#include "matrix_product.hpp"

/// What one warp's products are fed by: pieces of rows in order, and matrices of 8 x 8 that change sides on their way.
namespace spla::cuda
{

/// 16 bytes of shared memory, loaded here and not kept from an earlier load: registers are scarcer.
inline __device__ uint4 load_piece(std::uint32_t address)
{
    uint4 x;
    asm volatile("ld.shared.v4.b32 {%0, %1, %2, %3}, [%4];"
                 : "=r"(x.x), "=r"(x.y), "=r"(x.z), "=r"(x.w)
                 : "r"(address));
    return x;
}
/// Four matrices of 8 x 8 numbers of 16 bits; lane 8 i + j has the address of row j of matrix i.
inline __device__ void load_matrices(std::uint32_t address, std::uint32_t (&x)[4])
{
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(x[0]), "=r"(x[1]), "=r"(x[2]), "=r"(x[3])
                 : "r"(address)
                 : "memory");
}
/// Four matrices of 8 x 8 numbers of 16 bits, transposed; lane 8 i + j has the address of row j of matrix i.
inline __device__ void load_transposed(std::uint32_t address, std::uint32_t (&x)[4])
{
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(x[0]), "=r"(x[1]), "=r"(x[2]), "=r"(x[3])
                 : "r"(address)
                 : "memory");
}
/// A matrix of 8 x 8 numbers of 16 bits in a warp's registers, transposed.
inline __device__ std::uint32_t transposed(std::uint32_t x)
{
    std::uint32_t y;
    asm volatile("movmatrix.sync.aligned.m8n8.trans.b16 %0, %1;" : "=r"(y) : "r"(x));
    return y;
}

} // namespace spla::cuda
