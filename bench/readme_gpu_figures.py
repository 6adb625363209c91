# SPDX-FileCopyrightText: The spla authors
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""README's GPU figures, between its two comments, out of one file of results that run_gpu made; --check only says whether they
are."""
import argparse
import json
import pathlib

from readme_figures import size, table, time_of

bench = pathlib.Path(__file__).parent
BEGIN, END = "<!-- GPU figures: begin -->\n", "<!-- GPU figures: end -->\n"
SHARINGS = ["per_token", "first_query32", "tile_sum128"]


def figures(path):
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    first = lines[0]
    whole = {(x["what"].rsplit(".", 1)[1], x["shape"]["tokens"]): x for x in lines if x["what"].startswith("prefill.whole.")}
    tokens = sorted({t for _, t in whole})
    rows = [["dense: " + whole[SHARINGS[0], tokens[0]].get("peer", "-"), *(time_of(whole[SHARINGS[0], t].get("peer_ms")) for t in tokens)]]
    for sharing in SHARINGS:
        rows.append([f"`{sharing}`", *(f"{time_of(whole[sharing, t]['ms'])} ({whole[sharing, t].get('ratio', 0):.1f}x)" for t in tokens)])
    shape = first["shape"]
    ratios = ", ".join(f"{whole[SHARINGS[0], t]['shape']['union_ratio']:.2f}" for t in tokens)
    name = path.relative_to(bench.parent)
    return (f"{first['device']}, driver {first['driver']}, CUDA {first['cuda']}, {first['date']}; bf16, {shape['q_heads']} query and "
            f"{shape['kv_heads']} key heads, D {shape['d']}, 64 exact blocks,\nclustered keys with drifting queries (32 neighbouring tokens "
            f"select {ratios} lists together); whole prefill with its append, beside\nthe fastest of PyTorch's dense kernels in the same run "
            f"([measurements]({name}), made by `bench/run_gpu`).\n\n"
            + table(["prefill", *map(size, tokens)], rows) + f"\n![Whole prefill by tokens]({name.with_suffix('.png')})\n\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("results", type=pathlib.Path, nargs="?", help="default: the file that README names")
    parser.add_argument("--check", action="store_true", help="change nothing; fail where README differs")
    given = parser.parse_args()
    readme = bench.parent / "README.md"
    old = readme.read_text(encoding="utf-8")
    before, rest = old.split(BEGIN)
    held, after = rest.split(END)
    path = given.results.resolve() if given.results else bench.parent / held.split("[measurements](")[1].split(")")[0]
    new = before + BEGIN + figures(path) + END + after
    if not given.check:
        readme.write_text(new, encoding="utf-8")
    elif new != old:
        raise SystemExit(f"README.md has other figures than {path.name}: bench/readme_gpu_figures.py writes them")


main()
