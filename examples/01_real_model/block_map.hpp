// SPDX-FileCopyrightText: The spla authors
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once
#include "picture.hpp"
#include "true_mass.hpp"

/// The picture: which blocks the queries of one key head read, over the mass that dense attention puts there.
namespace lesson
{

namespace detail
{
inline constexpr colour paper{255, 255, 255}, ink{40, 40, 48}, future{238, 239, 243};

/// A block that is left to the linear branch: white to black.
inline colour unread_colour(double t)
{
    return blend({250, 250, 250}, {20, 20, 24}, t);
}
/// A forced block: light to dark blue.
inline colour forced_colour(double t)
{
    return blend({196, 220, 246}, {12, 60, 140}, t);
}
/// A selected block: yellow to dark red.
inline colour selected_colour(double t)
{
    return t < 0.5 ? blend({255, 214, 102}, {240, 120, 30}, 2 * t) : blend({240, 120, 30}, {150, 10, 20}, 2 * t - 1);
}

/// Darkness of a share of the mass: logarithmic, 0 at one in 100,000 and 1 at one half.
inline double darkness(double mass)
{
    return (std::log10(std::max(mass, 1e-12)) + 5.0) / (std::log10(0.5) + 5.0);
}
} // namespace detail

/// Lists of the sampled queries, one each: chosen[i] for truth.positions[i].
template <class Options>
bool draw_block_map(std::string const& path, dense_truth const& truth, std::vector<std::vector<int>> const& chosen,
                    int key_head, int group, Options const& o)
{
    using namespace detail;
    int const rows = static_cast<int>(truth.positions.size()), blocks = static_cast<int>(truth.mass.front().cols());
    int const cell = std::max(2, 1024 / std::max(rows, blocks)), left = 90, top = 150, bottom = 60, right = 40;
    picture image(left + cell * blocks + right, top + cell * rows + bottom, paper);
    spla::window const bounds = spla::window_of(o);

    image.rectangle(left - 1, top - 1, cell * blocks + 2, cell * rows + 2, {170, 172, 180});
    for (int i = 0; i < rows; ++i)
    {
        int const p = truth.positions[i];
        auto const competing = bounds.competing(p);
        for (int b = 0; b < blocks; ++b)
        {
            double mass = 0;
            for (int g = 0; g < group; ++g) mass += truth.mass[key_head * group + g](i, b) / group;
            double const t = darkness(mass);
            bool const selected = std::binary_search(chosen[i].begin(), chosen[i].end(), b);
            colour const fill = b * o.block > p                             ? future
                                : b < competing.begin || b >= competing.end ? forced_colour(t)
                                : selected                                  ? selected_colour(t)
                                                                            : unread_colour(t);
            image.rectangle(left + b * cell, top + i * cell, cell, cell, fill);
        }
    }

    image.text(left, 14, 3, "Which key blocks each query reads", ink);
    image.text(left, 44, 2, "darker: more of the true (dense) attention mass, logarithmic", ink);
    struct
    {
        char const* name;
        colour (*shade)(double);
    } const legend[] = {{"forced: sink and window", forced_colour},
                        {"selected by estimated mass", selected_colour},
                        {"not read: linear state only", unread_colour}};
    int x = left;
    for (auto const& entry : legend)
    {
        for (int step = 0; step < 96; ++step) image.rectangle(x + step, 76, 1, 18, entry.shade(step / 95.0));
        image.text(x, 102, 2, std::string(entry.name), ink);
        x += picture::text_width(2, entry.name) + 28;
    }
    for (int b = 0; b <= blocks; b += 16)
        image.text(left + b * cell - 4, top + cell * rows + 8, 2, std::to_string(b), ink);
    image.text(left + cell * blocks / 2 - 120, top + cell * rows + 32, 2,
               "key block (" + std::to_string(o.block) + " tokens each)", ink);
    image.text(8, top - 24, 2, "query", ink);
    for (int i = 0; i < rows; i += std::max(1, rows / 8))
        image.text(8, top + i * cell - 4, 2, std::to_string(truth.positions[i]), ink);
    return image.write(path);
}

} // namespace lesson
