// SPDX-FileCopyrightText: The spla authors
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once
#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <sstream>
#include <string>
#include <vector>

/// What the command line asks of bench_gpu_prefill.
namespace spla_bench
{

struct settings
{
    std::vector<std::int64_t> tokens{32768, 65536, 131072};
    std::int64_t query_heads = 32, key_heads = 8, dim = 128;
    int segment = 32768;
    std::vector<std::string> what{"sharings"};
    std::string json;   ///< where lines of results go
    std::string inputs; ///< where the study of errors leaves its inputs, for peers to read

    bool wants(std::string const& study) const { return std::find(what.begin(), what.end(), study) != what.end(); }
};

char const* const studies[] = {"sharings", "given", "random", "groups", "short", "steps", "error"};

inline std::vector<std::string> split(std::string const& text)
{
    std::vector<std::string> parts;
    std::istringstream list(text);
    for (std::string part; std::getline(list, part, ',');) parts.push_back(part);
    return parts;
}

[[noreturn]] inline void refuse(std::string const& argument)
{
    std::fprintf(stderr, "bench_gpu_prefill: what is %s?\n", argument.c_str());
    std::exit(2);
}

inline settings parse(int count, char** arguments)
{
    settings s;
    for (int i = 1; i < count; ++i)
    {
        std::string const a = arguments[i];
        auto const value = a.substr(a.find('=') + 1);
        if (a.rfind("--tokens=", 0) == 0)
        {
            s.tokens.clear();
            for (auto const& n : split(value)) s.tokens.push_back(std::stoll(n));
        }
        else if (a.rfind("--heads=", 0) == 0)
            s.query_heads = std::stoll(value), s.key_heads = std::stoll(value.substr(value.find('/') + 1));
        else if (a.rfind("--dim=", 0) == 0)
            s.dim = std::stoll(value);
        else if (a.rfind("--segment=", 0) == 0)
            s.segment = std::stoi(value);
        else if (a.rfind("--what=", 0) == 0)
            s.what = value == "all" ? std::vector<std::string>(std::begin(studies), std::end(studies)) : split(value);
        else if (a.rfind("--json=", 0) == 0)
            s.json = value;
        else if (a.rfind("--inputs=", 0) == 0)
            s.inputs = value;
        else
            refuse(a);
    }
    for (auto const& study : s.what)
        if (std::find(std::begin(studies), std::end(studies), study) == std::end(studies)) refuse("--what=" + study);
    return s;
}

} // namespace spla_bench
