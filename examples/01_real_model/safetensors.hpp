// SPDX-FileCopyrightText: The spla authors
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once
#include <nlohmann/json.hpp>

#include <cstdint>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <map>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

/// A reader of safetensors files: 8 bytes of header length, a JSON header, then the tensors' bytes.
/// Nothing of the file is believed: every length is held against what is there before it is used.
namespace lesson
{

/// What is wrong with a file, in one line.
struct file_error : std::runtime_error
{
    using std::runtime_error::runtime_error;
};

enum class stored_type
{
    bfloat16,
    float16,
    float32
};

inline std::size_t size_of(stored_type type)
{
    return type == stored_type::float32 ? 4 : 2;
}

struct stored_tensor
{
    stored_type type = stored_type::float32;
    std::vector<std::int64_t> shape;
    std::vector<unsigned char> bytes;
};

namespace detail
{
/// Most bytes of a header, and the deepest nesting in it: a header that says what the format has to say stays far below
/// both, and what the parser makes of it in memory stays within a few dozen times the header.
inline constexpr std::uint64_t most_header_bytes = std::uint64_t{1} << 20;
inline constexpr int deepest_header = 8;

/// Something of the file as a message may show it: JSON in ASCII, control characters escaped, so that it stays on its
/// line, and no longer than a name.
inline std::string printable(nlohmann::json const& value)
{
    using json = nlohmann::json;
    if (value.is_array()) return "an array";
    if (value.is_object()) return "an object";
    std::string const text = value.dump(-1, ' ', true, json::error_handler_t::replace);
    return text.size() <= 24 ? text : text.substr(0, 24) + "...";
}

/// The header's JSON. The parser itself does not recurse, but printing does, and destruction in older versions of the
/// library: depth is refused while it grows.
inline nlohmann::json parse_header(std::string const& text)
{
    using json = nlohmann::json;
    json const header = json::parse(
        text,
        [](int depth, json::parse_event_t, json const&) {
            if (depth > deepest_header) throw file_error("has a header nested too deeply");
            return true;
        },
        false);
    if (!header.is_object()) throw file_error("has a header that is not a JSON object");
    return header;
}

inline std::int64_t natural_number(nlohmann::json const& value, std::string const& what)
{
    // A number above the largest int64 is unsigned in the parser, and is refused like a negative one or a fraction.
    if (!value.is_number_unsigned() || value.get<std::uint64_t>() > static_cast<std::uint64_t>(INT64_MAX))
        throw file_error(what + " is " + printable(value) + ", not a whole number from 0 to 2^63 - 1");
    return static_cast<std::int64_t>(value.get<std::uint64_t>());
}

inline stored_type type_of(nlohmann::json const& entry, std::string const& what)
{
    if (!entry.contains("dtype")) throw file_error(what + " has no dtype");
    nlohmann::json const& name = entry["dtype"];
    if (name == "BF16") return stored_type::bfloat16;
    if (name == "F16") return stored_type::float16;
    if (name == "F32") return stored_type::float32;
    throw file_error(what + " has dtype " + printable(name) + "; BF16, F16 and F32 can be read");
}

/// One entry of the header, checked against `data_bytes`, the bytes behind the header; returns where its bytes begin.
inline std::int64_t read_entry(nlohmann::json const& entry, std::string const& what, std::int64_t data_bytes,
                               stored_tensor& made)
{
    if (!entry.is_object()) throw file_error(what + " is not described by an object");
    made.type = type_of(entry, what);
    if (!entry.contains("shape") || !entry["shape"].is_array()) throw file_error(what + " has no shape");
    if (!entry.contains("data_offsets") || !entry["data_offsets"].is_array() || entry["data_offsets"].size() != 2)
        throw file_error(what + " has no pair of data_offsets");
    std::int64_t bytes = static_cast<std::int64_t>(size_of(made.type));
    for (auto const& extent : entry["shape"])
    {
        made.shape.push_back(natural_number(extent, what + ": an extent of its shape"));
        // No tensor of the file is larger than the file, so the product stops before it can overflow.
        if (made.shape.back() > 0 && bytes > data_bytes / made.shape.back())
            throw file_error(what + " has a shape larger than the file's data, " + std::to_string(data_bytes) +
                             " bytes");
        bytes *= made.shape.back();
    }
    std::int64_t const begin = natural_number(entry["data_offsets"][0], what + ": its first data offset");
    std::int64_t const end = natural_number(entry["data_offsets"][1], what + ": its second data offset");
    if (begin > end || end > data_bytes)
        throw file_error(what + " lies at bytes " + std::to_string(begin) + " to " + std::to_string(end) + " of " +
                         std::to_string(data_bytes) + " (truncated file?)");
    if (end - begin != bytes)
        throw file_error(what + " has " + std::to_string(end - begin) + " bytes, its shape needs " +
                         std::to_string(bytes));
    return begin;
}
} // namespace detail

/// The named tensors of a file. @throws file_error  naming the file and the first thing wrong with it
inline std::map<std::string, stored_tensor> read_safetensors(std::string const& path,
                                                             std::vector<std::string> const& names)
try
{
    // A folder opens like a file and has any size.
    if (std::error_code failed; !std::filesystem::is_regular_file(path, failed))
        throw file_error("is not a file that can be read");
    std::ifstream file(path, std::ios::binary | std::ios::ate);
    if (!file) throw file_error("cannot be opened");
    std::int64_t const file_bytes = static_cast<std::int64_t>(file.tellg());
    unsigned char length[8];
    file.seekg(0);
    if (file_bytes < 8 || !file.read(reinterpret_cast<char*>(length), 8))
        throw file_error("has " + std::to_string(file_bytes) + " bytes: too short for a safetensors file");
    std::uint64_t header_bytes = 0;
    for (int i = 0; i < 8; ++i) header_bytes |= std::uint64_t{length[i]} << (8 * i);
    if (header_bytes > static_cast<std::uint64_t>(file_bytes - 8))
        throw file_error("says its header has " + std::to_string(header_bytes) + " bytes, but only " +
                         std::to_string(file_bytes - 8) + " follow: truncated, or not safetensors");
    if (header_bytes > detail::most_header_bytes)
        throw file_error("has a header of " + std::to_string(header_bytes) + " bytes; at most " +
                         std::to_string(detail::most_header_bytes) + " are read");
    std::string text(header_bytes, '\0');
    if (!file.read(text.data(), static_cast<std::streamsize>(header_bytes)))
        throw file_error("cannot be read to the end of its header");
    nlohmann::json const header = detail::parse_header(text);

    std::int64_t const data_begin = 8 + static_cast<std::int64_t>(header_bytes);
    std::map<std::string, stored_tensor> tensors;
    std::map<std::string, std::pair<std::int64_t, std::int64_t>> places;
    for (auto const& name : names)
    {
        std::string const what = "tensor '" + name + "'";
        if (!header.contains(name)) throw file_error("has no " + what);
        stored_tensor& made = tensors[name];
        std::int64_t const begin = detail::read_entry(header[name], what, file_bytes - data_begin, made);
        std::size_t bytes = size_of(made.type);
        for (auto extent : made.shape) bytes *= static_cast<std::size_t>(extent);
        std::int64_t const end = begin + static_cast<std::int64_t>(bytes);
        for (auto const& [other, place] : places)
            if (begin < place.second && place.first < end) throw file_error(what + " overlaps tensor '" + other + "'");
        places[name] = {begin, end};
        made.bytes.resize(bytes);
        file.seekg(data_begin + begin);
        if (bytes > 0 && !file.read(reinterpret_cast<char*>(made.bytes.data()), static_cast<std::streamsize>(bytes)))
            throw file_error("cannot be read to the end of " + what);
    }
    return tensors;
} catch (file_error const& e)
{
    throw file_error(path + ": " + e.what());
}

} // namespace lesson
