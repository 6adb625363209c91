# SPDX-FileCopyrightText: The spla authors
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""PyTorch's FlexAttention, compiled, on given lists: tiles of 128 queries, key blocks of 128 and 64. Of a few settings of its kernel
the fastest at the first size is measured."""
import torch
from torch.nn.attention.flex_attention import BlockMask, flex_attention

from gpu_record import DEVICE, Peers, normal
from gpu_rows import KEPT, operations, pairs_of_tiles, rows_error, seen_by_tiles, tile_lists

TILE = 128
SETTINGS = {128: {"default": None, "TMA": {"USE_TMA": True},
                  "128x128": {"BLOCK_M": 128, "BLOCK_N": 128, "num_warps": 8, "num_stages": 2}},
            64: {"128x64": {"BLOCK_M": 128, "BLOCK_N": 64, "num_warps": 8, "num_stages": 3}}}
torch._dynamo.config.recompile_limit = 256
torch._dynamo.config.accumulated_recompile_limit = 4096
compiled = torch.compile(flex_attention, dynamic=False)


def causal(batch, head, query, key):
    return query >= key


def block_mask(lists, block, query_heads):
    heads, tiles, blocks = lists.shape
    diagonal = torch.arange(blocks, device=DEVICE)[None, :] >= (torch.arange(tiles, device=DEVICE) * TILE)[:, None] // block

    def ordered(chosen):
        indices = torch.argsort(chosen.to(torch.int8), dim=-1, descending=True, stable=True).to(torch.int32)
        counts = chosen.sum(-1).to(torch.int32)
        return (x.repeat_interleave(query_heads // heads, 0)[None].contiguous() for x in (counts, indices))

    return BlockMask.from_kv_blocks(*ordered(lists & diagonal), *ordered(lists & ~diagonal), BLOCK_SIZE=(TILE, block),
                                    mask_mod=causal, seq_lengths=(tiles * TILE, blocks * block))


def given_lists(peers, tokens, block, options):
    q, k, v = (normal(1, heads, tokens, peers.dim) for heads in (peers.query_heads, peers.key_heads, peers.key_heads))
    lists = tile_lists(tokens, TILE, block, peers.key_heads)
    mask = block_mask(lists, block, peers.query_heads)

    def work():
        return compiled(q, k, v, block_mask=mask, enable_gqa=True, kernel_options=dict(options) if options else None)

    def error():
        return rows_error(*(x[0].transpose(0, 1) for x in (q, k, v, work())), seen_by_tiles(lists, TILE, block))

    return work, error, operations(pairs_of_tiles(lists, TILE, block), peers.query_heads, peers.dim)


def main():
    peers = Peers(__doc__)
    if not peers.wants("given"):
        return
    for block, settings in SETTINGS.items():
        best, what, peer = None, "prefill.exact.given", f"FlexAttention {torch.__version__}, blocks of {block}"
        for tokens in peers.tokens:
            shape = peers.shape(tokens, tile=TILE, key_block=block, kept=KEPT)
            measured = {name: peers.measure(what, peer, shape, lambda: given_lists(peers, tokens, block, options), show=False, way=name)
                        for name, options in settings.items() if best in (None, name)}
            best = peers.fastest(what, peer, measured) or best


main()
