# SPDX-FileCopyrightText: The spla authors
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""One run's JSON of Google Benchmark and lines of peers/torch_sdpa.py into one file of results, a measurement a line."""
import argparse
import json
import os
import re


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
    peer_of = {(p["what"], p["tokens"], p["d"]): p for p in peers}
    with open(arguments.out, "w") as out:
        for b in run["benchmarks"]:
            if b.get("error_occurred") or b.get("run_type") == "aggregate":
                raise SystemExit(f"{b['name']}: {b.get('error_message', 'an aggregate')}")
            what, dtype, d, tokens = re.match(r"(\S+?)/dtype:(\w+)/d:(\d+)/tokens:(\d+)", b["name"]).groups()
            shape = {"tokens": int(tokens), "batch": 1, "q_heads": 8, "kv_heads": 2, "d": int(d), "dv": int(d), "dtype": dtype, "top_k": 54}
            if "union_ratio" in b:
                shape["union_ratio"] = clean(b["union_ratio"])
            line = {"what": what, "shape": shape, **{k: clean(b[k]) for k in ("ms", "min", "max")}, "n": int(b["n"]),
                    "processor_ms": clean(b["processor_ms"])}
            if "gflops" in b:
                line["tflops"] = clean(b["gflops"] / 1e3)
                line["peer"] = "sgemm of Eigen, n 1536, the same FLOPs"
                line["peer_ms"] = line["floor_ms"] = clean(b["ms"] * b["gflops"] / b["sgemm_gflops"])
                line["peer_processor_ms"] = clean(b["processor_ms"] * b["processor_gflops"] / b["processor_sgemm_gflops"])
            peer = peer_of.get((what.split(".")[1], int(tokens), int(d))) if ".whole" in what and dtype == "fp32" else None
            if peer:
                line["peer"] = f"PyTorch {peer['torch']} scaled_dot_product_attention, fp32, {peer['way']}"
                line["peer_ms"] = clean(peer["ms"])
                line["peer_processor_ms"] = clean(peer["processor_ms"])
            if "peer_ms" in line:
                line["ratio"] = clean(line["peer_ms"] / line["ms"])
                line["processor_ratio"] = clean(line["peer_processor_ms"] / line["processor_ms"])
            context = run["context"]
            line |= {"device": processor_name(), "threads": int(context["threads"]), "compiler": arguments.compiler,
                     "spla": context["spla"], "load": round(context["load_avg"][0], 2), "date": context["date"], "command": arguments.command}
            if arguments.caveat:
                line["caveat"] = arguments.caveat
            out.write(json.dumps(line) + "\n")


if __name__ == "__main__":
    main()
