# SPDX-FileCopyrightText: The spla authors
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""README's figures, between its two comments, out of results/cpu-attention.jsonl alone; --check only says whether they are."""
import argparse
import json
import pathlib
import re
import sys

bench = pathlib.Path(__file__).parent
BEGIN, END = "<!-- figures: begin -->\n", "<!-- figures: end -->\n"
GROUPED = "enable_gqa"
PARTS = ["append", "select", "exact", "residual", "whole"]
SHOWN = [32768, 131072]  # tokens of the whole calls' tables


def time_of(ms):
    if ms is None:
        return "-"
    return f"{ms / 1e3:.1f} s" if ms >= 1000 else f"{ms:.0f} ms" if ms >= 10 else f"{ms:.2f} ms"


def size(tokens):
    return f"{tokens // 1024}K"


def joined(words):
    return " and ".join(filter(None, [", ".join(words[:-1]), words[-1]]))


def table(head, rows):
    return "".join("| " + " | ".join(cells) + " |\n" for cells in [head, *rows]).replace("\n", "\n|" + "---|" * len(head) + "\n", 1)


class Measured:
    def __init__(self, lines):
        self.lines = [x for x in lines if x["shape"]["dtype"] == "fp32"]
        self.sizes = sorted({x["shape"]["tokens"] for x in self.lines})
        self.dims = sorted({x["shape"]["d"] for x in self.lines})

    def find(self, what, tokens=None, d=None):
        return [x for x in self.lines if re.match(rf"cpu\.{what}(\.|$)", x["what"])
                and tokens in (None, x["shape"]["tokens"]) and d in (None, x["shape"]["d"])]

    def ms(self, what, tokens, d):
        found = self.find(what, tokens, d)
        return found[0]["ms"] if found else None

    def peer(self, what, tokens, d, way=""):
        """(time, ratio) of the peer's way; without a name, of the fastest that was measured."""
        found = [x for x in self.find(what, tokens, d) if x.get("peer", "").endswith(way) and "peer_ms" in x]
        best = min(found, key=lambda x: x["peer_ms"], default={})
        return time_of(best.get("peer_ms")), f"{best['ratio']:.1f}x" if best else "-"


def conditions(m):
    def only(values):
        values = sorted(set(values))
        if len(values) != 1:
            raise SystemExit(f"bench/readme_figures.py: one run has one of {values}")
        return values[0]
    device, threads = only(x["device"] for x in m.lines), only(x["threads"] for x in m.lines)
    heads = only((x["shape"]["q_heads"], x["shape"]["kv_heads"]) for x in m.lines)
    date = only(x["date"] for x in m.lines)[:10]
    torch = {x["peer"].split()[1].split("+")[0] for x in m.lines if x.get("peer", "").startswith("PyTorch")}
    peer = f"PyTorch {only(torch)}" if torch else "PyTorch"
    caveats = sorted({x["caveat"] for x in m.lines if "caveat" in x})
    return (f"{device}, {threads} threads, {date}; fp32, {heads[0]} query and {heads[1]} key heads, clustered keys, default options,\n"
            f"per-token lists; {peer}'s `scaled_dot_product_attention` (dense) on the same machine in the same run; caches evicted before\n"
            "each decode step ([measurements](bench/results/cpu-attention.jsonl), made by `bench/run_cpu`).\n"
            + "".join(f"{caveat}\n" for caveat in caveats))


