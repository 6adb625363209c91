// SPDX-FileCopyrightText: The spla authors
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once
#include "core.hpp"

namespace spla_test
{

/// How the calls of a problem follow each other.
enum class course
{
    whole,    ///< one prefill into an empty state
    appended, ///< appends of everything, then one prefill
    decoded,  ///< appends of everything, then one decode
    parts     ///< prefill of a part, then chunks and decode steps
};

/// A legal problem drawn from a seed: sizes, options, how it is laid out and in what calls it comes. Small, so that
/// thousands can be held against the reference.
struct random_problem
{
    unsigned seed;
    shape size;
    spla::options<> o;
    bool padded = false, weighted = false;
    course calls = course::whole;
    std::vector<int> cuts; ///< where the parts end

    explicit random_problem(unsigned seed);
    std::string text() const;
};

/// Plays the calls of a problem on a space.
template <class Exec>
results<Exec> play(random_problem const& p, data<Exec> const& d)
{
    stepper<Exec> s(d, p.o);
    int const keys = p.size.keys, first = keys - p.size.queries;
    if (p.calls == course::whole)
        s.prefill(first, keys);
    else if (p.calls == course::parts)
    {
        int begin = 0;
        for (int const end : p.cuts)
        {
            bool const decodes = begin > 0 && end - begin <= std::min(8, p.o.segment_tokens);
            if (decodes)
                s.step(begin, end);
            else
                s.prefill(begin, end);
            begin = end;
        }
    }
    else
    {
        int held = 0; // the last append must hold what the queries need of the prefix states
        for (int const end : {std::max(first, 0), keys})
            while (held < end)
            {
                int const next = std::min(end, held + p.o.segment_tokens);
                s.append(held, next);
                held = next;
            }
        if (p.calls == course::appended)
            s.prefill(first, keys);
        else
            s.decode(first, keys);
    }
    return s.r;
}

} // namespace spla_test
