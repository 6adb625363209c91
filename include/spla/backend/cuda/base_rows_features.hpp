// SPDX-FileCopyrightText: The spla authors
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once
#include "base_rows_output.hpp"
#include "base_rows_plain.hpp"
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
        if (a_.shape.width == Width && a_.query_steps.known)
            make_features<true>(note, Width);
        else
            make_features<false>(note, a_.shape.width);
    }
    /// Four rows at a time. What is behind the tile's rows is a column of the products that nobody reads. Full: they
    /// are Width wide.
    template <bool Full>
    __device__ void make_features(base_rows const& note, int width)
    {
        int const n = note.number, count = (note.count + warp_rows - 1) / warp_rows * warp_rows;
        int row = warp_rows * first_part(n) + threadIdx.x % 32 / 8;
        row_words fetched;
        fetch<Full>(note, row, width, fetched);
        // The products that were here are those of `lag` rows before the last.
        int const before = n - memory::places + 1;
        if (before >= 0) m_.products_read[before % memory::places].wait(phase_parity(before, memory::places));
        std::uint32_t const panels = shared_address(m_.rows[n % memory::places].features);
#pragma unroll 1
        for (; row < count; row += warp_rows * warps)
        {
            std::uint32_t const to = panels + features::place_in_row(row);
            std::uint32_t edges = 0;
            if constexpr (Full)
            {
                edges = features::edges(fetched);
            }
            float x[2 * features::pairs];
            if constexpr (features::halves == 2)
            {
                features::unpack_pairs(fetched, x);
                make<0, Full>(x, width, edges);
                features::template store<panel_bytes>(x, to);
            }
            features::unpack_pairs(fetched, x);
            fetch<Full>(note, row + warp_rows * warps, width, fetched); // they arrive while this half is made
            make<features::halves - 1, Full>(x, width, edges);
            features::template store<panel_bytes>(x, to + (features::halves - 1) * memory::panels * panel_bytes);
        }
        fence_shared_writes();
        m_.features_full[n % memory::places].arrive();
    }
    template <int Half, bool Full>
    __device__ static void make(float (&x)[2 * features::pairs], int width, std::uint32_t edges)
    {
        if constexpr (Full)
        {
            features::template make_full<Half>(x, edges);
        }
        else
        {
            features::template make<Half>(x, width);
        }
    }
    template <bool Full>
    __device__ void fetch(base_rows const& note, int row, int width, row_words& fetched) const
    {
        base_row_place const place(note, a_.shape.tiles.group);
        if constexpr (Full)
        {
            int const last = note.count - 1; // behind it that one again
            features::fetch_full(place.row(note.query, a_.query_steps, row < last ? row : last), fetched);
        }
        else
            features::fetch(row < note.count ? place.row(note.query, a_.query, row) : nullptr, width, fetched);
    }
    /// Warps take parts of rows in turn, each time from another one on.
    __device__ int first_part(int n) const
    {
        return (warp_ + n) % warps;
    }

    __device__ void finish(base_rows const& note)
    {
        if (a_.is_plain)
        {
            if (a_.out.rule.kind == combination_kind::rms_sum)
                store_plain<true>(note);
            else
                store_plain<false>(note);
        }
        else if (a_.shape.tiles.value_dim == Width)
            store_products<true>(note);
        else
            store_products<false>(note);
    }
    template <bool Normalises>
    __device__ void store_plain(base_rows const& note)
    {
        int const n = note.number;
        base_rows_plain<Width, Normalises> output(a_, note, first_part(n));
        output.store(finished_products(note), warps);
        if (note.works) m_.products_read[n % memory::places].arrive();
    }
    template <bool Full>
    __device__ void store_products(base_rows const& note)
    {
        int const n = note.number;
        base_rows_output<Width, Full> output(a_, note, first_part(n));
        output.store(finished_products(note), warps);
        if (note.works) m_.products_read[n % memory::places].arrive();
    }

    /// Waits for a note's products: their shared address, or 0.
    __device__ std::uint32_t finished_products(base_rows const& note) const
    {
        if (!note.works) return 0;
        m_.products_full[note.number % memory::places].wait(phase_parity(note.number, memory::places));
        return shared_address(m_.products(note.number));
    }

    static constexpr int panel_bytes = memory::rows_at_once * panel_width * 2;
    base_state_arguments const& a_;
    memory& m_;
    int warp_;
};

} // namespace spla::cuda
