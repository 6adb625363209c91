# SPDX-FileCopyrightText: The spla authors
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Lines of bench_gpu_prefill and of peers/torch_gpu.py, of one run, into one file of results and an
aligned table."""
import argparse
import datetime
import json
import pathlib
import re
import subprocess


def driver():
    query = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    return subprocess.run(query, capture_output=True, text=True, check=False).stdout.strip().splitlines()[:1]


def version():
    text = (pathlib.Path(__file__).parent.parent / "include/spla/version.hpp").read_text()
    return ".".join(re.search(rf"SPLA_VERSION_{part} (\d+)", text)[1] for part in ("MAJOR", "MINOR", "PATCH"))


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("spla")
    parser.add_argument("peers")
    parser.add_argument("--command", required=True)
    parser.add_argument("--cuda", required=True)
    parser.add_argument("--out", required=True)
    arguments = parser.parse_args()
    lines = [json.loads(x) for x in pathlib.Path(arguments.spla).read_text().splitlines()]
    peers = [json.loads(x) for x in pathlib.Path(arguments.peers).read_text().splitlines() if x.startswith("{")]
    fastest = {}
    for p in peers:
        if p["tokens"] not in fastest or p["ms"] < fastest[p["tokens"]]["ms"]:
            fastest[p["tokens"]] = p
    common = {"driver": (driver() or ["?"])[0], "cuda": arguments.cuda, "spla": version(),
              "date": datetime.date.today().isoformat(), "command": arguments.command}
    print(f"{'tokens':>8}  {'what':<32}{'ms':>10}{'floor':>9}{'peer ms':>10}{'ratio':>8}  peer")
    with open(arguments.out, "w") as out:
        for x in lines:
            peer = fastest.get(x["shape"]["tokens"]) if ".whole." in x["what"] else None
            if peer:
                x.update(peer=peer["peer"], peer_ms=peer["ms"], ratio=round(peer["ms"] / x["ms"], 3))
            out.write(json.dumps({**x, **common}) + "\n")
            print(f"{x['shape']['tokens']:>8}  {x['what']:<32}{x['ms']:>10.3f}{x['floor_ms']:>9.3f}"
                  + (f"{peer['ms']:>10.2f}{x['ratio']:>8.2f}  {peer['peer']}" if peer else ""))
        for p in peers:
            shape = {key: p[key] for key in ("tokens", "d", "q_heads", "kv_heads")}
            line = {"what": "peer.prefill.dense", "shape": {**shape, "batch": 1, "dv": p["d"], "dtype": "bf16"}, "peer": p["peer"],
                    **{key: p[key] for key in ("ms", "min", "max", "n")}, "device": lines[0]["device"]}
            out.write(json.dumps({**line, **common}) + "\n")


main()
