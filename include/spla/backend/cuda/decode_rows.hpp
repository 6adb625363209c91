// SPDX-FileCopyrightText: The spla authors
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once
#include "decode_state.hpp"

/// One run of a decoded token: softmax and the weighted sum of values (spec section 3), and the residual's
/// products over the same keys and values (section 4).
///
/// A warp has a block of the run, 16 keys at a time, and waits for no other warp before the run ends. Keys are the rows
/// of its products and the group's query heads their columns: a lane has keys lane / 4 and 8 more, heads lane % 4 * 2
/// and the next. So a key lies before a lane by whole pieces, and its features are made where the next product wants
/// them.
namespace spla::cuda
{

template <class FeatureMap, int Width, int Columns>
class decode_rows
{
    using features = quad_features<FeatureMap, Width>;
    using memory = decode_memory<features::halves, Width>;
    using slice = typename memory::slice;
    using sums = decode_sums<memory, Width, Columns>;
    static constexpr int words = features::words, pieces = features::pieces;
    static constexpr int row_bytes = panel_width * 2, panel_bytes = slice_keys * row_bytes;
    static constexpr float infinity = __builtin_huge_valf();

public:
    __device__ decode_rows(decode_arguments const& a, memory& m) : a_(a), m_(m)
    {
        int const lane = threadIdx.x % 32, t = lane % 4;
        int const piece = features::piece_of(t, 0), key = lane / 4;
        key_place_ = piece / 8 * panel_bytes + key * row_bytes + (piece % 8 ^ key % 8) * 16;
        row_place_ = lane % 16 * row_bytes + (lane / 16 ^ lane % 8) * 16;
        int const row = lane % 8 + lane / 16 * 8;
        value_place_ = row * row_bytes + (lane / 8 % 2 ^ row % 8) * 16;
    }

    /// Begins a run of an item, with its share of the state.
    __device__ void open(decode_item const& item, int run)
    {
        sums_.clear();
        has_residual_ = false;
        if (!item.state) return;
        int const share = a_.shape.state_share(item.runs), first = run * share, left = a_.shape.features - first;
        if (left <= 0) return;
        has_residual_ = true;
        add_state<FeatureMap, Width>(a_, item.state, first, left < share ? left : share, m_, sums_);
    }
    /// Adds a slice, for the exact branch and, where it is subtracted, for the residual.
    __device__ void add(slice& keys, decode_note const& note)
    {
        if (note.seen <= 0) return;
        slice_ = &keys;
        float logits[4], products[4] = {};
        std::uint32_t edges[2] = {};
        make_logits(note.subtracts, logits, edges);
        if (note.seen < slice_keys) hide(logits, note.seen);
        sums_.weigh(logits, a_.shape.scale);
        if (note.subtracts)
        {
            has_residual_ = true;
            make_products(products, edges);
        }
        sum_branches(logits, products, note.subtracts);
        if (note.subtracts && note.fine) sum_rest(products);
    }
    /// Ends the run in its unmerged rows, by way of each warp's last slice. The whole block calls it.
    __device__ void store(int number, slice& own)
    {
        m_.last[threadIdx.x / 32] = &own;
        sums_.store(a_, m_, run_of(a_, number), has_residual_, own);
    }

private:
    /// This lane's pieces of its key h of two.
    __device__ void load_key(int h, std::uint32_t (&key)[words]) const
    {
        std::uint32_t const place = shared_address(slice_->rows.key) + key_place_ + h * 8 * row_bytes;
#pragma unroll
        for (int i = 0; i < pieces; ++i)
        {
            uint4 const x = load_piece(place ^ i * 16); // the next of the lane's pieces
            key[4 * i] = x.x, key[4 * i + 1] = x.y, key[4 * i + 2] = x.z, key[4 * i + 3] = x.w;
        }
    }
    /// d += rows times columns; even and odd steps are summed apart, so that each waits for every second one alone.
    __device__ static void add_product(float (&d)[2][4], std::uint32_t const (&rows)[2][words],
                                       uint4 const (&columns)[pieces][32])
    {
#pragma unroll
        for (int i = 0; i < pieces; ++i)
        {
            uint4 const x = columns[i][threadIdx.x % 32];
            std::uint32_t const even[2] = {x.x, x.y}, odd[2] = {x.z, x.w};
            add_warp_product<bfloat16>(d[0], {rows[0][4 * i], rows[1][4 * i], rows[0][4 * i + 1], rows[1][4 * i + 1]},
                                       even);
            add_warp_product<bfloat16>(
                d[1], {rows[0][4 * i + 2], rows[1][4 * i + 2], rows[0][4 * i + 3], rows[1][4 * i + 3]}, odd);
        }
    }
    /// Logits of a slice; and, where its keys are subtracted, the edges of this lane's.
    __device__ void make_logits(bool subtracts, float (&logits)[4], std::uint32_t (&edges)[2]) const
    {
        constexpr int steps = Width / 16;
        std::uint32_t const keys = shared_address(slice_->rows.key) + row_place_;
        float d[2][4] = {};
        std::uint32_t key[steps][4];
#pragma unroll
        for (int s = 0; s < steps; ++s) load_matrices((keys + s / 4 * panel_bytes) ^ s % 4 * 32, key[s]);
#pragma unroll
        for (int i = 0; i < steps / 2; ++i)
        {
            uint4 const x = m_.query[i][threadIdx.x % 32];
            std::uint32_t const even[2] = {x.x, x.y}, odd[2] = {x.z, x.w};
            add_warp_product<bfloat16>(d[0], key[2 * i], even);
            add_warp_product<bfloat16>(d[1], key[2 * i + 1], odd);
        }
        if constexpr (is_softmax<FeatureMap>)
        {
            if (subtracts)
            {
                auto const find = [&](auto const& there) {
#pragma unroll
                    for (int h = 0; h < 2; ++h)
                    {
                        typename features::edges_of_row made;
#pragma unroll
                        for (int i = 0; i < 2 * steps; ++i) made.add(key[i / 2][h + i % 2 * 2], there(i));
                        edges[h] = made.edges();
                    }
                };
                if (a_.shape.width == Width)
                    find([](int) { return true; });
                else
                    find([&](int piece) { return piece * piece_numbers < a_.shape.width; });
            }
        }
#pragma unroll
        for (int i = 0; i < 4; ++i) logits[i] = d[0][i] + d[1][i];
    }
    /// Minus phi(k) phi(q).
    __device__ void make_products(float (&products)[4], std::uint32_t const (&edges)[2]) const
    {
        float d[2][4] = {};
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
                    load_key(h, key);
                    features::template make_softmax<true>(key, edges[h], half, a_.shape.width, made[h]);
                }
                add_product(d, made, m_.features[half]);
            }
        }
        else
        {
            add_half<0>(d);
            if constexpr (features::halves == 2)
            {
                add_half<1>(d);
            }
        }
