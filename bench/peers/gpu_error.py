# SPDX-FileCopyrightText: The spla authors
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""The inputs that bench_gpu_prefill leaves in a file, and how far a peer's dense attention is from fp64 on them."""
import json

import torch

from gpu_record import DEVICE


class Inputs:
    def __init__(self, path):
        with open(path, "rb") as file:
            self.shape = json.loads(file.readline())
            rest = torch.frombuffer(bytearray(file.read()), dtype=torch.bfloat16)
        tokens, dim = self.shape["tokens"], self.shape["d"]
        heads = [self.shape["q_heads"], self.shape["kv_heads"], self.shape["kv_heads"]]
        parts = rest.split([tokens * h * dim for h in heads])
        self.q, self.k, self.v = (x.view(1, tokens, h, dim).to(DEVICE) for x, h in zip(parts, heads))

    def errors(self, out):
        """(relative error of all samples, largest error of a number); out [1, tokens, heads, dim]."""
        group, wrong, whole, largest = self.q.shape[2] // self.k.shape[2], 0.0, 0.0, 0.0
        for token, head in self.shape["samples"]:
            keys, values = (x[0, : token + 1, head // group].double() for x in (self.k, self.v))
            truth = torch.softmax(keys @ self.q[0, token, head].double() / self.q.shape[3] ** 0.5, 0) @ values
            error = out[0, token, head].double() - truth
            wrong, whole = wrong + float(error.square().sum()), whole + float(truth.square().sum())
            largest = max(largest, float(error.abs().max()))
        return (wrong / whole) ** 0.5, largest


def report(peers, name, dense):
    """dense(q, k, v) -> out, all [1, tokens, heads, dim]."""
    if not peers.inputs or not peers.wants("error"):
        return
    try:
        given = Inputs(peers.inputs)
        relative, largest = given.errors(dense(given.q, given.k, given.v))
        if not relative <= 2e-2:
            raise ValueError(f"wrong: relative error {relative:.2e}")
    except Exception as error:  # whatever a peer throws is its own matter
        peers.absent(name, error, measurement="prefill.error")
        return
    shape = {key: given.shape[key] for key in ("tokens", "q_heads", "kv_heads", "d")}
    peers.line("prefill.error", name, shape={**shape, "batch": 1, "dv": shape["d"], "dtype": "bf16"}, relative_error=relative,
               largest_error=largest, rows=len(given.shape["samples"]))
