// SPDX-FileCopyrightText: The spla authors
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
// An engine's life in random order: admit, prefill in chunks, decode, fork, go back, free. After every step each
// sequence has, bit for bit, what its dense twin computes alone. The seed is printed; SPLA_TEST_SEED and
// SPLA_TEST_STEPS set it and the number of steps.
#include "../catch.hpp"
#include "twin.hpp"

#include <cstdlib>
#include <memory>
#include <random>

using namespace spla_test;

namespace
{
int number_from(char const* name, int otherwise)
{
    char const* const text = std::getenv(name);
    return text ? std::atoi(text) : otherwise;
}

template <class Exec>
class life
{
public:
    life(unsigned seed, cache_layout layout, spla::options<> const& o)
        : random_(seed), o_(o), engine_(sizes_, o, layout), alive_(sizes_.slots)
    {
        for (unsigned i = 0; i < 6; ++i) texts_.emplace_back(sizes_, seed * 16 + i);
    }
    void run(int steps)
    {
        for (int i = 0; i < steps; ++i)
        {
            int const what = below(100);
            if (what < 14)
                admit();
            else if (what < 24)
                fork();
            else if (what < 34)
                go_back();
            else if (what < 46)
                free_one();
            else
                step(i);
        }
    }
    /// How often each thing was done: a life that never forks shows nothing of forks.
    int admitted = 0, forked = 0, gone_back = 0, freed = 0, served = 0;

private:
    struct sequence
    {
        std::unique_ptr<twin<Exec>> alone;
        int of = 0;     ///< text that it reads
        int length = 0; ///< tokens now
        int held = 0;   ///< tokens after its last step
        int longest = 0;
    };
    int below(int n) { return static_cast<int>(random_() % static_cast<unsigned>(n)); }
    template <class Holds>
    int some_slot(Holds const& holds)
    {
        std::vector<int> all;
        for (int s = 0; s < sizes_.slots; ++s)
            if (holds(alive_[s])) all.push_back(s);
        return all.empty() ? -1 : all[below(static_cast<int>(all.size()))];
    }
    int some_slot(bool used)
    {
        return some_slot([used](sequence const& s) { return (s.alone != nullptr) == used; });
    }
    void admit()
    {
        int const slot = some_slot(false);
        if (slot < 0) return;
        alive_[slot] = {std::make_unique<twin<Exec>>(sizes_, o_), below(6), 0, 0, 0};
        ++admitted;
    }
    void free_one()
    {
        int const slot = some_slot(true);
        if (slot < 0) return;
        engine_.release(slot);
        alive_[slot] = {};
        ++freed;
    }
    void fork()
    {
        int const to = some_slot(false);
        int const from = some_slot([](sequence const& s) { return s.length > 0 && s.length == s.held; });
        if (from < 0 || to < 0) return;
        engine_.fork(from, to, alive_[from].length);
        alive_[to] = {std::make_unique<twin<Exec>>(alive_[from].alone->fork()), below(6), alive_[from].length,
                      alive_[from].held, alive_[from].longest};
        ++forked;
    }
    void go_back()
    {
        auto const most_of = [this](sequence const& s) {
            return std::min(sizes_.rewind - (s.longest - s.length), s.length);
        };
        int const slot = some_slot([&](sequence const& s) { return s.alone && most_of(s) > 0; });
        if (slot < 0) return;
        sequence& s = alive_[slot];
        int const most = most_of(s);
        s.length -= 1 + below(most);
        s.alone->rewind(s.length);
        s.of = below(6);
        if (engine_.layout == cache_layout::pages) unshare(slot);
        ++gone_back;
    }
    /// Going back into a page that another sequence has too: the engine makes it its own first, as any engine must.
    void unshare(int slot)
    {
        sequence& s = alive_[slot];
        int const keep = s.length / sizes_.page_tokens;
        for (std::size_t p = keep; p < engine_.pages[slot].size(); ++p)
            if (engine_.users[engine_.pages[slot][p]] > 1) engine_.own_page(slot, static_cast<int>(p));
    }
    void step(int number)
    {
        std::vector<step_part> parts;
        std::vector<int> slots;
        for (int tries = 0; tries < sizes_.sequences; ++tries)
        {
            int const slot = some_slot(true);
            if (slot < 0 || std::find(slots.begin(), slots.end(), slot) != slots.end()) continue;
            sequence& s = alive_[slot];
            int const kind = below(10);
            int const wanted = kind < 6 ? 1 : (kind < 8 ? 1 + below(8) : 1 + below(sizes_.queries));
            int const n = std::min(wanted, sizes_.capacity - s.length);
            if (n == 0) continue;
            slots.push_back(slot);
            parts.push_back(texts_[s.of].part(slot, s.length, s.length + n));
            s.length += n;
            s.held = s.length;
            s.longest = std::max(s.longest, s.length);
        }
        if (parts.empty()) return;
        auto const made = engine_.step(parts);
        for (std::size_t i = 0; i < parts.size(); ++i)
        {
            auto const alone = alive_[parts[i].slot].alone->step(parts[i]);
            bool const same = same_bits(made[i].output, alone.output) && same_bits(made[i].lse, alone.lse) &&
                              made[i].chosen == alone.chosen;
            INFO("step " << number << ", slot " << parts[i].slot << ", " << parts[i].count() << " new of "
                         << parts[i].length << " tokens");
            REQUIRE(same);
        }
        ++served;
    }

    std::mt19937 random_;
    engine_sizes sizes_;
    spla::options<> o_;
    engine<Exec> engine_;
    std::vector<sequence> alive_;
    std::vector<text> texts_;
};

template <class Exec>
void live(int steps, unsigned seed)
{
    int least = steps; // what was done least often, in any of the lives
    for (auto const layout : {cache_layout::pages, cache_layout::slots, cache_layout::packed})
        for (int variant = 0; variant < 3; ++variant)
        {
            auto o = small_options();
            if (variant == 1) o.share = spla::sharing::first_query(8);
            if (variant == 2) o.share = spla::sharing::first_query(32), o.normalised = true;
            INFO("SPLA_TEST_SEED=" << seed << ", layout " << static_cast<int>(layout) << ", variant " << variant);
            life<Exec> one(seed, layout, o);
            one.run(steps);
            least = std::min({least, one.admitted, one.forked, one.gone_back, one.freed, one.served});
        }
    INFO("SPLA_TEST_SEED=" << seed);
    CHECK(least > 0);
}
unsigned seed()
{
    static unsigned const chosen =
        static_cast<unsigned>(number_from("SPLA_TEST_SEED", static_cast<int>(std::random_device{}() & 0x7fffffff)));
    return chosen;
}
} // namespace

TEMPLATE_LIST_TEST_CASE("an engine's life: every step as the dense twins have it", "[serving][life]", spaces)
{
    live<TestType>(number_from("SPLA_TEST_STEPS", 200), seed());
}

TEMPLATE_LIST_TEST_CASE("an engine's long life", "[.full][life]", spaces)
{
    live<TestType>(number_from("SPLA_TEST_STEPS", 10000), seed());
}
