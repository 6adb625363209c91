# SPDX-FileCopyrightText: The spla authors
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""PyTorch's scaled_dot_product_attention on the CPU, fp32, 8 query and 2 key heads: one JSON object a line.

Prefill is causal over all tokens; of the two ways to say grouped heads the faster, tried at a small size, is recorded.
Decode is recorded in each of three ways, which take turns: enable_gqa is the documented call.
"""
import argparse
import json
import statistics
import sys
import time

import torch
import torch.nn.functional as F

QUERY_HEADS, KEY_HEADS = 8, 2
GROUP = QUERY_HEADS // KEY_HEADS


def enable_gqa(q, k, v, causal):
    return F.scaled_dot_product_attention(q, k, v, is_causal=causal, enable_gqa=True)


def expanded(q, k, v, causal):
    """Keys and values repeated outside the clock: the copy is not counted against it."""
    return F.scaled_dot_product_attention(q, k, v, is_causal=causal)


def heads_as_rows(q, k, v, causal):
    """Decode alone: the heads of a group as rows of one head, which see the same keys."""
    assert not causal
    return F.scaled_dot_product_attention(q.reshape(1, KEY_HEADS, GROUP, q.shape[-1]), k, v)


def inputs(way, queries, keys, dim):
    q = torch.randn(1, QUERY_HEADS, queries, dim)
    k = torch.randn(1, KEY_HEADS, keys, dim)
    v = torch.randn(1, KEY_HEADS, keys, dim)
    if way is expanded:
        k, v = (x.repeat_interleave(GROUP, dim=1).contiguous() for x in (k, v))
    return q, k, v


def measure(ways, queries, keys, dim, repetitions):
    """What each way takes; the ways take turns, so that what else the machine does meets all of them."""
    given = {way: inputs(way, queries, keys, dim) for way in ways}
    causal = queries > 1
    wall, processor = {way: [] for way in ways}, {way: [] for way in ways}
    other = torch.zeros(32 << 20)  # 128 MiB, written before each decode step: the rest of a model does as much to the caches
    for i in range(repetitions + (1 if queries == 1 or keys <= 32768 else 0)):
        for way in ways:
            if queries == 1:
                other.add_(1)
            start, start_processor = time.perf_counter(), time.process_time()
            out = way(*given[way], causal)
            end, end_processor = time.perf_counter(), time.process_time()
            wall[way].append(1e3 * (end - start))
            processor[way].append(1e3 * (end_processor - start_processor) / torch.get_num_threads())
            assert torch.isfinite(out).all()
    result = {}
    for way in ways:
        times = wall[way][-repetitions:]  # the first warms up
        result[way] = {"ms": statistics.median(times), "min": min(times), "max": max(times), "n": len(times)}
        if queries > 1:  # a decode step is too short for it: see to_results.py
            result[way]["processor_ms"] = statistics.median(processor[way][-repetitions:])
    return result


def agree(way, queries, dim):
    q, k, v = inputs(way, queries, 512, dim)
    full = [x if x.shape[1] == QUERY_HEADS else x.repeat_interleave(GROUP, dim=1) for x in (k, v)]
    logits = (q.double() @ full[0].double().transpose(-1, -2)) / dim**0.5
    if queries > 1:
        logits = logits.masked_fill(torch.ones(queries, 512).triu(1).bool(), float("-inf"))
    truth = logits.softmax(-1) @ full[1].double()
    return (way(q, k, v, queries > 1).reshape(truth.shape).double() - truth).abs().max().item() < 1e-5


def fastest(ways, queries, keys, dim, repetitions):
    found = {way: result["min"] for way, result in measure(ways, queries, keys, dim, repetitions).items()}
    print({w.__name__: round(t, 3) for w, t in found.items()}, file=sys.stderr)
    return min(found, key=found.get)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="without 128K tokens")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--dims", type=int, nargs="*", default=[64, 128])
    parser.add_argument("--only", choices=["prefill", "decode"])
    arguments = parser.parse_args()
    torch.manual_seed(0)
    torch.set_num_threads(arguments.threads)
    decode_ways, prefill_ways = [enable_gqa, expanded, heads_as_rows], [enable_gqa, expanded]
    for dim in arguments.dims:
        def lines(what, keys, results):
            for way, result in results.items():
                print(json.dumps({"what": what, "tokens": keys, "d": dim, "way": way.__name__, "torch": torch.__version__, **result}),
                      flush=True)
        if arguments.only != "prefill":
            for way in decode_ways:
                assert agree(way, 1, dim), way.__name__
            for keys in [4096, 8192, 16384, 32768] + ([] if arguments.quick else [65536, 131072]):
                lines("decode", keys, measure(decode_ways, 1, keys, dim, 50))
        if arguments.only != "decode":
            for way in prefill_ways:
                assert agree(way, 512, dim), way.__name__
            way = fastest(prefill_ways, 4096, 4096, dim, 3)
            for keys in [4096, 8192, 16384, 32768] + ([] if arguments.quick else [131072]):
                lines("prefill", keys, measure([way], keys, keys, dim, 3 if keys < 32768 else 1))


if __name__ == "__main__":
    main()
