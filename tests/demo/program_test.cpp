// SPDX-FileCopyrightText: The spla authors
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
// The first lesson as a program, where it is built: of a bad file one line on stderr, nothing on stdout, exit status 1.
#include "../catch.hpp"
#include "files.hpp"

#if defined(SPLA_DEMO_PROGRAM)
#include <algorithm>
#include <cstdlib>

using namespace spla_test;

namespace
{
struct outcome
{
    std::string status, out, err;
};

/// Runs the program in the folder, as a shell does.
outcome run(folder const& here, std::string const& path)
{
    std::string const command =
        "cd '" + here.path.string() + "' && '" SPLA_DEMO_PROGRAM "' '" + path + "' >out 2>err; echo $? >status";
    REQUIRE(std::system(command.c_str()) == 0);
    return {here.read("status"), here.read("out"), here.read("err")};
}

void expect_refusal(folder const& here, std::string const& path, std::string const& wanted)
{
    outcome const o = run(here, path);
    INFO(o.err);
    CHECK(o.status == "1\n");
    CHECK(o.out.empty());
    CHECK(o.err.find("01_real_model: " + path + ": ") == 0);
    CHECK(o.err.find(wanted) != std::string::npos);
    CHECK(std::count(o.err.begin(), o.err.end(), '\n') == 1);
    CHECK((!o.err.empty() && o.err.back() == '\n'));
}
} // namespace

TEST_CASE("the lesson refuses bad files in one line", "[demo]")
{
    folder const here("demo_program");
    expect_refusal(here, (here.path / "missing").string(), "not a file");
    expect_refusal(here, here.path.string(), "not a file");
    for (auto const& files : {bad_files(), spoiled_files()})
        for (auto const& file : files)
        {
            INFO(file.name);
            expect_refusal(here, here.write("file", file.bytes), file.wanted);
        }
}

TEST_CASE("the lesson runs on a small good file", "[demo]")
{
    folder const here("demo_runs");
    outcome const o = run(here, here.write("good", parts().bytes()));
    INFO(o.out << o.err);
    CHECK(o.status == "0\n");
    CHECK(o.out.find("1024 tokens, 2 query heads, 1 key heads, width 4") != std::string::npos);
    CHECK(std::filesystem::exists(here.path / "spla_real_model.png"));
}
#endif
