# SPDX-FileCopyrightText: The spla authors
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Times by tokens, as the pictures of a GPU's figures have them: spla's lines are drawn through, the peers' are dashed."""


def size(tokens):
    return f"{tokens // 1024}K" if tokens >= 1024 else str(tokens)


def by_tokens(axes, curves, xlabel, ylabel, title):
    """curves: a list of (tokens, time) for each name."""
    for name, points in curves.items():
        axes.plot(*zip(*sorted(points)), marker="o", label=name, linestyle="-" if name.startswith("spla") else "--")
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    ticks = sorted({tokens for points in curves.values() for tokens, _ in points})
    axes.set_xticks(ticks, [size(t) for t in ticks])
    axes.set_xlabel(xlabel)
    axes.set_ylabel(ylabel)
    axes.grid(True, which="both", alpha=0.3)
    axes.legend(fontsize=8)
    axes.set_title(title, fontsize=10)
