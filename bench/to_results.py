# SPDX-FileCopyrightText: The spla authors
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""One run's JSON of Google Benchmark and lines of peers/torch_sdpa.py into one file of results, a measurement a line.

Where the peer was measured in several ways, spla's one measurement stands in a line for each.
"""
import argparse
import collections
import json
import os
import re

# Processor time is left out below this. The kernel adds a running thread's time to its process when the thread is asked or
# when the clock ticks, up to 10 ms apart, so a shorter run counts what the other threads did not do, or misses what they did.
# A decode step is always too short.
SHORTEST_PROCESSOR_MS = 40


def processor_name():
    with open("/proc/cpuinfo") as info:
        fields = dict(line.split(":", 1) for line in info if ":" in line)
    fields = {key.strip(): value.strip() for key, value in fields.items()}
    return f"{fields.get('model name')} (family {fields.get('cpu family')}, model {fields.get('model')}), {os.cpu_count()} cores"


def clean(number):
    return float(f"{number:.5g}")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("spla")
    parser.add_argument("torch")
    parser.add_argument("--command", required=True)
    parser.add_argument("--compiler", required=True)
    parser.add_argument("--caveat", default="")
    parser.add_argument("--out", required=True)
    arguments = parser.parse_args()
    with open(arguments.spla) as file:
        run = json.load(file)
    with open(arguments.torch) as file:
        peers = [json.loads(line) for line in file if line.startswith("{")]
    peers_of = collections.defaultdict(list)
    for p in peers:
        peers_of[p["what"], p["tokens"], p["d"]].append(p)
    with open(arguments.out, "w") as out:
        for b in run["benchmarks"]:
            if b.get("error_occurred") or b.get("run_type") == "aggregate":
                raise SystemExit(f"{b['name']}: {b.get('error_message', 'an aggregate')}")
            what, dtype, d, tokens = re.match(r"(\S+?)/dtype:(\w+)/d:(\d+)/tokens:(\d+)", b["name"]).groups()
            shape = {"tokens": int(tokens), "batch": 1, "q_heads": 8, "kv_heads": 2, "d": int(d), "dv": int(d), "dtype": dtype, "top_k": 54}
            if "union_ratio" in b:
                shape["union_ratio"] = clean(b["union_ratio"])
            line = {"what": what, "shape": shape, **{k: clean(b[k]) for k in ("ms", "min", "max")}, "n": int(b["n"])}
            processor = not what.startswith("cpu.decode") and b["ms"] >= SHORTEST_PROCESSOR_MS
            if processor:
                line["processor_ms"] = clean(b["processor_ms"])
            context = run["context"]
            common = {"device": processor_name(), "threads": int(context["threads"]), "compiler": arguments.compiler,
                      "spla": context["spla"], "load": round(context["load_avg"][0], 2), "date": context["date"],
                      "command": arguments.command}
            if arguments.caveat:
                common["caveat"] = arguments.caveat
            beside = [{}]
            if "gflops" in b:
                line["tflops"] = clean(b["gflops"] / 1e3)
                sgemm_ms = clean(b["ms"] * b["gflops"] / b["sgemm_gflops"])
                beside = [{"peer": "sgemm of Eigen, n 1536, the same FLOPs", "peer_ms": sgemm_ms, "floor_ms": sgemm_ms}]
                if processor:
                    beside[0]["peer_processor_ms"] = clean(b["processor_ms"] * b["processor_gflops"] / b["processor_sgemm_gflops"])
            elif ".whole" in what and dtype == "fp32":
                for p in peers_of[what.split(".")[1], int(tokens), int(d)]:
                    one = {"peer": f"PyTorch {p['torch']} scaled_dot_product_attention, fp32, {p['way']}", "peer_ms": clean(p["ms"])}
                    if processor and p.get("processor_ms", 0) >= SHORTEST_PROCESSOR_MS:
                        one["peer_processor_ms"] = clean(p["processor_ms"])
                    beside.append(one)
                if len(beside) > 1:
                    beside.pop(0)
            for one in beside:
                if "peer_ms" in one:
                    one["ratio"] = clean(one["peer_ms"] / line["ms"])
                if "peer_processor_ms" in one:
                    one["processor_ratio"] = clean(one["peer_processor_ms"] / line["processor_ms"])
                out.write(json.dumps(line | one | common) + "\n")


if __name__ == "__main__":
    main()
