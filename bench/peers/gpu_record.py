# SPDX-FileCopyrightText: The spla authors
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""What peers on a GPU share: the command line, the timer, and the line of JSON that a measurement prints.

A peer is held against a computation in fp32 of some rows, then timed by events with the second-level cache driven out. One that
is not installed, does not run or is wrong prints a line that names it and says why; the others go on.
"""
import argparse
import json
import pathlib
import site
import statistics
import sys

import torch

PACKAGES = pathlib.Path(__file__).resolve().parents[2] / ".deps/gpu-peers/site"  # install_gpu puts them there
DEVICE = "cuda"


def add_packages():
    """site.addsitedir reads .pth files too, by which one of the packages adds a folder of its own."""
    if PACKAGES.is_dir():
        site.addsitedir(str(PACKAGES))
        sys.path.insert(0, str(PACKAGES))


def normal(*shape):
    return torch.randn(*shape, device=DEVICE, dtype=torch.bfloat16)


def times_of(work, budget_ms=400, least=5, most=25):
    """Times in ms after a first run that does not count; all are enqueued at once, so the host runs ahead of short work."""
    other = torch.empty(512 << 20, dtype=torch.uint8, device=DEVICE)

    def run(count):
        spans = []
        for i in range(count):
            other.fill_(i)
            begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
            begin.record()
            work()
            end.record()
            spans.append((begin, end))
        torch.cuda.synchronize()
        return [begin.elapsed_time(end) for begin, end in spans]

    first = run(2)[1]
    return run(max(least, min(most, int(budget_ms / max(first, 1e-3)))))


class Peers:
    def __init__(self, description):
        parser = argparse.ArgumentParser(description=description)
        parser.add_argument("--tokens", default="32768,65536,131072")
        parser.add_argument("--heads", default="32/8")
        parser.add_argument("--dim", type=int, default=128)
        parser.add_argument("--what", default="sharings", help="the studies of bench_gpu_prefill to stand beside, or all")
        parser.add_argument("--inputs", help="the file that bench_gpu_prefill left for the study of errors")
        given, _ = parser.parse_known_args()  # the program, which runs first, has refused what nobody knows
        self.tokens = [int(x) for x in given.tokens.split(",")]
        self.query_heads, self.key_heads = map(int, given.heads.split("/"))
        self.dim, self.inputs, self.studies = given.dim, given.inputs, given.what.split(",")
        torch.manual_seed(1)

    def wants(self, *studies):
        return "all" in self.studies or any(study in self.studies for study in studies)

    def dense_sizes(self):
        """Tokens of dense attention: those of the short prompts, then those of the record."""
        return ([512, 1024, 2048, 4096] if self.wants("short") else []) + (self.tokens if self.wants("sharings") else [])

    def shape(self, tokens, **more):
        return {"tokens": tokens, "batch": 1, "q_heads": self.query_heads, "kv_heads": self.key_heads, "d": self.dim,
                "dv": more.get("d", self.dim), "dtype": "bf16", **more}

    def line(self, what, peer, **rest):
        print(json.dumps({"what": "peer." + what, "peer": peer, **rest}), flush=True)

    def absent(self, peer, error, **rest):
        text = error if isinstance(error, str) else f"{type(error).__name__}: {error}"
        self.line("absent", peer, why=" ".join(text.split())[:300], **rest)

    def measure(self, what, peer, shape, prepare, tolerance=2e-2, show=True, **more):
        """prepare() returns the work, a function that gives its relative error, and its useful operations (or 0). Returns the
        line that it prints, or nothing where the peer is absent."""
        try:
            work, error_of, operations = prepare()
            error = error_of()
            if not error <= tolerance:
                raise ValueError(f"wrong: relative error {error:.2e}")
            times = times_of(work)
        except Exception as error:  # whatever a peer throws is its own matter
            self.absent(peer, error, measurement=what, shape=shape)
            torch.cuda.empty_cache()
            return None
        ms = statistics.median(times)
        line = {"shape": shape, "ms": ms, "min": min(times), "max": max(times), "n": len(times), **more}
        if operations:
            line["tflops"] = operations / ms / 1e9
        if show:
            self.line(what, peer, **line)
        torch.cuda.empty_cache()
        return line

    def fastest(self, what, peer, measured):
        """Of ways to do the same, each measured without being shown, prints the fastest as the peer and the others beside it.
        Returns the fastest, or nothing."""
        ran = {way: line for way, line in measured.items() if line}
        best = min(ran, key=lambda way: ran[way]["ms"], default=None)
        for way, line in ran.items():
            self.line(what if way == best else what + ".other", peer, **line)
        return best