#pragma unroll
        for (int i = 0; i < 4; ++i) products[i] = -(d[0][i] + d[1][i]);
    }
    template <int Half>
    __device__ void add_half(float (&d)[2][4]) const
    {
        std::uint32_t made[2][words];
#pragma unroll
        for (int h = 0; h < 2; ++h)
        {
            std::uint32_t key[words];
            load_key(h, key);
            features::template make<Half, true>(key, a_.shape.width, made[h]);
        }
        add_product(d, made, m_.features[Half]);
    }

    /// Keys after the token's own have no weight; weight zero times a value there need not be zero.
    __device__ void hide(float (&logits)[4], int seen)
    {
        int const lane = threadIdx.x % 32;
#pragma unroll
        for (int i = 0; i < 4; ++i)
            if (lane / 4 + i / 2 * 8 >= seen) logits[i] = -infinity;
        constexpr int row_pieces = Width / piece_numbers;
        for (int i = lane; i < slice_keys * row_pieces; i += 32)
        {
            int const row = i / row_pieces, piece = i % row_pieces;
            if (row >= seen)
                *reinterpret_cast<uint4*>(&slice_->rows.value[piece / 8][row][piece % 8 * 8]) = uint4{0, 0, 0, 0};
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
        std::uint32_t const panel = shared_address(slice_->rows.value) + step / 4 * panel_bytes;
        load_transposed(panel + (value_place_ ^ step % 4 * 32), values);
    }
    __device__ void sum_branches(float (&weights)[4], float const (&products)[4], bool subtracts)
    {
#pragma unroll
        for (int i = 0; i < 4; ++i) weights[i] = sums::is_exact() ? weights[i] : products[i];
        std::uint32_t exact[2], other[2];
        transpose(weights, exact);
        if constexpr (!sums::shares)
        {
            transpose(products, other);
        }
#pragma unroll
        for (int m = 0; m < Width / 16; ++m)
        {
            std::uint32_t values[4];
            load_values(m, values);
            add_warp_product<bfloat16>(sums_.sum[0][m], values, exact);
            if constexpr (!sums::shares)
            {
                if (subtracts) add_warp_product<bfloat16>(sums_.sum[sums::residual][m], values, other);
            }
        }
    }
    /// What 16 bits lost of the residual's products, in a second sum. Seldom.
    __device__ void sum_rest(float const (&products)[4])
    {
        float x[4];
#pragma unroll
        for (int i = 0; i < 4; ++i)
            x[i] =
                sums::shares && sums::is_exact() ? 0.0f : products[i] - low_number(pack<bfloat16>(products[i], 0.0f));
        std::uint32_t rest[2];
        transpose(x, rest);
#pragma unroll
        for (int m = 0; m < Width / 16; ++m)
        {
            std::uint32_t values[4];
            load_values(m, values);
            add_warp_product<bfloat16>(sums_.sum[sums::residual][m], values, rest);
        }
    }

    decode_arguments const& a_;
    memory& m_;
    slice* slice_;              ///< that is added
    bool has_residual_;         ///< this warp, in the run
    std::uint32_t key_place_;   ///< of this lane's first piece of its first key, in a slice's keys
    std::uint32_t row_place_;   ///< of the row that this lane has loaded, in a panel of keys
    std::uint32_t value_place_; ///< and in one of values
    sums sums_;
};

} // namespace spla::cuda
