# SPDX-FileCopyrightText: The spla authors
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""results/cpu-attention.jsonl as pictures beside it: each part's time by tokens, and spla beside PyTorch."""
import json
import pathlib

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

results = pathlib.Path(__file__).parent / "results"
PARTS = ["append", "select", "exact", "residual", "whole"]


def curve(lines, what, d, dtype, number="ms", way=""):
    """By tokens; of the lines for the peer's several ways (or the one way asked for) the least."""
    points = {}
    for x in lines:
        if (x["what"].startswith(what) and x["shape"]["d"] == d and x["shape"]["dtype"] == dtype and number in x
                and x.get("peer", "").endswith(way)):
            points.setdefault(x["shape"]["tokens"], []).append(x[number])
    return sorted(points), [min(points[tokens]) for tokens in sorted(points)]


def finish(axes, title):
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.set_title(title)
    ticks = [4096 * 2**i for i in range(6)]
    axes.set_xticks(ticks, [f"{t // 1024}K" for t in ticks])
    axes.set_xlabel("tokens")
    axes.set_ylabel("ms")
    axes.grid(True, which="both", alpha=0.3)
    axes.legend()


def main():
    lines = [json.loads(line) for line in (results / "cpu-attention.jsonl").read_text().splitlines()]
    subtitle = f"{lines[0]['device']}, {lines[0]['threads']} threads, fp32, 8 query / 2 key heads"
    dims = sorted({x["shape"]["d"] for x in lines})
    figure, axes = plt.subplots(1, len(dims), figsize=(6 * len(dims), 5), squeeze=False)
    for a, d in zip(axes[0], dims):
        for part in PARTS:
            a.plot(*curve(lines, f"cpu.prefill.{part}", d, "fp32"), marker="o", label=part, linewidth=3 if part == "whole" else 1.5)
        finish(a, f"prefill, D {d}")
    figure.suptitle(f"Parts of prefill: {subtitle}", fontsize=9)
    figure.tight_layout()
    figure.savefig(results / "cpu-attention-parts.png", dpi=110)

    figure, axes = plt.subplots(1, 2, figsize=(12, 5))
    for a, what in zip(axes, ("prefill", "decode")):
        for d in dims:
            line, = a.plot(*curve(lines, f"cpu.{what}.whole", d, "fp32"), marker="o", label=f"spla, D {d}")
            a.plot(*curve(lines, f"cpu.{what}.whole", d, "fp32", "peer_ms"), marker="s", linestyle="--",
                   color=line.get_color(), label=f"PyTorch SDPA, fastest way, D {d}")
            grouped = curve(lines, f"cpu.{what}.whole", d, "fp32", "peer_ms", "enable_gqa")
            if what == "decode" and grouped[0]:
                a.plot(*grouped, marker="^", linestyle=":", color=line.get_color(), label=f"PyTorch SDPA, grouped call, D {d}")
        finish(a, what)
    figure.suptitle(f"spla and PyTorch: {subtitle}", fontsize=9)
    figure.tight_layout()
    figure.savefig(results / "cpu-attention-peer.png", dpi=110)


if __name__ == "__main__":
    main()
