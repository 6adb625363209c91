// SPDX-FileCopyrightText: The spla authors
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <iterator>
#include <string>

/// What is fuzzed: each target takes any bytes. A fuzzer chooses them (entry.cpp), or a generator (random_test.cpp).
namespace spla_fuzz
{
/// A file for the first lesson: taken, or refused in one printable line.
void reader(std::uint8_t const* data, std::size_t size);
/// Sizes, options, pools and views: check() says what the calls throw, and what it lets pass has sizes that fit.
void checker(std::uint8_t const* data, std::size_t size);
/// The numbers of an engine's steps (offsets, lengths, slots, pages, lists): refused with nothing written, or run;
/// nothing out of bounds is read or written either way.
void steps(std::uint8_t const* data, std::size_t size);

/// Ends the program where something that must hold does not, as a fuzzer wants it.
inline void must(bool holds, char const* what)
{
    if (holds) return;
    std::fprintf(stderr, "does not hold: %s\n", what);
    std::abort();
}

/// Numbers out of bytes; zeros when they are used up.
class number_source
{
public:
    number_source(std::uint8_t const* data, std::size_t size) : data_(data), end_(data + size) {}
    bool empty() const { return data_ == end_; }
    std::uint8_t byte() { return data_ == end_ ? std::uint8_t{0} : *data_++; }
    bool flag() { return byte() % 2 == 1; }
    /// 0 to n - 1.
    int below(int n) { return byte() % n; }
    /// Small, or beside the end of a type, or anything.
    std::int64_t number()
    {
        static constexpr std::int64_t edges[] = {INT64_MIN,
                                                 INT64_MIN + 1,
                                                 INT64_MAX,
                                                 INT64_MAX - 1,
                                                 INT32_MAX,
                                                 std::int64_t{INT32_MAX} + 1,
                                                 INT32_MIN,
                                                 std::int64_t{INT32_MIN} - 1,
                                                 std::int64_t{1} << 32,
                                                 std::int64_t{1} << 40,
                                                 std::int64_t{1} << 57,
                                                 std::int64_t{1} << 62,
                                                 1024,
                                                 1025,
                                                 4096,
                                                 -1};
        std::uint8_t const kind = byte();
        if (kind < 200) return kind % 100;
        if (kind < 232) return edges[kind % std::size(edges)];
        return raw<std::int64_t>();
    }
    int small_number() { return static_cast<int>(number()); }
    template <class T>
    T raw()
    {
        std::uint8_t bytes[sizeof(T)];
        for (auto& b : bytes) b = byte();
        T x;
        std::memcpy(&x, bytes, sizeof(T));
        return x;
    }

private:
    std::uint8_t const *data_, *end_;
};

/// A line that a terminal shows as it is.
inline bool printable(std::string const& line)
{
    for (char c : line)
        if (c < ' ' || c > '~') return false;
    return !line.empty() && line.size() < 1000;
}
} // namespace spla_fuzz
