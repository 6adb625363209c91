// SPDX-FileCopyrightText: The spla authors
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once
#include "base_rows_output.hpp"
#include "query_features.hpp"

/// The warps that help those that multiply: phi(q) of the next rows in, finished rows out (spec section 4).
namespace spla::cuda
{

template <class FeatureMap, int Width>
class base_rows_helper
{
    using features = octet_features<FeatureMap, Width>;
    using memory = base_state_memory<features::halves, Width>;
    using row_words = typename features::words;
    static constexpr int warps = memory::helping_warps;
    static constexpr int warp_rows = 4;

public:
    __device__ base_rows_helper(base_state_arguments const& a, memory& m, int warp) : a_(a), m_(m), warp_(warp) {}

    /// Rows are finished after the next ones' features are made, which the multiplying warps find ready. The last are
    /// followed by more notes that work on nothing.
    __device__ void run()
    {
        for (int n = 0;; ++n)
        {
            base_rows const& note = m_.note[n % memory::notes];
            m_.note_full[n % memory::notes].wait(phase_parity(n, memory::notes));
            if (note.works) make_features(note);
            if (n < memory::lag) continue;
            base_rows const& finished = m_.note[(n - memory::lag) % memory::notes];
            if (!finished.exists) return;
            finish(finished);
            m_.note_free[(n - memory::lag) % memory::notes].arrive();
        }
    }

private:
    __device__ void make_features(base_rows const& note)
    {
        if (a_.shape.width == Width)
            make_features<true>(note, Width);
        else
            make_features<false>(note, a_.shape.width);
    }
    /// Four rows at a time. What is behind the tile's rows is a column of the products that nobody reads. Full: they
    /// are Width wide.
    template <bool Full>
    __device__ void make_features(base_rows const& note, int width)
    {
        if constexpr (Full)
        {
            width = Width;
        }
        int const n = note.number, count = (note.count + warp_rows - 1) / warp_rows * warp_rows;
        int row = warp_rows * first_part(n) + threadIdx.x % 32 / 8;
        row_words fetched;
        fetch(note, row, width, fetched);
        // The products that were here are those of `lag` rows before the last.
        int const before = n - memory::places + 1;
        if (before >= 0) m_.products_read[before % memory::places].wait(phase_parity(before, memory::places));
        std::uint32_t const panels = shared_address(m_.rows[n % memory::places].features);
#pragma unroll 1
        for (; row < count; row += warp_rows * warps)
        {
            std::uint32_t const to = panels + features::place_in_row(row);
            float x[2 * features::pairs];
            if constexpr (features::halves == 2)
            {
                features::unpack_pairs(fetched, x);
                features::template make<0>(x, width);
                features::template store<panel_bytes>(x, to);
            }
            features::unpack_pairs(fetched, x);
            fetch(note, row + warp_rows * warps, width, fetched); // they arrive while this half is made
            features::template make<features::halves - 1>(x, width);
            features::template store<panel_bytes>(x, to + (features::halves - 1) * memory::panels * panel_bytes);
        }
        fence_shared_writes();
        m_.features_full[n % memory::places].arrive();
    }
    __device__ void fetch(base_rows const& note, int row, int width, row_words& fetched) const
    {
        base_row_place const place(note, a_.shape.tiles.group);
        features::fetch(row < note.count ? place.row(note.query, a_.query, row) : nullptr, width, fetched);
    }
    /// Warps take parts of rows in turn, each time from another one on.
    __device__ int first_part(int n) const
    {
        return (warp_ + n) % warps;
    }

    __device__ void finish(base_rows const& note)
    {
        if (a_.shape.tiles.value_dim == Width)
            store_products<true>(note);
        else
            store_products<false>(note);
    }
    template <bool Full>
    __device__ void store_products(base_rows const& note)
    {
        int const n = note.number;
        base_rows_output<Width, Full> output(a_, note, first_part(n));
        std::uint32_t products = 0;
        if (note.works)
        {
            m_.products_full[n % memory::places].wait(phase_parity(n, memory::places));
            products = shared_address(m_.products(n));
        }
        output.store(products, warps);
        if (note.works) m_.products_read[n % memory::places].arrive();
    }

    static constexpr int panel_bytes = memory::rows_at_once * panel_width * 2;
    base_state_arguments const& a_;
    memory& m_;
    int warp_;
};

} // namespace spla::cuda
