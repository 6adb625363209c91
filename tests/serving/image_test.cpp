// SPDX-FileCopyrightText: The spla authors
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
// A sequence's state saved, and restored in another pool: it goes on as if it had never stopped.
#include "../catch.hpp"
#include "twin.hpp"

#include <cstring>

using namespace spla_test;

namespace
{
using page_list = Kokkos::View<std::int32_t*, Kokkos::HostSpace>;

page_list pages_of(std::vector<int> const& pages)
{
    page_list const v("pages", pages.size());
    std::copy(pages.begin(), pages.end(), v.data());
    return v;
}
template <class Call>
std::string message(Call const& call)
{
    try
    {
        call();
    } catch (spla::argument_error const& e)
    {
        return e.what();
    }
    return "nothing was thrown";
}
} // namespace

TEMPLATE_LIST_TEST_CASE("a saved sequence goes on elsewhere", "[serving][image]", spaces)
{
    engine_sizes const z;
    text const words(z, 900);
    for (auto const layout : {cache_layout::pages, cache_layout::packed})
        for (auto const share : {spla::sharing::per_token(), spla::sharing::first_query(32)})
        {
            auto o = small_options();
            o.share = share, o.normalised = true, o.storage = spla::summary_storage::int8;
            engine<TestType> first(z, o, layout), second(z, o, layout);
            bool const in_pages = layout == cache_layout::pages;
            first.step({words.part(3, 0, 96)});
            first.step({words.part(3, 96, 170)});
            auto const saved = pages_of(first.pages[3]);
            spla::state_image const image("image", spla::image_bytes(first.pool.layout(), saved.extent(0)));
            spla::save_sequence(first.exec, first.pool, 3, saved, image);
            // Other pages of another engine, the cache's numbers beside the image.
            if (in_pages)
            {
                second.pages[6] = {90, 1, 47, 2, 33, 60};
                for (int page : second.pages[6]) ++second.users[page];
                for (std::size_t i = 0; i < second.pages[6].size(); ++i)
                {
                    auto const copy = [&](auto const& from, auto const& to) {
                        Kokkos::deep_copy(
                            Kokkos::subview(to, second.pages[6][i], Kokkos::ALL, Kokkos::ALL, Kokkos::ALL),
                            Kokkos::subview(from, first.pages[3][i], Kokkos::ALL, Kokkos::ALL, Kokkos::ALL));
                    };
                    copy(first.key, second.key), copy(first.value, second.value);
                }
            }
            second.held_keys[6] = first.held_keys[3], second.held_values[6] = first.held_values[3];
            auto const target = pages_of(second.pages[6]);
            spla::restore_sequence(second.exec, second.pool, 6, target, image);
            auto const went_on = first.step({words.part(3, 170, 190)})[0];
            auto const restored = second.step({words.part(6, 170, 190)})[0];
            CHECK(same_bits(went_on.output, restored.output));
            CHECK(went_on.chosen == restored.chosen);
            auto const back = second.step({words.part(6, 160, 161)})[0]; // what it may go back to came along
            CHECK(same_bits(back.output, first.step({words.part(3, 160, 161)})[0].output));
        }
}

TEST_CASE("images that do not fit are refused", "[serving][image][rules]")
{
    engine_sizes const z;
    auto const o = small_options();
    engine<host> e(z, o, cache_layout::pages);
    e.step({text(z, 1).part(0, 0, 64)});
    auto const pages = pages_of(e.pages[0]);
    spla::state_image const image("image", spla::image_bytes(e.pool.layout(), 2));
    spla::save_sequence(e.exec, e.pool, 0, pages, image);
    std::string const bytes = std::to_string(image.extent(0));
    auto const restored = [&](spla::state_image const& from) {
        return message([&] { spla::restore_sequence(e.exec, e.pool, 1, pages, from); });
    };
    auto const changed = [&](std::size_t at, int by) {
        spla::state_image const copy("copy", image.extent(0));
        std::memcpy(copy.data(), image.data(), image.extent(0));
        copy(at) = static_cast<std::byte>(static_cast<int>(copy(at)) + by);
        return copy;
    };
    CHECK(restored(image) == "nothing was thrown");
    CHECK(restored(changed(0, 1)) == "spla::restore_sequence: image is other bytes; allowed: what save_sequence() made "
                                     "on a machine of this byte order");
    CHECK(restored(changed(8, 1)) == "spla::restore_sequence: image's version is 2; allowed: 1");
    CHECK(restored(Kokkos::subview(image, std::make_pair(0, 100))) ==
          "spla::restore_sequence: image.extent(0) is 100; allowed: at least the " +
              std::to_string(sizeof(spla::detail::image_header)) + " bytes of a header");
    CHECK(restored(Kokkos::subview(image, std::make_pair(std::size_t{0}, image.extent(0) - 1))) ==
          "spla::restore_sequence: image.extent(0) is " + std::to_string(image.extent(0) - 1) + "; allowed: " + bytes +
              " (image_bytes())");
    auto other = o;
    other.kept_keys = 0;
    engine<host> another(z, other, cache_layout::pages);
    CHECK(message([&] { spla::restore_sequence(another.exec, another.pool, 1, pages, image); }) ==
          "spla::restore_sequence: state.layout().kept_keys is 1; allowed: 0, from this call's sizes and options");
    CHECK(message([&] { spla::save_sequence(e.exec, e.pool, 8, pages, image); }) ==
          "spla::save_sequence: slot is 8; allowed: 0 to 7");
    CHECK(message([&] {
              spla::save_sequence(e.exec, e.pool, 0, pages_of({3, 96}), image);
          }) == "spla::save_sequence: pages(1) is 96; allowed: 0 to 95");
    CHECK(message([&] { spla::save_sequence(e.exec, e.pool, 0, pages_of({3}), image); }) ==
          "spla::save_sequence: image.extent(0) is " + bytes +
              "; allowed: " + std::to_string(spla::image_bytes(e.pool.layout(), 1)) + " (image_bytes())");
}
