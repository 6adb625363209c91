// SPDX-FileCopyrightText: The spla authors
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once
#include "decode_state.hpp"

/// One run of a decoded token in a quad of warps: softmax and the weighted sum of values (spec section 3), and the
/// residual's products over the same keys and values (section 4).
///
/// A warp has 16 keys of each block, and waits for no other warp before the run ends. Keys are the rows of its products
/// and the group's query heads their columns: a lane has keys lane / 4 and 8 more, heads lane % 4 * 2 and the next. So
/// a key is read once, by whole pieces, and its features are made where the next product wants them.
namespace spla::cuda
{

template <class FeatureMap, int Width, int Columns>
class decode_rows
{
    using features = quad_features<FeatureMap, Width>;
    using memory = decode_memory<features::halves, Width, Columns>;
    using sums = decode_sums<memory, Width, Columns>;
    static constexpr int groups = memory::groups, words = features::words, pieces = features::pieces;
    static constexpr int warp_keys = 16, row_bytes = panel_width * 2, panel_bytes = block_tokens * row_bytes;
    static constexpr float infinity = __builtin_huge_valf();

public:
    __device__ decode_rows(decode_arguments const& a, ring_reader<memory>& ring) : a_(a), ring_(ring)
    {
        int const lane = threadIdx.x % 32, t = lane % 4;
        first_key_ = threadIdx.x % 128 / 32 * warp_keys;
        int const piece = features::piece_of(t, 0), key = first_key_ + lane / 4;
        key_place_ = piece / 8 * panel_bytes + key * row_bytes + (piece % 8 ^ key % 8) * 16;
        int const row = first_key_ + lane % 8 + lane / 16 * 8;
        value_place_ = row * row_bytes + (lane / 8 % 2 ^ row % 8) * 16;
    }

    /// A run, from its first place to its unmerged rows.
    __device__ void attend(decode_run const& run)
    {
        sums_.clear();
        for (;;)
        {
            decode_note const note = ring_.next();
            if (note.kind == decode_note::block)
            {
                if (!note.subtracts)
                    visit<false, false>(note);
                else if (a_.shape.width < Width)
                    visit<true, true>(note);
                else
                    visit<true, false>(note);
            }
            else if (note.kind == decode_note::state)
            {
                add_state<FeatureMap, Width, Columns>(a_.shape, note, ring_, sums_);
                sums_.subtracts = true;
            }
            if (note.last) break;
            ring_.leave();
        }
        sums_.store(a_, run_of<Columns>(a_, run), ring_);
        fence_shared_writes(); // the copy engine comes next
        ring_.leave();
    }

private:
    /// A block, for the exact branch and, where it is subtracted, for the residual.
    template <bool Both, bool Padded>
    __device__ void visit(decode_note const& note)
    {
        float logits[groups][4], products[groups][4];
        std::uint32_t edges[2];
        make_logits<Both, Padded>(logits, edges);
        if (note.numbers < block_tokens) hide(logits, note.numbers);
        sums_.attends = true;
        sums_.weigh(logits, a_.shape.scale);
        if constexpr (Both)
        {
            make_products<Padded>(products, edges);
            sums_.subtracts = true;
        }
        sum_branches<Both>(logits, products);
        if (Both && note.fine) sum_rest(products);
    }

    /// This lane's pieces of its key h of two.
    __device__ void load_key(int h, std::uint32_t (&key)[words]) const
    {
        std::uint32_t const place = shared_address(ring_.place().of_block.key) + key_place_ + h * 8 * row_bytes;
#pragma unroll
        for (int i = 0; i < pieces; ++i)
        {
            uint4 const x = load_piece(place ^ i * 16); // the next of the lane's pieces
            key[4 * i] = x.x, key[4 * i + 1] = x.y, key[4 * i + 2] = x.z, key[4 * i + 3] = x.w;
        }
    }
    /// d += rows times columns; even and odd steps are summed apart, so that each waits for every second one alone.
    __device__ static void add_product(float (&d)[2][groups][4], std::uint32_t const (&rows)[2][words],
                                       uint4 const (&columns)[groups][pieces][32])
    {
#pragma unroll
        for (int i = 0; i < pieces; ++i)
#pragma unroll
            for (int r = 0; r < groups; ++r)
            {
                uint4 const x = columns[r][i][threadIdx.x % 32];
                std::uint32_t const even[2] = {x.x, x.y}, odd[2] = {x.z, x.w};
                add_warp_product<bfloat16>(
                    d[0][r], {rows[0][4 * i], rows[1][4 * i], rows[0][4 * i + 1], rows[1][4 * i + 1]}, even);
                add_warp_product<bfloat16>(
                    d[1][r], {rows[0][4 * i + 2], rows[1][4 * i + 2], rows[0][4 * i + 3], rows[1][4 * i + 3]}, odd);
            }
    }
    /// And, where features are made, the edges of this lane's keys.
    template <bool Both, bool Padded>
    __device__ void make_logits(float (&logits)[groups][4], std::uint32_t (&edges)[2]) const
    {
        float d[2][groups][4] = {};
        std::uint32_t key[2][words];
        load_key(0, key[0]), load_key(1, key[1]);
        add_product(d, key, ring_.own().query);
        if constexpr (Both && is_softmax<FeatureMap>)
        {
#pragma unroll
            for (int h = 0; h < 2; ++h) edges[h] = features::template edges<Padded>(key[h], a_.shape.width);
        }
#pragma unroll
        for (int r = 0; r < groups; ++r)
#pragma unroll
            for (int i = 0; i < 4; ++i) logits[r][i] = d[0][r][i] + d[1][r][i];
    }
    /// Minus phi(k) phi(q).
    template <bool Padded>
    __device__ void make_products(float (&products)[groups][4], std::uint32_t const (&edges)[2]) const
    {
        float d[2][groups][4] = {};
        if constexpr (is_softmax<FeatureMap>)
        {
#pragma unroll 1 // or registers would be asked for both halves at once
            for (int half = 0; half < features::halves; ++half)
            {
                std::uint32_t made[2][words];
#pragma unroll
                for (int h = 0; h < 2; ++h)
                {
                    std::uint32_t key[words];
                    if (!sums::shares) __syncwarp(); // so that registers are not asked for both keys at once
                    load_key(h, key);
                    features::template make_softmax<Padded>(key, edges[h], half, a_.shape.width, made[h]);
                }
                add_product(d, made, ring_.own().features[half]);
            }
        }
        else
        {
            add_half<0, Padded>(d);
            if constexpr (features::halves == 2)
            {
                add_half<1, Padded>(d);
            }
        }
#pragma unroll
        for (int r = 0; r < groups; ++r)
#pragma unroll
            for (int i = 0; i < 4; ++i) products[r][i] = -(d[0][r][i] + d[1][r][i]);
    }
    template <int Half, bool Padded>
    __device__ void add_half(float (&d)[2][groups][4]) const
    {
        std::uint32_t made[2][words];
#pragma unroll
        for (int h = 0; h < 2; ++h)
        {
            std::uint32_t key[words];
            load_key(h, key);
            features::template make<Half, Padded>(key, a_.shape.width, made[h]);
        }
        add_product(d, made, ring_.own().features[Half]);
    }

