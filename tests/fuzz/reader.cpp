// SPDX-FileCopyrightText: The spla authors
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#include "../../examples/01_real_model/trace.hpp"
#include "targets.hpp"

#include <unistd.h>

void spla_fuzz::reader(std::uint8_t const* data, std::size_t size)
{
    static std::string const path =
        (std::filesystem::temp_directory_path() / ("spla_fuzz_reader_" + std::to_string(::getpid()))).string();
    std::ofstream(path, std::ios::binary)
        .write(reinterpret_cast<char const*>(data), static_cast<std::streamsize>(size));
    try
    {
        lesson::trace_file const file = lesson::read_trace(path);
        std::size_t held = 0;
        for (auto const& [name, t] : file) held += t.bytes.size();
        must(held <= size, "no more bytes are held than the file has");
        lesson::require_supported(path, file);
    } catch (lesson::file_error const& e)
    {
        std::string const message = e.what();
        must(message.find(path + ": ") == 0, "a refusal names the file");
        must(printable(message), "a refusal is one printable line");
    }
    std::filesystem::remove(path);
}
