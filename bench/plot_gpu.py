# SPDX-FileCopyrightText: The spla authors
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""A file of results that run_gpu made as a picture beside it: whole prefill by tokens with the dense peers; the stages as bars; the
exact branch on given lists beside its peers, where the file has them."""
import json
import pathlib
import sys

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

from plot_curves import by_tokens, size

SHARINGS = ["per_token", "first_query32", "tile_sum128"]
STAGES = ["statistics", "select", "exact", "residual"]


class Record:
    def __init__(self, path):
        lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        self.first = lines[0]
        same = ("q_heads", "kv_heads", "d")
        self.lines = [x for x in lines if "ms" in x and x.get("study") != "groups"
                      and all(x["shape"][key] == self.first["shape"][key] for key in same)]
        self.tokens = sorted({x["shape"]["tokens"] for x in self.lines if x.get("study", "sharings") == "sharings"
                              and x["what"].startswith("prefill.whole.")})

    def ms(self, what, tokens):
        return next((x["ms"] for x in self.lines if x["what"] == what and x["shape"]["tokens"] == tokens), None)


def whole(axes, record):
    curves = {}
    for x in record.lines:
        if x["what"].startswith("prefill.whole."):
            name = "spla, " + x["what"].rsplit(".", 1)[1]
        elif x["what"] == "peer.prefill.dense":
            name = x["peer"]
        else:
            continue
        curves.setdefault(name, []).append((x["shape"]["tokens"], x["ms"]))
    by_tokens(axes, curves, "tokens", "ms", "whole prefill")


def stages(axes, record):
    """A bar of stages, each alone, beside the whole call, for every sharing and size that has all stages."""
    bars = []
    for tokens in record.tokens:
        for sharing in SHARINGS:
            parts = [record.ms("prefill." + (stage if stage == "statistics" else f"{stage}.{sharing}"), tokens) for stage in STAGES]
            total = record.ms(f"prefill.whole.{sharing}", tokens)
            if total and all(parts):
                bars.append((f"{sharing}\n{size(tokens)}", parts, total))
    for i, stage in enumerate(STAGES):
        axes.bar(range(len(bars)), [parts[i] for _, parts, _ in bars], 0.4, bottom=[sum(parts[:i]) for _, parts, _ in bars], label=stage)
    axes.bar([n + 0.4 for n in range(len(bars))], [total for *_, total in bars], 0.4, label="whole call", color="0.6")
    axes.set_xticks([n + 0.2 for n in range(len(bars))], [name for name, *_ in bars], fontsize=8)
    axes.set_ylabel("ms")
    axes.legend(fontsize=8)
    axes.set_title("stages, each alone", fontsize=10)


def given(axes, record):
    """At the first size that has them."""
    found = {}
    lines = [x for x in record.lines if x["what"].endswith("prefill.exact.given")]
    tokens = min(x["shape"]["tokens"] for x in lines)
    for x in (x for x in lines if x["shape"]["tokens"] == tokens):
        name = f"spla, lists of {x['shape']['tile']} tokens"
        if x["what"].startswith("peer."):
            name = x["peer"]
        found[name] = min(found.get(name, x["ms"]), x["ms"])
    axes.barh(list(found), list(found.values()), color=["C0" if name.startswith("spla") else "0.6" for name in found])
    axes.set_xlabel("ms")
    axes.tick_params(axis="y", labelsize=8)
    axes.set_title(f"exact branch on given lists, {size(tokens)} tokens", fontsize=10)


def main():
    path = pathlib.Path(sys.argv[1])
    record = Record(path)
    panels = [whole, stages]
    if any(x["what"].endswith("prefill.exact.given") for x in record.lines):
        panels.append(given)
    figure, axes = plt.subplots(1, len(panels), figsize=(6.5 * len(panels), 5))
    for panel, ax in zip(panels, axes):
        panel(ax, record)
    shape = record.first["shape"]
    title = f"{record.first['device']}, bf16, {shape['q_heads']} query and {shape['kv_heads']} key heads, D {shape['d']}"
    figure.suptitle(title, fontsize=11)
    figure.tight_layout()
    figure.savefig(path.with_suffix(".png"), dpi=110)


main()
