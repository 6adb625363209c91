# SPDX-FileCopyrightText: The spla authors
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""flash-linear-attention (the package fla-core): NSA's branch of selected blocks, a list a token at 16 query heads to a key head, the
fewest that it takes; and causal linear attention."""
import importlib.metadata
import sys

import torch

from gpu_record import Peers, add_packages, normal
from gpu_rows import KEPT, operations, pairs_of_tokens, relative, rows_error, seen_by_tokens, some_tokens, token_lists, worst_of

BLOCK, GROUP = 64, 16
peers = Peers(__doc__)
add_packages()
try:
    from fla.ops.linear_attn import chunk_linear_attn
    from fla.ops.nsa.parallel import ParallelNSAFunction

    NAME = "flash-linear-attention " + importlib.metadata.version("fla-core")
except Exception as missing:  # not installed, or for another machine
    peers.absent("flash-linear-attention", missing)
    sys.exit()


def nsa(tokens, key_heads):
    q, k, v = (normal(1, tokens, heads, peers.dim) for heads in (key_heads * GROUP, key_heads, key_heads))
    lists = token_lists(tokens, BLOCK, key_heads)
    handed = lists[None].contiguous()

    def work():
        return ParallelNSAFunction.apply(q, k, v, handed, handed.shape[-1], BLOCK, peers.dim**-0.5, None)

    def error():
        return rows_error(q[0], k[0], v[0], work()[0], seen_by_tokens(lists, BLOCK))

    return work, error, operations(pairs_of_tokens(lists, BLOCK), key_heads * GROUP, peers.dim)


def linear(tokens):
    q, k, v = (normal(1, tokens, peers.query_heads, peers.dim) for _ in range(3))

    def work():
        return chunk_linear_attn(q, k, v, scale=1.0, normalize=False)[0]

    def error():
        out, errors = work(), []
        for token in some_tokens(tokens):
            for head in (0, peers.query_heads - 1):
                products = k[0, : token + 1, head].float() @ q[0, token, head].float()
                errors.append(relative(out[0, token, head], products @ v[0, : token + 1, head].float()))
        return worst_of(errors)

    return work, error, 0


def main():
    key_heads = max(1, peers.query_heads // GROUP)
    for tokens in peers.tokens:
        if peers.wants("groups"):
            shape = {**peers.shape(tokens), "q_heads": key_heads * GROUP, "kv_heads": key_heads, "kept": KEPT, "key_block": BLOCK}
            peers.measure("prefill.exact.per_token", f"{NAME}, NSA's selected branch", shape, lambda: nsa(tokens, key_heads))
        if peers.wants("sharings"):
            shape = {**peers.shape(tokens), "kv_heads": peers.query_heads}
            peers.measure("prefill.linear", f"{NAME}, linear attention", shape, lambda: linear(tokens))


main()
