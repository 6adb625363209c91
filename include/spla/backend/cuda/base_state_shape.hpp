// SPDX-FileCopyrightText: The spla authors
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once
#include "residual_shape.hpp"
#include "tile_changes.hpp"

/// Sizes of the residual branch's product with the states of bases, and what a block of threads keeps in shared memory.
///
/// D = sum of phi(K_b)^T V_b over a tile's base stays in accumulators along a chain of tiles, transposed: a row is a
/// value column, a column a feature. So do the products with it, O^T = D^T phi(Q)^T, whose first operand is made of
/// those accumulators where they are.
namespace spla::cuda
{

/// Bytes from a token's row to the next one's, and from a head's, where 32 bits hold them.
struct row_steps
{
    std::uint32_t token = 0, head = 0;
    bool known = false;
};
template <class Tensor>
row_steps steps_of(Tensor const& t, int number_bytes)
{
    std::int64_t const token = t.stride[1] * number_bytes, head = t.stride[2] * number_bytes, most = 0xffffffff;
    if (token < 0 || token > most || head < 0 || head > most) return {};
    return {static_cast<std::uint32_t>(token), static_cast<std::uint32_t>(head), true};
}

struct base_state_arguments : residual_arguments ///< its tiles are chains; boxes of its maps are stages
{
    change_table changes;
    row_steps query_steps, exact_steps, output_steps;
    bool is_plain; ///< base_rows_plain
};

/// Rows of a tile that are worked on at once, as their warps see them: head by head, token by token, as many as fit.
struct base_rows
{
    bool exists;
    bool works;         ///< otherwise they are zeros
    int sequence, head; ///< of keys
    int first;          ///< head of the group that the rows begin with
    int count;
    int inverse; ///< of the group, times 2^16, rounded up
    int number;  ///< so many before them work
    // What D becomes before; nothing where other rows of the tile went first.
    int restarts, state_end;
    int removed, added; ///< blocks
    // The first token's row of the group's first head.
    bfloat16 const* query;
    float const* exact;
    void *residual, *output, *sparse;
};

/// Where such rows lie: tokens of queries and outputs are never in pages, but follow one another.
class base_row_place
{
public:
    __device__ base_row_place(base_rows const& rows, int group)
        : first_(rows.first), inverse_(rows.inverse), group_(group)
    {
    }

    /// Of a tensor whose first token and head are at `first`.
    template <class T, class Tensor>
    __device__ T* row(T* first, Tensor const& t, int row) const
    {
        return first + token(row) * t.stride[1] + head(row) * t.stride[2];
    }
    template <class T>
    __device__ T* row(T* first, row_steps const& steps, int row) const
    {
        std::uint32_t const t = token(row), h = first_ + row - t * group_;
        std::uint64_t const at = reinterpret_cast<std::uint64_t>(first) + std::uint64_t{t} * steps.token;
        return reinterpret_cast<T*>(at + std::uint64_t{h} * steps.head);
    }
    __device__ int head(int row) const { return first_ + row - token(row) * group_; } ///< of its group

private:
    /// Without a division: exact where rows are fewer than 256 and group is at most 128.
    __device__ int token(int row) const { return (first_ + row) * inverse_ >> 16; }

    int first_, inverse_, group_;
};

inline constexpr int base_threads = 512; ///< a warp loads, two warpgroups multiply, the rest help

/// Shared memory of one block of threads.
template <int Halves, int Width>
struct base_state_memory
{
    static constexpr int panels = Width / panel_width;
    static constexpr int feature_panels = Halves * panels;
    static constexpr int features = Halves * Width;
    static constexpr int stage_keys = Width == 128 ? 32 : 64;
    static constexpr int stages = (feature_panels + panels) * stage_keys > 128 ? 4 : 6; ///< there is room for
    static constexpr int stages_a_block = block_tokens / stage_keys;
    static constexpr int helping_warps = base_threads / 32 - meeting_warps - 1;
    static constexpr int notes = 4;
    static constexpr int rows_at_once = Width == 128 ? 64 : 128; ///< wider products do not fit beside D

    // Features of rows n are in place n % places. The products are written to the place before, which all have read by
    // then: no warpgroup waits for the other one.
    static constexpr int places = 4;
    static constexpr int lag = places - 2; ///< rows are finished so many after the last whose features are made
    static constexpr int rows_ahead = 2;   ///< of a tile that go before its blocks
    static_assert(lag + rows_ahead <= notes, "notes of rows that are not finished are not handed out again");
    struct stage
    {
        std::uint16_t features[feature_panels][stage_keys][panel_width];
        std::uint16_t value[panels][stage_keys][panel_width];
    };
    union rows_place
    {
        std::uint16_t features[feature_panels][rows_at_once][panel_width]; ///< phi(Q)
        float products[rows_at_once][Width];                               ///< see product_column()
    };
    stage loaded[stages];
    rows_place rows[places];
    base_rows note[notes];
    tile_place chain; ///< that the loading warp is at
    barrier note_full[notes], note_free[notes];
    barrier full[stages], free[stages];
    barrier features_full[places], features_read[places], products_full[places], products_read[places];

    __device__ float (&products(int n))[rows_at_once][Width] { return rows[(n + places - 1) % places].products; }
};

/// Where a row of products has a column: exchanged by row, so that neither stores of columns, 8 of 4 pairs of rows
/// each, nor loads of rows meet a bank twice.
__device__ inline int product_column(int row, int column)
{
    return column ^ row / 2 % 4 * 8;
}

} // namespace spla::cuda
