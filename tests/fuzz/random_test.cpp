// SPDX-FileCopyrightText: The spla authors
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
// The fuzzers' targets on bytes of a generator: what a fuzzer holds for hours, a few thousand inputs hold in seconds.
#include "../catch.hpp"
#include "../demo/files.hpp"
#include "targets.hpp"

#include <random>

namespace
{
using bytes = std::vector<std::uint8_t>;

bytes random_bytes(std::mt19937& engine, std::size_t most)
{
    bytes made(engine() % most);
    for (auto& b : made) b = static_cast<std::uint8_t>(engine());
    return made;
}
/// The file with a few bytes changed, mostly of its header; cut now and then.
bytes spoiled(std::mt19937& engine, std::string const& file)
{
    bytes made(file.begin(), file.end());
    for (unsigned i = engine() % 4; i > 0; --i) made[engine() % (engine() % 8 == 0 ? made.size() : 320)] = engine();
    if (engine() % 8 == 0) made.resize(engine() % made.size());
    return made;
}
} // namespace

TEST_CASE("the lesson's reader, on files with bytes changed", "[fuzz]")
{
    std::mt19937 engine(1);
    std::string const good = spla_test::parts().bytes();
    for (int i = 0; i < 1000; ++i)
    {
        auto const file = spoiled(engine, good);
        spla_fuzz::reader(file.data(), file.size());
    }
    SUCCEED("what does not hold ends the program: targets.hpp, must()");
}

TEST_CASE("the argument checker, on any sizes, options and views", "[fuzz]")
{
    std::mt19937 engine(2);
    for (int i = 0; i < 20000; ++i)
    {
        auto const input = random_bytes(engine, 160);
        spla_fuzz::checker(input.data(), input.size());
    }
    SUCCEED("what does not hold ends the program: targets.hpp, must()");
}

TEST_CASE("steps of an engine, on any offsets, lengths, slots, pages and lists", "[fuzz]")
{
    std::mt19937 engine(3);
    for (int i = 0; i < 400; ++i)
    {
        auto const input = random_bytes(engine, 700);
        spla_fuzz::steps(input.data(), input.size());
    }
    SUCCEED("what does not hold ends the program: targets.hpp, must()");
}