    /// Keys after the token's own have no weight; weight zero times a value there need not be zero.
    __device__ void hide(float (&logits)[groups][4], int seen)
    {
        int const lane = threadIdx.x % 32, key = first_key_ + lane / 4;
#pragma unroll
        for (int r = 0; r < groups; ++r)
#pragma unroll
            for (int i = 0; i < 4; ++i)
                if (key + i / 2 * 8 >= seen) logits[r][i] = -infinity;
        constexpr int row_pieces = Width / piece_numbers;
        for (int i = lane; i < warp_keys * row_pieces; i += 32)
        {
            int const row = first_key_ + i / row_pieces, piece = i % row_pieces;
            if (row >= seen)
                *reinterpret_cast<uint4*>(&ring_.place().of_block.value[piece / 8][row][piece % 8 * 8]) =
                    uint4{0, 0, 0, 0};
        }
        fence_shared_writes(); // the copy engine comes next
        __syncwarp();
    }

    /// As the operand of a product with values: pairs of keys.
    __device__ static void transpose(float const (&x)[4], std::uint32_t (&to)[2])
    {
        to[0] = transposed(pack<bfloat16>(x[0], x[1]));
        to[1] = transposed(pack<bfloat16>(x[2], x[3]));
    }
    __device__ void load_values(int step, std::uint32_t (&values)[4]) const
    {
        std::uint32_t const panel = shared_address(ring_.place().of_block.value) + step / 4 * panel_bytes;
        load_transposed(panel + (value_place_ ^ step % 4 * 32), values);
    }
    using operand = std::uint32_t[2];
    template <int Tiles>
    __device__ void sum_values(operand const (&weights)[Tiles], int first)
    {
#pragma unroll
        for (int m = 0; m < Width / 16; ++m)
        {
            std::uint32_t values[4];
            load_values(m, values);
#pragma unroll
            for (int r = 0; r < Tiles; ++r) add_warp_product<bfloat16>(sums_.sum[first + r][m], values, weights[r]);
        }
    }
    template <bool Both>
    __device__ void sum_branches(float (&weights)[groups][4], float const (&products)[groups][4])
    {
        constexpr bool shares = sums::shares;
        operand tiles[Both && !shares ? 2 * groups : groups];
#pragma unroll
        for (int r = 0; r < groups; ++r)
        {
#pragma unroll
            for (int i = 0; i < 4; ++i)
                if (!sums::is_exact()) weights[r][i] = Both ? products[r][i] : 0.0f;
            transpose(weights[r], tiles[r]);
            if constexpr (Both && !shares)
            {
                transpose(products[r], tiles[groups + r]);
            }
        }
        sum_values(tiles, 0);
    }
    /// What 16 bits lost of the residual's products, in a second sum. Seldom.
    __device__ void sum_rest(float const (&products)[groups][4])
    {
        operand tiles[groups];
#pragma unroll
        for (int r = 0; r < groups; ++r)
        {
            float x[4];
#pragma unroll
            for (int i = 0; i < 4; ++i)
                x[i] = sums::shares && sums::is_exact()
                           ? 0.0f
                           : products[r][i] - low_number(pack<bfloat16>(products[r][i], 0.0f));
            transpose(x, tiles[r]);
        }
        sum_values(tiles, sums::residual);
    }

    decode_arguments const& a_;
    ring_reader<memory>& ring_;
    int first_key_;             ///< of a block, this warp's
    std::uint32_t key_place_;   ///< of this lane's first piece of its first key, in a block's keys
    std::uint32_t value_place_; ///< of the row that this lane has loaded, in a panel of values
    sums sums_;
};

} // namespace spla::cuda
