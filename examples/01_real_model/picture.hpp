// SPDX-FileCopyrightText: The spla authors
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once
// Two headers of C functions, of which this program uses one each.
#if defined(__GNUC__)
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wunused-function"
#endif
#define STB_IMAGE_WRITE_STATIC
#define STB_IMAGE_WRITE_IMPLEMENTATION
#include <stb_easy_font.h>
#include <stb_image_write.h>
#if defined(__GNUC__)
#pragma GCC diagnostic pop
#endif

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <string>
#include <vector>

/// An image to draw rectangles and plain text on, written as PNG.
namespace lesson
{

struct colour
{
    std::uint8_t red, green, blue;
};

/// From a to b as t goes from 0 to 1.
inline colour blend(colour a, colour b, double t)
{
    auto const mix = [t](int x, int y) {
        return static_cast<std::uint8_t>(std::lround(x + (y - x) * std::clamp(t, 0.0, 1.0)));
    };
    return {mix(a.red, b.red), mix(a.green, b.green), mix(a.blue, b.blue)};
}

class picture
{
public:
    picture(int width, int height, colour paper)
        : width_(width), height_(height), pixels_(std::size_t(width) * height, paper)
    {
    }

    void rectangle(int x, int y, int width, int height, colour ink)
    {
        for (int row = std::max(y, 0); row < std::min(y + height, height_); ++row)
            for (int column = std::max(x, 0); column < std::min(x + width, width_); ++column)
                pixels_[std::size_t(row) * width_ + column] = ink;
    }

    void text(int x, int y, int size, std::string const& what, colour ink)
    {
        struct vertex
        {
            float x, y, z;
            std::uint8_t colour[4];
        };
        std::string line = what; // stb wants char*
        std::vector<vertex> corners(what.size() * 4 * 24);
        int const quads = stb_easy_font_print(0, 0, line.data(), nullptr, corners.data(),
                                              static_cast<int>(corners.size() * sizeof(vertex)));
        for (int i = 0; i < quads; ++i)
        {
            vertex const &from = corners[4 * i], &to = corners[4 * i + 2];
            rectangle(x + static_cast<int>(from.x * size), y + static_cast<int>(from.y * size),
                      static_cast<int>((to.x - from.x) * size), static_cast<int>((to.y - from.y) * size), ink);
        }
    }
    static int text_width(int size, std::string what) { return size * stb_easy_font_width(what.data()); }

    /// False where the file could not be written.
    bool write(std::string const& path) const
    {
        return stbi_write_png(path.c_str(), width_, height_, 3, pixels_.data(), 3 * width_) != 0;
    }

private:
    int width_, height_;
    std::vector<colour> pixels_;
};

} // namespace lesson
