# SPDX-FileCopyrightText: The spla authors
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""A decode step of dense attention (cuDNN, flash) and of FlashAttention-4 on given lists, one new token a sequence, replayed from a
graph: what bench_gpu_decode stands beside.

Lists are page tables of 64 pages of 64 keys, one for each sequence and key head; cut into runs, each a sequence of its own, and
merged afterwards, for the package's Hopper kernel has no split: the fastest number of runs is the peer.
"""
import argparse
import importlib.metadata

import torch
import triton
import triton.language as tl
from torch.nn.attention import SDPBackend, sdpa_kernel

from gpu_record import DEVICE, Peers, add_packages, normal
from gpu_rows import relative, worst_of

PAGE, PAGES = 64, 64
RUNS = {1: (1, 4, 8, 16), 16: (1, 2, 4)}  # of larger batches: 1, 2
peers = Peers(__doc__)
parser = argparse.ArgumentParser()
parser.add_argument("--batches", default="1,16,64")
batches = [int(x) for x in parser.parse_known_args()[0].batches.split(",")]
add_packages()


def graphed(work):
    work()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        work()
    return graph.replay


def row(q, keys, values):
    """One query's output, in fp32; keys, values [tokens, dim]."""
    return torch.softmax(keys.float() @ q.float() / q.shape[0] ** 0.5, 0) @ values.float()


def dense(backend, tokens, batch):
    heads = (peers.query_heads, peers.key_heads, peers.key_heads)
    q, k, v = (normal(batch, n, h, peers.dim).transpose(1, 2) for n, h in zip((1, tokens, tokens), heads))
    group = heads[0] // heads[1]

    def work():
        with sdpa_kernel(backend):
            return torch.nn.functional.scaled_dot_product_attention(q, k, v, enable_gqa=True)

    def error():
        out = work()
        return worst_of([relative(out[b, h, 0], row(q[b, h, 0], k[b, h // group], v[b, h // group]))
                         for b in {0, batch - 1} for h in {0, heads[0] - 1}])

    return graphed(work), error, 0


@triton.jit
def merge(rows_of_runs, lse, out, rows, RUNS: tl.constexpr, DIM: tl.constexpr):
    r, s, d = tl.program_id(0), tl.arange(0, RUNS), tl.arange(0, DIM)
    x = tl.load(lse + s * rows + r)
    w = tl.exp(x - tl.max(x, 0))
    y = tl.load(rows_of_runs + (s[:, None] * rows + r) * DIM + d[None, :]).to(tl.float32)
    tl.store(out + r * DIM + d, (tl.sum(y * w[:, None], 0) / tl.sum(w, 0)).to(tl.bfloat16))


def given(forward, tokens, batch, tile, runs):
    group, lists, each = peers.query_heads // peers.key_heads, batch * peers.key_heads, tokens // PAGE
    q = normal(lists, 1, group, peers.dim)
    k, v = normal(lists * each, PAGE, 1, peers.dim), normal(lists * each, PAGE, 1, peers.dim)
    pages = torch.rand(lists, each, device=DEVICE).topk(PAGES, -1).indices.sort(-1).values
    pages = (pages + torch.arange(lists, device=DEVICE)[:, None] * each).to(torch.int32)
    cut = pages.view(lists, runs, PAGES // runs).transpose(0, 1).reshape(runs * lists, -1).contiguous()
    queries, out = q.repeat(runs, 1, 1, 1), torch.empty_like(q)

    def work():
        if runs == 1:
            return forward(q, k, v, page_table=pages, tile_mn=tile)[0]
        o, lse, *_ = forward(queries, k, v, page_table=cut, tile_mn=tile, return_lse=True)
        merge[(lists * group,)](o, lse, out, lists * group, runs, peers.dim, num_warps=1)
        return out

    def error():
        made = work()
        return worst_of([relative(made[n, 0, g], row(q[n, 0, g], *(x[pages[n].long(), :, 0].reshape(-1, peers.dim) for x in (k, v))))
                         for n in {0, lists - 1} for g in {0, group - 1}])

    return graphed(work), error, 0


def main():
    for tokens in peers.tokens:
        for batch in batches:
            shape = peers.shape(tokens, batch=batch)
            if 2 * 2 * batch * tokens * peers.key_heads * peers.dim > 0.7 * torch.cuda.mem_get_info()[0]:
                peers.absent("dense", "its keys and values have no room", measurement="decode.dense", shape=shape)
                continue
            for name, backend in (("cuDNN", SDPBackend.CUDNN_ATTENTION), ("flash", SDPBackend.FLASH_ATTENTION)):
                peers.measure("decode.dense", f"PyTorch SDPA, {name} {torch.__version__}", shape, lambda: dense(backend, tokens, batch))
    try:
        from flash_attn.cute.interface import _flash_attn_fwd

        name = "FlashAttention-4 " + importlib.metadata.version("flash-attn-4") + ", pages of 64"
    except Exception as missing:  # not installed, or for another machine
        peers.absent("FlashAttention-4", missing)
        return
    for batch in batches:
        tokens = peers.tokens[0]
        measured = {(tile, runs): peers.measure("decode.exact", name, peers.shape(tokens, batch=batch),
                                                lambda: given(_flash_attn_fwd, tokens, batch, tile, runs), show=False, runs=runs, tile=tile)
                    for tile in ((128, 64), (64, 64)) for runs in RUNS.get(batch, (1, 2))}
        peers.fastest("decode.exact", name, measured)


main()
