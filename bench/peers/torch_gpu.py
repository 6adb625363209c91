# SPDX-FileCopyrightText: The spla authors
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""PyTorch on a GPU: dense causal attention by cuDNN and by its own flash kernel, and selection as products and a top-k."""
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

import gpu_error
from gpu_record import Peers, normal
from gpu_rows import operations, rows_error, some_tokens

BACKENDS = {f"PyTorch SDPA, {name} {torch.__version__}": backend for name, backend in
            (("cuDNN", SDPBackend.CUDNN_ATTENTION), ("flash", SDPBackend.FLASH_ATTENTION))}
BLOCK, TOP = 64, 54


def attention(backend, q, k, v):
    """q, k, v [1, heads, tokens, dim]"""
    with sdpa_kernel(backend):
        return torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)


def dense(peers, backend, tokens, dim):
    q, k, v = (normal(1, heads, tokens, dim) for heads in (peers.query_heads, peers.key_heads, peers.key_heads))

    def error():
        return rows_error(*(x[0].transpose(0, 1) for x in (q, k, v, attention(backend, q, k, v))))

    pairs = tokens * (tokens + 1) // 2
    return lambda: attention(backend, q, k, v), error, operations(pairs, peers.query_heads, dim)


def selection(peers, tokens, chunk, visible):
    """Second-order scores (one product of [q, q * q] with [mean, variance]) of every query head, and the top-k of each token and key
    head; less than spla does, which normalises the scores and sums them over the group. `visible`: of a chunk of tokens only the blocks
    up to its end, else all."""
    group, blocks, dim = peers.query_heads // peers.key_heads, tokens // BLOCK, peers.dim
    mean, variance = normal(peers.key_heads, dim, blocks), 0.1 * normal(peers.key_heads, dim, blocks).abs()
    summaries = torch.cat([mean, variance], 1).repeat(group, 1, 1)  # [group * key heads, 2 dim, blocks]
    chunks = []
    for first in range(0, tokens, chunk):
        q = normal(group * peers.key_heads, min(chunk, tokens - first), dim)
        end = (first + q.shape[1]) // BLOCK if visible else blocks
        chunks.append((torch.cat([q, q * q], -1), summaries[..., :end].contiguous()))

    def work():
        for rows, columns in chunks:
            last = torch.bmm(rows, columns)[: peers.key_heads].topk(min(TOP, columns.shape[2]), dim=-1, sorted=False).indices
        return last

    def error():
        """By how much a score that was not taken is above one that was, in deviations of the scores."""
        picked, (rows, columns), worst = work(), chunks[-1], 0.0
        for token in some_tokens(rows.shape[1]):
            for head in (0, peers.key_heads - 1):
                scores = rows[head, token].float() @ columns[head].float()
                taken = torch.zeros_like(scores, dtype=torch.bool).index_fill_(0, picked[head, token], True)
                if int(taken.sum()) != picked.shape[-1]:
                    return float("nan")
                if not taken.all():
                    worst = max(worst, float((scores[~taken].max() - scores[taken].min()) / scores.std()))
        return worst

    return work, error, 0


def main():
    peers = Peers(__doc__)
    for name, backend in BACKENDS.items():
        for tokens in peers.dense_sizes():
            peers.measure("prefill.dense", name, peers.shape(tokens), lambda: dense(peers, backend, tokens, peers.dim))
        if peers.wants("given") and peers.dim != 64:
            tokens = peers.tokens[0]
            peers.measure("prefill.dense", name, peers.shape(tokens, d=64), lambda: dense(peers, backend, tokens, 64))
        gpu_error.report(peers, name, lambda q, k, v: attention(
            backend, *(x.transpose(1, 2).contiguous() for x in (q, k, v))).transpose(1, 2))
    if peers.wants("sharings"):
        for tokens in peers.tokens:
            shape = peers.shape(tokens, top_k=TOP)
            for how, chunk, visible in (("all blocks", 32768, False), ("blocks seen by 8192 tokens", 8192, True)):
                peers.measure("prefill.select.per_token", f"PyTorch scores + topk, {how} {torch.__version__}", shape,
                              lambda: selection(peers, tokens, chunk, visible), tolerance=0.1)


main()
