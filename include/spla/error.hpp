// SPDX-FileCopyrightText: The spla authors
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>

namespace spla
{

/// What a violated rule is about.
enum class rule_kind
{
    shape,       ///< extents or strides that disagree
    value,       ///< an option or number out of its range
    unsupported, ///< legal, but not provided by this build or kernel
    state        ///< the call does not fit what the sequence state holds
};

/// The first violated rule of a call: which call, which argument, what it is, and what would be allowed.
struct violation
{
    std::string call;
    std::string argument;
    std::string actual;
    std::string allowed;
    rule_kind kind = rule_kind::value;

    /// "spla::prefill: query.extent(2) is 7; allowed: a multiple of the 2 key heads"
    [[gnu::cold]] std::string message() const
    {
        std::string text = "spla::";
        for (std::string_view part :
             {std::string_view(call), std::string_view(": "), std::string_view(argument), std::string_view(" is "),
              std::string_view(actual), std::string_view("; allowed: "), std::string_view(allowed)})
            text += part;
        return text;
    }
};

/// Base of every error that spla throws; carries the violation that check() would have returned.
class argument_error : public std::invalid_argument
{
public:
    explicit argument_error(violation found) : std::invalid_argument(found.message()), found_(std::move(found)) {}
    violation const& found() const noexcept { return found_; }

private:
    violation found_;
};

class shape_error : public argument_error
{
    using argument_error::argument_error;
};
class value_error : public argument_error
{
    using argument_error::argument_error;
};
class unsupported_error : public argument_error
{
    using argument_error::argument_error;
};
class state_error : public argument_error
{
    using argument_error::argument_error;
};

/// Throws the exception that belongs to the kind of the violation.
[[noreturn, gnu::cold]] inline void throw_violation(violation found)
{
    switch (found.kind)
    {
    case rule_kind::shape:
        throw shape_error(std::move(found));
    case rule_kind::unsupported:
        throw unsupported_error(std::move(found));
    case rule_kind::state:
        throw state_error(std::move(found));
    case rule_kind::value:
        break;
    }
    throw value_error(std::move(found));
}

} // namespace spla
