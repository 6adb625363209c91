// SPDX-FileCopyrightText: The spla authors
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once
#include <cstddef>
#include <cstdint>

namespace spla::detail
{

/// The next multiple of 256 bytes.
constexpr std::size_t align_workspace(std::size_t bytes)
{
    return (bytes + 255) / 256 * 256;
}

/// Places the parts of a buffer one after the other, each at a multiple of 256 bytes.
class buffer_carver
{
public:
    /// Offset of `count` numbers of `size` bytes.
    std::size_t operator()(std::int64_t count, std::size_t size)
    {
        std::size_t const here = used_;
        used_ = align_workspace(used_ + static_cast<std::size_t>(count) * size);
        return here;
    }

private:
    std::size_t used_ = 0;
};

} // namespace spla::detail
