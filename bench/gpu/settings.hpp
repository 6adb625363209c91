// SPDX-FileCopyrightText: The spla authors
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once
#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <iterator>
#include <sstream>
#include <string>
#include <vector>

/// What the command lines of the programs here ask for.
namespace spla_bench
{

inline std::vector<std::string> split(std::string const& text)
{
    std::vector<std::string> parts;
    std::istringstream list(text);
    for (std::string part; std::getline(list, part, ',');) parts.push_back(part);
    return parts;
}
inline std::vector<std::int64_t> numbers_in(std::string const& text)
{
    std::vector<std::int64_t> numbers;
    for (auto const& part : split(text)) numbers.push_back(std::stoll(part));
    return numbers;
}

[[noreturn]] inline void refuse(char const* program, std::string const& argument)
{
    std::fprintf(stderr, "%s: what is %s?\n", program, argument.c_str());
    std::exit(2);
}

/// What all programs are asked.
struct shared_settings
{
    std::vector<std::int64_t> tokens;
    std::int64_t query_heads = 32, key_heads = 8, dim = 128;
    std::string json; ///< where lines of results go

    /// False: --name=value is not for all programs.
    bool take(std::string const& name, std::string const& value)
    {
        if (name == "--tokens")
            tokens = numbers_in(value);
        else if (name == "--heads")
            query_heads = std::stoll(value), key_heads = std::stoll(value.substr(value.find('/') + 1));
        else if (name == "--dim")
            dim = std::stoll(value);
        else if (name == "--json")
            json = value;
        else
            return false;
        return true;
    }
};

/// Hands name and value of each argument to take(), and refuses what it does not want.
template <class Take>
void read_arguments(char const* program, int count, char** arguments, Take const& take)
{
    for (int i = 1; i < count; ++i)
    {
        std::string const a = arguments[i];
        auto const end = a.find('=');
        if (end == std::string::npos || !take(a.substr(0, end), a.substr(end + 1))) refuse(program, a);
    }
}

/// Of bench_gpu_prefill.
struct settings : shared_settings
{
    int segment = 32768;
    std::vector<std::string> what{"sharings"};
    std::string inputs; ///< where the study of errors leaves its inputs, for peers to read

    bool wants(std::string const& study) const { return std::find(what.begin(), what.end(), study) != what.end(); }
};

char const* const studies[] = {"sharings", "given", "random", "groups", "short", "steps", "error"};

inline settings parse(int count, char** arguments)
{
    constexpr char const* program = "bench_gpu_prefill";
    settings s;
    s.tokens = {32768, 65536, 131072};
    read_arguments(program, count, arguments, [&](std::string const& name, std::string const& value) {
        if (s.take(name, value)) return true;
        if (name == "--segment")
            s.segment = std::stoi(value);
        else if (name == "--what")
            s.what = value == "all" ? std::vector<std::string>(std::begin(studies), std::end(studies)) : split(value);
        else if (name == "--inputs")
            s.inputs = value;
        else
            return false;
        return true;
    });
    for (auto const& study : s.what)
        if (std::find(std::begin(studies), std::end(studies), study) == std::end(studies))
            refuse(program, "--what=" + study);
    return s;
}

} // namespace spla_bench