def whole_calls(m):
    shown = [(tokens, d) for tokens in SHOWN for d in m.dims]
    prefill = [[f"prefill, {size(tokens)} tokens", str(d), time_of(m.ms("prefill.whole", tokens, d)), *m.peer("prefill.whole", tokens, d)]
               for tokens, d in shown if m.find("prefill.whole", tokens, d)]
    decode = [[f"decode step at {size(tokens)}", str(d), time_of(m.ms("decode.whole", tokens, d)),
               *m.peer("decode.whole", tokens, d, GROUPED), *m.peer("decode.whole", tokens, d)]
              for tokens, d in shown if m.find("decode.whole", tokens, d)]
    text = (table(["whole call", "D", "spla", "PyTorch, fastest way", "ratio"], prefill) + "\n"
            + table(["whole call", "D", "spla", "PyTorch, grouped call", "ratio", "PyTorch, fastest way", "ratio"], decode) + "\n"
            + "Grouped call: the documented `enable_gqa=True`. Fastest way: the fastest of it, keys and values repeated beforehand, and, for\n"
            "decode, a group's heads reshaped into rows of one head.")
    missing = any("-" in row for row in prefill + decode)
    return text + (" A dash: not measured in this run.\n" if missing else "\n")


def sentences(m):
    text = ""
    exact = [x["ratio"] for x in m.find("prefill.exact") if "ratio" in x]
    if exact:
        text += f"The exact branch runs at {100 * min(exact):.0f} % to {100 * max(exact):.0f} % of the rate of Eigen's square sgemm. "
    by_size = {}
    for x in m.find("prefill.whole"):
        if "ratio" in x:
            by_size.setdefault(x["shape"]["tokens"], []).append(x["ratio"])
    slower = [size(tokens) for tokens in sorted(by_size) if min(by_size[tokens]) < 1]
    if slower:
        text += f"At {joined(slower)} tokens dense attention is faster at prefill. "
    return text.rstrip() + "\n" if text else ""


def parts(m):
    d = m.dims[0]
    sizes = [tokens for tokens in m.sizes if m.find("prefill", tokens, d)]
    if not sizes:
        return ""
    rows = [[part, *(time_of(m.ms(f"prefill.{part}", tokens, d)) for tokens in sizes)] for part in PARTS]
    text = f"How each part grows from {size(sizes[0])} to {size(sizes[-1])} tokens"
    last = [[m.ms(f"prefill.{part}", tokens, d) for tokens in sizes[-2:]] for part in PARTS]
    if len(sizes) > 1 and all(None not in pair for pair in last):
        growth = [f"{part} takes {pair[1] / pair[0]:.1f} times as long" if part == PARTS[0] else f"{part} {pair[1] / pair[0]:.1f}"
                  for part, pair in zip(PARTS, last)]
        text += f" (from {size(sizes[-2])} on {', '.join(growth)})"
    return f"{text}:\n\n" + table([f"prefill, D {d}", *map(size, sizes)], rows)


def figures(lines):
    m = Measured(lines)
    if not m.lines:
        raise SystemExit("bench/readme_figures.py: no fp32 measurement")
    return conditions(m) + "\n" + whole_calls(m) + "\n" + sentences(m) + parts(m) + "\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="change nothing; fail where README differs")
    parser.add_argument("--readme", type=pathlib.Path, default=bench.parent / "README.md")
    parser.add_argument("--results", type=pathlib.Path, default=bench / "results/cpu-attention.jsonl")
    given = parser.parse_args()
    old = given.readme.read_text(encoding="utf-8")
    if old.count(BEGIN) != 1 or old.count(END) != 1 or old.index(BEGIN) > old.index(END):
        raise SystemExit(f"{given.readme}: it needs the lines {BEGIN.strip()} and {END.strip()}, once and in this order")
    made = figures([json.loads(line) for line in given.results.read_text(encoding="utf-8").splitlines()])
    new = old[:old.index(BEGIN)] + BEGIN + made + old[old.index(END):]
    if not given.check:
        given.readme.write_text(new, encoding="utf-8")
    elif new != old:
        import difflib
        sys.stdout.writelines(difflib.unified_diff(old.splitlines(True), new.splitlines(True), "README.md", "README.md as measured", n=1))
        raise SystemExit("README.md has other figures than bench/results/cpu-attention.jsonl: bench/readme_figures.py writes them")


if __name__ == "__main__":
    main()
