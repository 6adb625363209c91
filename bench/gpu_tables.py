# SPDX-FileCopyrightText: The spla authors
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""A file of results that run_gpu made, as aligned tables: gpu_tables.py FILE."""
import json
import pathlib
import sys


def number(value, digits):
    return "-" if value is None else f"{value:.{digits}f}"


def aligned(title, head, rows):
    """Columns of numbers to the right, those that have words to the left."""
    if not rows:
        return
    words = [any(row[i][:1].isalpha() for row in rows) for i in range(len(head))]
    widths = [max(len(row[i]) for row in [head, *rows]) for i in range(len(head))]
    print(f"\n{title}")
    for row in [head, *rows]:
        print("  ".join(x.ljust(w) if left else x.rjust(w) for x, w, left in zip(row, widths, words)).rstrip())


def heads(shape):
    return f"{shape['q_heads']}/{shape['kv_heads']}"


def measurement(x):
    tile = x["shape"].get("tile") if "given" in x["what"] else None
    width = x["shape"].get("key_block")
    return (x["what"].removeprefix("peer.").removeprefix("prefill.").removeprefix("decode.") + (f" T={tile}" if tile else "")
            + (f" B={width}" if width else ""))


def of_spla(record):
    return [x for x in record if not x["what"].startswith("peer.")]


def of_peers(record):
    return [x for x in record if x["what"].startswith("peer.")]


def times(record):
    rows = [[measurement(x), str(x["shape"]["tokens"]), heads(x["shape"]), str(x["shape"]["d"]), number(x["ms"], 3),
             number(x.get("floor_ms") or None, 3), number(x.get("tflops"), 0), number(x["shape"].get("union_ratio"), 2),
             number(x.get("peer_ms"), 3), number(x.get("ratio"), 2), x.get("peer", "-")]
            for x in of_spla(record) if "ms" in x and x.get("study") != "groups" and not x["what"].startswith("decode.")]
    aligned("spla, beside the fastest peer that does the same",
            ["what", "tokens", "heads", "D", "ms", "floor", "TFLOP/s", "union", "peer ms", "ratio", "peer"], rows)


def microseconds(ms):
    return number(ms and 1e3 * ms, 1)


def steps(record):
    rows = [[measurement(x), str(x["shape"]["tokens"]), str(x["shape"]["batch"]), microseconds(x["ms"]), microseconds(x["min"]),
             microseconds(x["max"]), microseconds(x["floor_ms"]), number(x["gbs"] / 1e3, 2), microseconds(x.get("peer_ms")),
             number(x.get("ratio"), 2), x.get("peer", "-")] for x in of_spla(record) if x["what"].startswith("decode.")]
    aligned("decode steps of spla, beside the fastest peer that does the same",
            ["what", "tokens", "batch", "us", "min", "max", "floor", "TB/s", "peer us", "ratio", "peer"], rows)


def groups(record):
    """Time per useful operation, over that of four query heads to a key head."""
    lines = [x for x in of_spla(record) if x.get("study") == "groups"]
    four = {x["what"]: x["tflops"] for x in lines if x["shape"]["q_heads"] == 4 * x["shape"]["kv_heads"] and "tflops" in x}
    rows = [[measurement(x), str(x["shape"]["q_heads"] // x["shape"]["kv_heads"]), heads(x["shape"]), number(x["ms"], 3),
             number(x.get("tflops"), 0), number(four[x["what"]] / x["tflops"] if x["what"] in four and "tflops" in x else None, 2),
             number(x["shape"]["union_ratio"], 2), number(x.get("peer_ms"), 2), number(x.get("ratio"), 2), x.get("peer", "-")]
            for x in sorted(lines, key=lambda x: x["what"])]
    aligned("query heads to a key head, per-token lists",
            ["what", "G", "heads", "ms", "TFLOP/s", "per op, G=4 is 1", "union", "peer ms", "ratio", "peer"], rows)


def peers(record):
    rows = [[measurement(x), str(x["shape"]["tokens"]), str(x["shape"]["batch"]), heads(x["shape"]), str(x["shape"]["d"]),
             number(x["ms"], 3), number(x["min"], 3), number(x["max"], 3), str(x["n"]), number(x.get("tflops"), 0), x["peer"]]
            for x in sorted(of_peers(record), key=lambda x: x["what"]) if "ms" in x]
    aligned("peers", ["what", "tokens", "batch", "heads", "D", "ms", "min", "max", "n", "TFLOP/s", "peer"], rows)


def errors(record):
    rows = [[x.get("peer", "spla, exact branch"), str(x["shape"]["tokens"]), f"{x['relative_error']:.2e}", f"{x['largest_error']:.2e}",
             str(x["rows"])] for x in record if "relative_error" in x]
    aligned("error against fp64, on the same inputs, all keys seen", ["of", "tokens", "relative", "largest", "rows"], rows)


def absent(record):
    rows = [[x["peer"], x.get("measurement", "-"), str(x.get("shape", {}).get("tokens", "-")), x["why"]]
            for x in record if x["what"] == "peer.absent"]
    aligned("not measured", ["peer", "what", "tokens", "why"], rows)


def show(record):
    for table in (times, steps, groups, peers, errors, absent):
        table(record)


if __name__ == "__main__":
    show([json.loads(line) for line in pathlib.Path(sys.argv[1]).read_text(encoding="utf-8").splitlines()])
