# SPDX-FileCopyrightText: The spla authors
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""A file of results that run_gpu made as a picture beside it: whole prefill by tokens, spla's sharings and the dense peers."""
import json
import pathlib
import sys

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt


def main():
    path = pathlib.Path(sys.argv[1])
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    curves = {}
    for x in lines:
        if x["what"].startswith("prefill.whole."):
            name = "spla, " + x["what"].rsplit(".", 1)[1]
        elif x["what"] == "peer.prefill.dense":
            name = x["peer"]
        else:
            continue
        curves.setdefault(name, []).append((x["shape"]["tokens"], x["ms"]))
    figure, axes = plt.subplots(figsize=(7, 5))
    for name, points in curves.items():
        axes.plot(*zip(*sorted(points)), marker="o", label=name, linestyle="-" if name.startswith("spla") else "--")
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    ticks = sorted({x["shape"]["tokens"] for x in lines})
    axes.set_xticks(ticks, [f"{t // 1024}K" for t in ticks])
    axes.set_xlabel("tokens")
    axes.set_ylabel("ms")
    axes.grid(True, which="both", alpha=0.3)
    axes.legend()
    axes.set_title(f"Whole prefill, {lines[0]['device']}, bf16, D {lines[0]['shape']['d']}", fontsize=10)
    figure.tight_layout()
    figure.savefig(path.with_suffix(".png"), dpi=110)


main()
