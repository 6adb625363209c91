// SPDX-FileCopyrightText: The spla authors
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once
#include <nlohmann/json.hpp>

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>
#include <vector>

/// Files for the first lesson: one that it takes, and many that it must refuse.
namespace spla_test
{
using nlohmann::json;

/// A folder that is gone when the test is over.
struct folder
{
    std::filesystem::path path;

    explicit folder(std::string const& name) : path(std::filesystem::absolute(name))
    {
        std::filesystem::remove_all(path);
        std::filesystem::create_directories(path);
    }
    folder(folder const&) = delete;
    ~folder()
    {
        std::error_code ignored;
        std::filesystem::remove_all(path, ignored);
    }
    std::string write(std::string const& name, std::string const& bytes) const
    {
        std::ofstream(path / name, std::ios::binary) << bytes;
        return (path / name).string();
    }
    std::string read(std::string const& name) const
    {
        std::ostringstream text;
        text << std::ifstream(path / name, std::ios::binary).rdbuf();
        return text.str();
    }
};

/// The eight bytes that every file begins with.
inline std::string length_bytes(std::uint64_t length)
{
    std::string bytes;
    for (int i = 0; i < 8; ++i) bytes += static_cast<char>(length >> (8 * i) & 255);
    return bytes;
}

/// A file's parts, in bfloat16: q [tokens, query heads, D], k and v [tokens, key heads, D].
struct parts
{
    json header;
    std::string data;

