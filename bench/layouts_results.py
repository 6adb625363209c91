# SPDX-FileCopyrightText: The spla authors
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Interleaved repetitions of bench_layouts into one file of results, a layout a line, and a table."""
import argparse
import collections
import json
import re
import statistics

from to_results import clean, processor_name


def place(item):
    """Shapes in order, and each shape's layouts from the fixed batch on."""
    what, layout, dtype, d, tokens = item[0]
    return what, int(d), dtype, int(tokens), ["fixed", "packed", "slots", "pages"].index(layout)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run")
    parser.add_argument("--command", required=True)
    parser.add_argument("--compiler", required=True)
    parser.add_argument("--out", required=True)
    arguments = parser.parse_args()
    with open(arguments.run) as file:
        run = json.load(file)
    times = collections.defaultdict(list)
    for b in run["benchmarks"]:
        if b.get("error_occurred"):
            raise SystemExit(f"{b['name']}: {b['error_message']}")
        if b["run_type"] == "iteration":
            key = re.match(r"(\S+?)/layout:(\w+)/dtype:(\w+)/d:(\d+)/tokens:(\d+)", b["name"]).groups()
            times[key].append(b["ms"])
    context = run["context"]
    print(f"{'':<22}{'tokens':>8}{'D':>5}{'dtype':>7}{'layout':>9}{'ms':>10}{'min':>10}{'max':>10}{'/ fixed':>10}")
    with open(arguments.out, "w") as out:
        for (what, layout, dtype, d, tokens), ms in sorted(times.items(), key=place):
            fixed = statistics.median(times[what, "fixed", dtype, d, tokens])
            middle = statistics.median(ms)
            print(f"{what:<22}{tokens:>8}{d:>5}{dtype:>7}{layout:>9}{middle:>10.3f}{min(ms):>10.3f}{max(ms):>10.3f}{middle / fixed:>10.3f}")
            shape = {"tokens": int(tokens), "batch": 1, "q_heads": 8, "kv_heads": 2, "d": int(d), "dv": int(d), "dtype": dtype,
                     "top_k": 54, "layout": layout}
            line = {"what": what, "shape": shape, "ms": clean(middle), "min": clean(min(ms)), "max": clean(max(ms)), "n": len(ms),
                    "floor": "the fixed batch", "floor_ms": clean(fixed), "ratio": clean(fixed / middle), "device": processor_name(),
                    "threads": int(context["threads"]), "compiler": arguments.compiler, "spla": context["spla"],
                    "load": round(context["load_avg"][0], 2), "date": context["date"], "command": arguments.command}
            out.write(json.dumps(line) + "\n")


if __name__ == "__main__":
    main()
