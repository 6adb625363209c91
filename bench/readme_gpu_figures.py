# SPDX-FileCopyrightText: The spla authors
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""README's GPU figures, between its two comments, out of one file of results that run_gpu made; --check only says whether they
are. What the file does not have is left out."""
import json
import pathlib

import readme_section
from readme_figures import size, table, time_of

bench = pathlib.Path(__file__).parent
BEGIN, END = "<!-- GPU figures: begin -->\n", "<!-- GPU figures: end -->\n"
SHARINGS = ["per_token", "first_query32", "tile_sum128"]


def three_digits(ms):
    return "-" if ms is None else f"{ms:.3g} ms"


def beside(x, shown):
    """A time, and how many times as long the peer takes."""
    return shown(x["ms"]) + (f" ({x['ratio']:.1f}x)" if "ratio" in x else "") if x else "-"


class Record:
    def __init__(self, path):
        self.lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        self.first = self.lines[0]

    def of_study(self, study, what=""):
        return [x for x in self.lines if x["what"].startswith("prefill." + what) and x.get("study", "sharings") == study]

    def peers(self, what):
        return [x for x in self.lines if x["what"] == "peer." + what and "ms" in x]


def whole(record, study, shown):
    found = {(x["what"].rsplit(".", 1)[1], x["shape"]["tokens"]): x for x in record.of_study(study, "whole.")}
    tokens = sorted({t for _, t in found})
    names = dict.fromkeys(found[SHARINGS[0], t].get("peer", "-") for t in tokens)  # in order, each once
    rows = [["dense: " + " or ".join(names), *(shown(found[SHARINGS[0], t].get("peer_ms")) for t in tokens)]]
    for sharing in SHARINGS:
        rows.append([f"`{sharing}`", *(beside(found.get((sharing, t)), shown) for t in tokens)])
    return tokens, found, rows


def of_whole(record):
    tokens, found, rows = whole(record, "sharings", time_of)
    ratios = ", ".join(f"{found[SHARINGS[0], t]['shape']['union_ratio']:.2f}" for t in tokens)
    dense = record.peers("prefill.dense")
    kind = "PyTorch's dense kernels" if all("PyTorch" in x["peer"] for x in dense) else "the dense kernels measured"
    return ratios, kind, table(["prefill", *map(size, tokens)], rows)


def of_short(record):
    if not record.of_study("short"):
        return ""
    tokens, _, rows = whole(record, "short", three_digits)
    return "\nShort prompts, of which all is exact:\n\n" + table(["prefill", *(str(t) for t in tokens)], rows)


def of_given(record):
    """Rows: lists of spla's, and what peers make of lists as long; columns: sizes, then the narrower heads."""
    own = record.of_study("given")
    if not own:
        return ""
    lines = own + record.peers("prefill.exact.given")
    columns = sorted({(-x["shape"]["d"], x["shape"]["tokens"]) for x in lines})
    cells = {}
    for x in lines:
        shape = x["shape"]
        name = x["peer"] if x["what"].startswith("peer.") else f"spla, lists of {shape['tile']} tokens"
        cells.setdefault(name, {})[-shape["d"], shape["tokens"]] = x
    rows = [[name, *(three_digits(found[c]["ms"]) if c in found else "-" for c in columns)] for name, found in cells.items()]
    return ("\nThe exact branch alone, on lists of 4096 keys that it is given; the peers' serve 128 queries:\n\n"
            + table(["given lists", *(f"{size(t)}, D {-d}" for d, t in columns)], rows))


def of_groups(record):
    lines = [(x["shape"]["q_heads"] // x["shape"]["kv_heads"], x) for x in record.of_study("groups")]
    if not lines:
        return ""
    per_operation = {(x["what"], group): 1 / x["tflops"] for group, x in lines if "tflops" in x}
    sizes = sorted({group for _, group in per_operation})
    rows = []
    for stage in ("exact", "residual", "whole"):
        found = {g: per_operation.get((f"prefill.{stage}.per_token", g)) for g in sizes}
        if found.get(4):
            rows.append([stage, *(f"{found[g] / found[4]:.2f}" if found[g] else "-" for g in sizes)])
    text = (f"\nTime per useful operation with G query heads to a key head, per-token lists, {size(lines[0][1]['shape']['tokens'])} tokens,"
            "\nover that of G = 4")
    beside_peer = [f" (G = {group}: {x['peer']} takes {three_digits(x['peer_ms'])}, spla's exact branch {three_digits(x['ms'])})"
                   for group, x in lines if "peer" in x and "exact" in x["what"]]
    return text + "".join(beside_peer) + ":\n\n" + table(["G", *map(str, sizes)], rows)


def of_stages(record):
    """What has a peer of its own, and the worst case."""
    rows = [[size(x["shape"]["tokens"]), name, three_digits(x["ms"]), f"{x['peer']}: {three_digits(x['peer_ms'])}", f"{x['ratio']:.1f}x"]
            for study, what, name in (("sharings", "select.per_token", "selection, a list a token"),
                                      ("random", "exact.random", "exact branch, lists without overlap"))
            for x in record.of_study(study, what) if "peer" in x]
    return "\n" + table(["tokens", "stage", "spla", "peer", "ratio"], rows) if rows else ""


def of_errors(record):
    found = {x.get("peer", "spla's exact branch"): x for x in record.lines if "relative_error" in x}
    if not found:
        return ""
    said = ", ".join(f"{name} {x['relative_error']:.1e}" for name, x in found.items())
    tokens = next(iter(found.values()))["shape"]["tokens"]
    return f"\nRelative error against fp64 where all keys are seen, on the same inputs of {tokens} tokens: {said}.\n"


def figures(path):
    record = Record(path)
    first, shape = record.first, record.first["shape"]
    ratios, kind, prefill = of_whole(record)
    name = path.relative_to(bench.parent)
    return (f"{first['device']}, driver {first['driver']}, CUDA {first['cuda']}, {first['date']}; bf16, {shape['q_heads']} query "
            f"and {shape['kv_heads']} key heads, D {shape['d']}, 64 exact blocks,\nclustered keys with drifting queries (32 neighbouring tokens "
            f"select {ratios} lists together); whole prefill with its append, beside\nthe fastest of {kind} in the same run "
            f"([measurements]({name}), made by `bench/run_gpu`).\n\n"
            + prefill + f"\n![Whole prefill by tokens]({name.with_suffix('.png')})\n"
            + of_given(record) + of_stages(record) + of_groups(record) + of_short(record) + of_errors(record) + "\n")


readme_section.keep(__doc__, BEGIN, END, figures)
