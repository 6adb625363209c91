// SPDX-FileCopyrightText: The spla authors
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
// The first lesson's reader on trial: whatever a file holds, the reader takes it or says in one line why not.
#include "../../examples/01_real_model/trace.hpp"
#include "../catch.hpp"
#include "files.hpp"

using namespace spla_test;

namespace
{
lesson::trace_file read(std::string const& path)
{
    lesson::trace_file file = lesson::read_trace(path);
    lesson::require_supported(path, file);
    return file;
}

/// What the reader says of a file; empty where it takes it.
std::string refusal(std::string const& path)
{
    try
    {
        read(path);
    } catch (lesson::file_error const& e)
    {
        return e.what();
    }
    return {};
}

void expect_refusal(std::string const& path, std::string const& wanted)
{
    std::string const message = refusal(path);
    INFO(message);
    CHECK(message.find(path + ": ") == 0);
    CHECK(message.find(wanted) != std::string::npos);
    CHECK(message.size() < path.size() + 200);
    CHECK(std::all_of(message.begin(), message.end(), [](char c) { return c >= ' ' && c <= '~'; }));
}
} // namespace

TEST_CASE("the lesson's reader takes a good file, number by number", "[demo]")
{
    folder const here("demo_good");
    parts const good;
    auto const file = read(here.write("good", good.bytes()));
    REQUIRE(file.size() == 3);
    CHECK(file.at("q").shape == std::vector<std::int64_t>{1024, 2, 4});
    CHECK(file.at("k").shape == std::vector<std::int64_t>{1024, 1, 4});
    std::string all;
    for (char const* const name : {"q", "k", "v"}) all.append(file.at(name).bytes.begin(), file.at(name).bytes.end());
    CHECK(all == good.data);
    CHECK(lesson::detail::number_at(file.at("q"), 0) == 0.5f);
    CHECK(refusal(here.write("wide", parts(1024, 1, 1, 1024).bytes())).empty());
    CHECK(refusal(here.write("grouped", parts(1024, 1024, 1, 1).bytes())).empty());
}

TEST_CASE("the lesson's reader refuses what is no file", "[demo]")
{
    folder const here("demo_none");
    expect_refusal((here.path / "missing").string(), "not a file");
    expect_refusal(here.path.string(), "not a file");
}

TEST_CASE("the lesson's reader refuses files that are not safetensors, or hostile", "[demo]")
{
    folder const here("demo_bad");
    for (auto const& file : bad_files())
    {
        INFO(file.name);
        expect_refusal(here.write("file", file.bytes), file.wanted);
    }
}

TEST_CASE("the lesson's reader refuses headers and numbers that are wrong in one place", "[demo]")
{
    folder const here("demo_spoiled");
    for (auto const& file : spoiled_files())
    {
        INFO(file.name);
        expect_refusal(here.write("file", file.bytes), file.wanted);
    }
}
