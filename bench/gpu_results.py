# SPDX-FileCopyrightText: The spla authors
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Lines of bench_gpu_prefill or bench_gpu_decode and of the peers, of one run, into one file of results, each of spla's beside the fastest peer that
does the same; and as tables."""
import argparse
import datetime
import json
import pathlib
import re
import subprocess

import gpu_tables

# What a peer has to be measured as to stand beside a measurement of spla.
PEERS = {"prefill.whole.": "peer.prefill.dense", "prefill.exact.random": "peer.prefill.dense",
         "prefill.exact.given": "peer.prefill.exact.given", "prefill.exact.per_token": "peer.prefill.exact.per_token",
         "prefill.select.per_token": "peer.prefill.select.per_token", "decode.whole": "peer.decode.dense",
         "decode.exact": "peer.decode.exact"}
SAME = ("tokens", "batch", "q_heads", "kv_heads", "d")


def driver():
    query = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    return subprocess.run(query, capture_output=True, text=True, check=False).stdout.strip().splitlines()[:1]


def version():
    text = (pathlib.Path(__file__).parent.parent / "include/spla/version.hpp").read_text()
    return ".".join(re.search(rf"SPLA_VERSION_{part} (\d+)", text)[1] for part in ("MAJOR", "MINOR", "PATCH"))


def lines_of(path):
    return [json.loads(x) for x in pathlib.Path(path).read_text().splitlines() if x.startswith("{")]


def beside(x, peers):
    """peer, peer_ms and ratio of one line: the fastest, of given lists the fastest with key blocks of spla's width; peers: all."""
    wanted = next((peer for what, peer in PEERS.items() if x["what"].startswith(what)), None)
    keys = [key for key in SAME if x["what"] != "decode.exact" or key != "tokens"]  # a list is as long in any context
    same = [p for p in peers if p["what"] == wanted and "ms" in p and all(p["shape"][key] == x["shape"][key] for key in keys)]
    if not same or "ms" not in x:
        return {}
    fastest = min([p for p in same if p["shape"].get("key_block", 64) == 64] or same, key=lambda p: p["ms"])
    return {"peer": fastest["peer"], "peer_ms": fastest["ms"], "ratio": round(fastest["ms"] / x["ms"], 3),
            "peers": {p["peer"]: p["ms"] for p in same}}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("spla")
    parser.add_argument("peers")
    parser.add_argument("--command", required=True)
    parser.add_argument("--cuda", required=True)
    parser.add_argument("--out", required=True)
    arguments = parser.parse_args()
    lines, peers = lines_of(arguments.spla), lines_of(arguments.peers)
    common = {"driver": (driver() or ["?"])[0], "cuda": arguments.cuda, "spla": version(),
              "date": datetime.date.today().isoformat(), "command": arguments.command}
    record = [{**x, **beside(x, peers), **common} for x in lines]
    record += [{**p, "device": lines[0]["device"], **common} for p in peers]
    pathlib.Path(arguments.out).write_text("".join(json.dumps(x) + "\n" for x in record), encoding="utf-8")
    gpu_tables.show(record)


main()
