# SPDX-FileCopyrightText: The spla authors
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Dense causal attention of PyTorch on a GPU, by cuDNN and by its own flash kernel: a line of JSON a measurement.

Held against a float32 computation of some rows first; timed by events with the second-level cache driven out, median of 9.
"""
import argparse
import json
import statistics

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

BACKENDS = {"PyTorch SDPA, cuDNN": SDPBackend.CUDNN_ATTENTION, "PyTorch SDPA, flash": SDPBackend.FLASH_ATTENTION}


def milliseconds(work, repetitions=9):
    other = torch.empty(256 << 20, dtype=torch.uint8, device="cuda")
    times = []
    for i in range(repetitions + 1):
        other.fill_(i)
        begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        begin.record()
        work()
        end.record()
        torch.cuda.synchronize()
        times.append(begin.elapsed_time(end))
    return times[1:]


def rows_are_right(q, k, v, out):
    tokens, group = q.shape[2], q.shape[1] // k.shape[1]
    for token in (0, tokens // 3, tokens - 1):
        for head in (0, q.shape[1] - 1):
            keys, values = k[0, head // group, : token + 1].float(), v[0, head // group, : token + 1].float()
            weights = torch.softmax(keys @ q[0, head, token].float() / q.shape[3] ** 0.5, 0)
            if not torch.allclose(weights @ values, out[0, head, token].float(), atol=2e-2):
                return False
    return True


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tokens", default="32768,65536,131072")
    parser.add_argument("--heads", default="32/8")
    parser.add_argument("--dim", type=int, default=128)
    arguments = parser.parse_args()
    query_heads, key_heads = map(int, arguments.heads.split("/"))
    torch.manual_seed(1)
    for tokens in map(int, arguments.tokens.split(",")):
        q, k, v = (torch.randn(1, heads, tokens, arguments.dim, device="cuda", dtype=torch.bfloat16)
                   for heads in (query_heads, key_heads, key_heads))
        for name, backend in BACKENDS.items():
            def work():
                with sdpa_kernel(backend):
                    return torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)
            try:
                right = rows_are_right(q, k, v, work())
            except RuntimeError as error:
                print(f"# {name}: {str(error).splitlines()[0]}", flush=True)
                continue
            if not right:
                raise SystemExit(f"{name} at {tokens} tokens: wrong rows")
            times = milliseconds(work)
            print(json.dumps({"peer": f"{name} {torch.__version__}", "tokens": tokens, "d": arguments.dim,
                              "q_heads": query_heads, "kv_heads": key_heads, "ms": statistics.median(times),
                              "min": min(times), "max": max(times), "n": len(times)}), flush=True)


main()