    explicit parts(int tokens = 1024, int query_heads = 2, int key_heads = 1, int width = 4)
    {
        header["__metadata__"] = {{"model", "none"}};
        std::int64_t at = 0;
        for (auto const& [name, heads] : {std::pair{"q", query_heads}, {"k", key_heads}, {"v", key_heads}})
        {
            std::int64_t const end = at + std::int64_t{2} * tokens * heads * width;
            header[name] = {{"dtype", "BF16"}, {"shape", {tokens, heads, width}}, {"data_offsets", {at, end}}};
            at = end;
        }
        // Numbers from 0.5 to 2, of either sign.
        for (std::int64_t i = 0; i < at / 2; ++i)
        {
            data += static_cast<char>(i * 37 % 256);
            data += static_cast<char>(i * i % 7 < 3 ? 0x3f : 0xbf);
        }
    }
    std::string bytes() const { return with_header(header.dump()); }
    std::string with_header(std::string const& text) const { return length_bytes(text.size()) + text + data; }
};

struct bad_file
{
    std::string name, bytes;
    std::string wanted; ///< what the message must contain
};

inline std::vector<bad_file> bad_files()
{
    std::vector<bad_file> all;
    auto const add = [&](char const* name, std::string const& bytes, char const* wanted) {
        all.push_back({name, bytes, wanted});
    };
    parts const good;
    add("empty", "", "too short");
    add("seven bytes", "1234567", "too short");
    add("a length alone", length_bytes(2), "only 0 follow");
    add("a header past the end", length_bytes(good.bytes().size() - 7) + good.bytes().substr(8), "follow");
    add("a header of 2^63 bytes", length_bytes(std::uint64_t{1} << 63) + good.bytes().substr(8), "9223372036854775808");
    add("a header of 2^64 - 1 bytes", length_bytes(~std::uint64_t{0}), "18446744073709551615");
    add("a header above a MiB", good.with_header(good.header.dump() + std::string(1 << 20, ' ')), "at most 1048576");
    add("no header", length_bytes(0) + good.data, "not a JSON object");
    add("not JSON", good.with_header("safetensors"), "not a JSON object");
    add("half of a header", good.with_header(good.header.dump().substr(0, 90)), "not a JSON object");
    add("a JSON array", good.with_header("[1, 2]"), "not a JSON object");
    add("not UTF-8", good.with_header("{\"q\": \"\xff\xfe\"}"), "not a JSON object");
    add("deep arrays", good.with_header(std::string(1 << 20, '[')), "nested too deeply");
    std::string deep = "{\"q\": {\"dtype\": " + std::string(400000, '[') + std::string(400000, ']') + "}}";
    add("a deep dtype", good.with_header(deep), "nested too deeply");
    deep.clear();
    for (int i = 0; i < 100000; ++i) deep += "{\"q\":";
    add("deep objects", good.with_header(deep), "nested too deeply");
    std::string cut = good.bytes();
    cut.pop_back();
    add("the last byte cut off", cut, "truncated");
    return all;
}

/// Files whose header or data is changed in one place.
inline std::vector<bad_file> spoiled_files()
{
    std::vector<bad_file> all;
    auto const add = [&](char const* name, char const* wanted, auto const& change) {
        parts p;
        change(p);
        all.push_back({name, p.bytes(), wanted});
    };
    // One field of one tensor.
    auto const put = [&](char const* name, char const* wanted, char const* tensor, char const* field, json value) {
        add(name, wanted, [&](parts& p) { p.header[tensor][field] = value; });
    };
    add("no v", "no tensor 'v'", [](parts& p) { p.header.erase("v"); });
    add("an entry that is text", "not described by an object", [](parts& p) { p.header["q"] = "tensor"; });
    add("no dtype", "no dtype", [](parts& p) { p.header["q"].erase("dtype"); });
    put("another dtype", "dtype \"I64\"", "q", "dtype", "I64");
    put("a dtype in two lines", "dtype \"BF16\\nall is well", "q", "dtype", "BF16\nall is well\r\x1b[2J");
    put("a long dtype", "...", "k", "dtype", std::string(100000, 'F'));
    put("a dtype that is a number", "dtype 16", "k", "dtype", 16);
    put("a dtype that is a list", "dtype an array", "k", "dtype", json::array({"BF16"}));
    add("no shape", "no shape", [](parts& p) { p.header["k"].erase("shape"); });
    put("a shape that is a number", "no shape", "k", "shape", 4096);
    put("two dimensions", "[token, head, dim]", "k", "shape", {1024, 4});
    put("four dimensions", "[token, head, dim]", "k", "shape", {1, 1024, 1, 4});
    put("no dimension", "its shape needs 2", "k", "shape", json::array());
    put("a tensor of nothing", "its shape needs 0", "k", "shape", {1024, 0, 4});
    put("another size", "its shape needs 8184", "k", "shape", {1023, 1, 4});
    put("a negative extent", "-1024, not a whole number", "q", "shape", {-1024, 2, 4});
    put("half an extent", "1024.5, not a whole number", "q", "shape", {1024.5, 2, 4});
    put("an extent as a fraction", "1024.0, not a whole number", "q", "shape", {1024.0, 2, 4});
    put("an extent in words", "not a whole number", "q", "shape", {"1024\n", 2, 4});
    put("an extent of 2^64 - 1", "18446744073709551615, not", "q", "shape", {~std::uint64_t{0}, 2, 4});
    put("a product that overflows", "larger than the file", "q", "shape",
        {std::int64_t{1} << 32, std::int64_t{1} << 32, 4});
    put("a product that overflows to its size", "larger than the file", "q", "shape",
        {(std::int64_t{1} << 62) + 1024, 2, 4});
    add("no offsets", "pair of data_offsets", [](parts& p) { p.header["v"].erase("data_offsets"); });
    put("one offset", "pair of data_offsets", "v", "data_offsets", json::array({0}));
    put("offsets past the end", "truncated", "v", "data_offsets", {24577, 32769});
    put("offsets far past the end", "truncated", "v", "data_offsets", {INT64_MAX - 8192, INT64_MAX});
    put("offsets in reverse", "truncated", "v", "data_offsets", {32768, 24576});
    put("a negative offset", "-8192, not a whole number", "v", "data_offsets", {-8192, 0});
    put("half an offset", "not a whole number", "v", "data_offsets", {24576.5, 32768});
    put("offsets that are too close", "has 8191 bytes", "v", "data_offsets", {24577, 32768});
    put("v where k lies", "overlaps", "v", "data_offsets", {16384, 24576});
    put("v that begins in k", "overlaps", "v", "data_offsets", {24574, 32766});
    auto const number = [&](char const* name, std::size_t at, int high, int low) {
        add(name, "not finite",
            [&](parts& p) { p.data[at] = static_cast<char>(low), p.data[at + 1] = static_cast<char>(high); });
    };
    number("NaN first in q", 0, 0x7f, 0xc0);
    number("NaN last in v", 32766, 0xff, 0xc1);
    number("infinity in k", 16384, 0xff, 0x80);
    auto const sizes = [&](char const* name, char const* wanted, parts const& p) {
        all.push_back({name, p.bytes(), wanted});
    };
    put("q and k of other tokens", "different numbers of tokens", "q", "shape", {2048, 1, 4});
    put("k and v of other heads", "heads", "v", "shape", {1024, 2, 2});
    put("k wider than q", "different widths", "q", "shape", {1024, 4, 2});
    sizes("three heads for two", "no multiple", parts(1024, 3, 2));
    sizes("too few tokens", "1023 tokens", parts(1023));
    sizes("too many tokens", "131073 tokens", parts(131073, 1, 1, 1));
    sizes("heads that are too wide", "head_dim is 1025", parts(1024, 1, 1, 1025));
    sizes("a group that is too large", "query heads per key head is 1025", parts(1024, 1025, 1, 1));
    return all;
}

} // namespace spla_test
