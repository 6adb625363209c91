// SPDX-FileCopyrightText: The spla authors
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once
#include "../error.hpp"

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <initializer_list>
#include <iterator>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>

/// How rules are stated: a condition, and words that become text where it does not hold. Nothing else makes text: a
/// decode step checks at every token.
namespace spla::detail
{

/// A piece of a violation's text, not yet text. Refers to what it was made of.
class word
{
public:
    constexpr word() : word("") {}
    constexpr word(char const* s) : word(std::string_view(s)) {}
    constexpr word(std::string_view s) : kind_(kind::text), size_(static_cast<unsigned>(s.size())), text_(s.data()) {}
    constexpr word(bool b) : word(b ? "true" : "false") {}
    constexpr word(double x) : kind_(kind::real), real_(x) {}
    template <class Integer, class = std::enable_if_t<std::is_integral_v<Integer>>>
    constexpr word(Integer n) : kind_(kind::integer), integer_(static_cast<std::int64_t>(n))
    {
    }
    /// "[2, 40, 4, 12]": extents, or a place in a view.
    constexpr word(std::int64_t const* e, int rank)
        : kind_(kind::extents), size_(static_cast<unsigned>(rank)), extents_(e)
    {
    }

    [[gnu::cold, gnu::noinline]] void append_to(std::string& s) const
    {
        char buffer[32];
        switch (kind_)
        {
        case kind::text:
            s.append(text_, size_);
            return;
        case kind::integer:
            s += std::to_string(integer_);
            return;
        case kind::real:
            std::snprintf(buffer, sizeof(buffer), "%g", real_);
            s += buffer;
            return;
        case kind::extents:
            break;
        }
        s += '[';
        for (unsigned i = 0; i < size_; ++i)
        {
            if (i > 0) s += ", ";
            s += std::to_string(extents_[i]);
        }
        s += ']';
    }

private:
    enum class kind
    {
        text,
        integer,
        real,
        extents
    };
    kind kind_;
    unsigned size_ = 0; ///< of what is pointed to
    union
    {
        char const* text_;
        std::int64_t integer_;
        double real_;
        std::int64_t const* extents_;
    };
};

/// One word, or phrase{several}; for arguments alone, since it refers to them. (A bare list in braces would do, but
/// what nvcc 13.0 hands on of one in a template does not compile.)
class phrase
{
public:
    template <class Word, class = std::enable_if_t<std::is_constructible_v<word, Word const&>>>
    constexpr phrase(Word const& one) : one_(one), size_(0)
    {
    }
    constexpr phrase(std::initializer_list<word> several) : several_(std::data(several)), size_(several.size()) {}

    [[gnu::cold]] std::string text() const
    {
        std::string s;
        if (size_ == 0) one_.append_to(s);
        for (std::size_t i = 0; i < size_; ++i) several_[i].append_to(s);
        return s;
    }

private:
    union
    {
        word one_;
        word const* several_;
    };
    std::size_t size_; ///< 0: one
};

/// Collects the first violated rule of one call.
class rule_checker
{
public:
    explicit rule_checker(char const* call) : call_(call) {}

    void require(bool holds, rule_kind kind, phrase const& argument, phrase const& actual, phrase const& allowed)
    {
        if (!holds) fail(kind, argument, actual, allowed);
    }
    /// The rule does not hold.
    [[gnu::cold, gnu::noinline]] void fail(rule_kind kind, phrase const& argument, phrase const& actual,
                                           phrase const& allowed)
    {
        if (!found_) found_ = violation{call_, argument.text(), actual.text(), allowed.text(), kind};
    }
    std::optional<violation> const& found() const { return found_; }
    void throw_if_found() const
    {
        if (found_) throw_violation(*found_);
    }

private:
    char const* call_;
    std::optional<violation> found_;
};

} // namespace spla::detail
