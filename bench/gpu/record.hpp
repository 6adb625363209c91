// SPDX-FileCopyrightText: The spla authors
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once
#include "list_figures.hpp"
#include "settings.hpp"
#include "timing.hpp"

#include <cstdio>
#include <fstream>
#include <string>

/// Rows of the table, and lines of JSON.
namespace spla_bench
{

class record
{
public:
    record(settings const& s, std::string device) : device_(std::move(device))
    {
        if (!s.json.empty()) file_.open(s.json);
        std::printf("\n%-8s %-30s %6s %4s %10s %10s %10s %9s %8s %7s\n", "tokens", "what", "heads", "d", "ms", "min",
                    "max", "floor", "TFLOP/s", "union");
    }

    /// `operations`: the useful ones, 0 where they are not counted.
    void add(char const* study, std::string const& what, prefill_case const& c, milliseconds const& t,
             double operations, double union_ratio)
    {
        auto const& p = c.in.sizes;
        double const rate = operations / t.median / 1e9, floor = operations / peak;
        std::string const heads = std::to_string(p.query_heads) + "/" + std::to_string(p.key_heads);
        std::printf("%-8ld %-30s %6s %4ld %10.3f %10.3f %10.3f %9.3f %8.1f %7.2f\n", static_cast<long>(p.keys),
                    what.c_str(), heads.c_str(), static_cast<long>(p.head_dim), t.median, t.least, t.most, floor, rate,
                    union_ratio);
        std::fflush(stdout);
        if (!file_) return;
        begin(study, what, c, union_ratio);
        file_ << ", \"ms\": " << t.median << ", \"min\": " << t.least << ", \"max\": " << t.most
              << ", \"n\": " << t.count;
        if (operations > 0) file_ << ", \"tflops\": " << rate;
        file_ << ", \"floor_ms\": " << floor;
        end();
    }
    /// Not a time: how far rows are from fp64.
    void add_error(std::string const& what, prefill_case const& c, double relative, double largest, std::size_t rows)
    {
        std::printf("%-8ld %-30s relative error %.3e, largest %.3e, %zu rows\n", static_cast<long>(c.in.sizes.keys),
                    what.c_str(), relative, largest, rows);
        if (!file_) return;
        begin("error", what, c, 1);
        file_ << ", \"relative_error\": " << relative << ", \"largest_error\": " << largest << ", \"rows\": " << rows;
        end();
    }

private:
    static constexpr double peak = 690e9; // FLOPs in a millisecond, between burst and sustained

    void begin(char const* study, std::string const& what, prefill_case const& c, double union_ratio)
    {
        auto const& p = c.in.sizes;
        file_ << "{\"what\": \"prefill." << what << "\", \"study\": \"" << study
              << "\", \"shape\": {\"tokens\": " << p.keys << ", \"batch\": " << p.batch
              << ", \"q_heads\": " << p.query_heads << ", \"kv_heads\": " << p.key_heads << ", \"d\": " << p.head_dim
              << ", \"dv\": " << p.value_dim << ", \"dtype\": \"bf16\", \"top_k\": " << c.o.top_k
              << ", \"tile\": " << spla::window_of(c.o).tile << ", \"union_ratio\": " << union_ratio << "}";
    }
    void end() { file_ << ", \"device\": \"" << device_ << "\"}" << std::endl; }

    std::string device_;
    std::ofstream file_;
};

/// What every study is handed.
struct session
{
    settings const& s;
    record& r;
    timer const& time;
};

} // namespace spla_bench
