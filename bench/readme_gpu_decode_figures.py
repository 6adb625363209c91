# SPDX-FileCopyrightText: The spla authors
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""README's figures of decode steps on a GPU, between its two comments, out of one file of results that run_gpu_decode made;
--check only says whether they are."""
import json
import pathlib

import readme_section
from readme_figures import size, table

bench = pathlib.Path(__file__).parent
BEGIN, END = "<!-- GPU decode figures: begin -->\n", "<!-- GPU decode figures: end -->\n"


def us(x):
    return f"{1e3 * x['ms']:.0f} us" if x else "-"


def against_peer(x):
    return f"{1e3 * x['peer_ms']:.0f} us" if x and "peer_ms" in x else "-"


def ratio(x):
    return f"{x['ratio']:.1f}x" if x and "ratio" in x else "-"


def figures(path):
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    own = {(x["what"], x["shape"]["tokens"], x["shape"]["batch"]): x for x in lines if x["what"].startswith("decode.")}
    first, shape, name = lines[0], lines[0]["shape"], path.relative_to(bench.parent)
    sizes = sorted({(tokens, batch) for _, tokens, batch in own})
    steps = [[size(tokens), str(batch), us(own.get(("decode.whole", tokens, batch))), us(own.get(("decode.whole.closes", tokens, batch))),
              us(own.get(("decode.whole.enters", tokens, batch))),
              f"{1e3 * own['decode.whole', tokens, batch]['floor_ms']:.0f} us", against_peer(own["decode.whole", tokens, batch]),
              ratio(own["decode.whole", tokens, batch])] for tokens, batch in sizes]
    once = min((tokens for tokens, _ in sizes), key=lambda tokens: abs(tokens - 32768))  # a list is as long in any context
    given = [[str(batch), us(x), f"{1e3 * x['floor_ms']:.0f} us", against_peer(x), ratio(x)] for (what, tokens, batch), x in own.items()
             if what == "decode.exact" and tokens == once and "peer" in x]
    dense = " or ".join(dict.fromkeys(x["peer"] for x in own.values() if x["what"] == "decode.whole" and "peer" in x)) or "-"
    lists = next((x["peer"] for x in own.values() if x["what"] == "decode.exact" and "peer" in x), "-")
    return (f"{first['device']}, driver {first['driver']}, CUDA {first['cuda']}, {first['date']}; one new token of each sequence, bf16, "
            f"{shape['q_heads']} query and {shape['kv_heads']} key\nheads, D {shape['d']}, 64 exact blocks, replayed from a graph, caches "
            f"emptied before each step ([measurements]({name}),\nmade by `bench/run_gpu_decode`). A step writes its keys, keeps statistics "
            f"and state, selects, and attends; beside\nit the step that completes a block of every sequence, and the next, "
            f"with which a block of every sequence enters the state; floor: the bytes\nthat a step has to read, at 4.52 TB/s; dense: the fastest of the dense kernels in "
            f"the same run\n({dense}):\n\n"
            + table(["context", "batch", "step", "that closes blocks", "the next", "floor", "dense", "ratio"], steps)
            + f"\n![Time of a step by context]({name.with_suffix('.png')})\n"
            + (f"\nThe exact branch on lists that are given, with the launches of its step, beside {lists}\n(lists cut into the number of runs "
               f"that is fastest, and merged):\n\n" + table(["batch", "spla", "floor", "peer", "ratio"], given) if given else "") + "\n")


readme_section.keep(__doc__, BEGIN, END, figures)
