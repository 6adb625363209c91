# SPDX-FileCopyrightText: The spla authors
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""A file of results that run_gpu_decode made as a picture beside it: time of a step by context, for every batch, with the dense
peers."""
import json
import pathlib
import sys

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

from plot_curves import by_tokens

NAMES = {"decode.whole": "spla, whole step", "decode.whole.enters": "spla, the step in which blocks leave the window",
         "decode.both": "spla, both branches on given lists"}


def curves_of(lines, batch):
    curves = {}
    for x in lines:
        name = x["peer"] if x["what"] == "peer.decode.dense" else NAMES.get(x["what"])
        if name and "ms" in x and x["shape"]["batch"] == batch:
            curves.setdefault(name, []).append((x["shape"]["tokens"], 1e3 * x["ms"]))
    return curves


def main():
    path = pathlib.Path(sys.argv[1])
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    batches = sorted({x["shape"]["batch"] for x in lines if x["what"] == "decode.whole"})
    figure, all_axes = plt.subplots(1, len(batches), figsize=(5.5 * len(batches), 4.8), squeeze=False)
    for axes, batch in zip(all_axes[0], batches):
        by_tokens(axes, curves_of(lines, batch), "tokens of context", "us a step", f"batch {batch}")
        for formatter in (axes.yaxis.set_major_formatter, axes.yaxis.set_minor_formatter):
            formatter(lambda value, _: f"{value:g}")
    shape = lines[0]["shape"]
    figure.suptitle(f"{lines[0]['device']}, one new token of each sequence, bf16, {shape['q_heads']} query and {shape['kv_heads']} key "
                    f"heads, D {shape['d']}", fontsize=11)
    figure.tight_layout()
    figure.savefig(path.with_suffix(".png"), dpi=110)


main()
