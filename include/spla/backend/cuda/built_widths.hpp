// SPDX-FileCopyrightText: The spla authors
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

/// Widths of heads that kernels are compiled for.
///
/// A program whose heads are at most 128 wide may define SPLA_HOPPER_WIDTH_128, in every source or in none: there are
/// kernels of that width alone then, which take half as long to compile. Narrower heads run on them too, padded; wider
/// ones on the portable kernels, and the plan says so.
namespace spla::cuda
{

#if defined(SPLA_HOPPER_WIDTH_128)
inline constexpr bool has_narrow_kernels = false; ///< of 64
inline constexpr bool has_wide_kernels = false;   ///< of 192 and 256
#else
inline constexpr bool has_narrow_kernels = true;
inline constexpr bool has_wide_kernels = true;
#endif

/// Do such heads run on kernels of 64?
constexpr bool is_narrow(int width, int value_dim)
{
    return has_narrow_kernels && width <= 64 && value_dim <= 64;
}

} // namespace spla::cuda
