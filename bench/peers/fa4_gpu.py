# SPDX-FileCopyrightText: The spla authors
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""FlashAttention-4 (the package flash-attn-4) on Hopper: dense; on given lists of tiles of 128 queries, as block-sparse attention and
as a page table; key blocks of 128 and 64.

The package's causal mask, a mask_mod instead, lists per key head with its group packed, lists per query head: the fastest way at
the first size is measured at the others.
"""
import importlib.metadata
import sys

import torch

import gpu_error
from gpu_record import DEVICE, Peers, add_packages, normal
from gpu_rows import KEPT, operations, pairs_of_tiles, rows_error, seen_by_tiles, tile_lists

TILE = 128
WAYS = [(True, "mask_mod"), (True, "causal"), (False, "mask_mod")]  # is a group packed, and what masks the diagonal
peers = Peers(__doc__)
add_packages()
try:
    import cutlass.cute as cute
    from flash_attn.cute import flash_attn_func
    from flash_attn.cute.block_sparsity import BlockSparseTensorsTorch
    from flash_attn.cute.interface import _flash_attn_fwd

    NAME = "FlashAttention-4 " + importlib.metadata.version("flash-attn-4")
except Exception as missing:  # not installed, or for another machine
    peers.absent("FlashAttention-4", missing)
    sys.exit()


@cute.jit
def causal(batch, head, query, key, lengths, aux):
    return query >= key


def tensors(tokens, dim):
    return [normal(1, tokens, heads, dim) for heads in (peers.query_heads, peers.key_heads, peers.key_heads)]


def dense(tokens, dim):
    q, k, v = tensors(tokens, dim)

    def work():
        return flash_attn_func(q, k, v, causal=True)[0]

    pairs = tokens * (tokens + 1) // 2
    return work, lambda: rows_error(q[0], k[0], v[0], work()[0]), operations(pairs, peers.query_heads, dim)


def by_key_head(x):
    """[1, tokens, heads, dim] with the key heads as the batch, no copy: a list then serves a packed group."""
    _, tokens, heads, dim = x.shape
    return x.view(tokens, peers.key_heads, heads // peers.key_heads, dim).transpose(0, 1)


def rows_of(out):
    """[tokens, heads, dim] of either form."""
    return out[0] if out.shape[0] == 1 else out.transpose(0, 1).flatten(1, 2)


def ascending(chosen):
    counts = chosen.sum(-1).to(torch.int32)
    order = torch.argsort(chosen.to(torch.int8), dim=-1, descending=True, stable=True)
    return counts, order[..., : max(1, int(counts.max()))].to(torch.int32).contiguous()


def block_sparse(lists, block, packed):
    """Blocks on the diagonal, which are masked, and those wholly below it."""
    heads, tiles, blocks = lists.shape
    last = torch.arange(blocks, device=DEVICE)[None, :] * block + block - 1
    below = last <= torch.arange(tiles, device=DEVICE)[:, None] * TILE
    found = [*ascending(lists & ~below), *ascending(lists & below)]
    if packed:
        found = [x[:, None].contiguous() for x in found]
    else:
        found = [x.repeat_interleave(peers.query_heads // heads, 0)[None].contiguous() for x in found]
    return BlockSparseTensorsTorch(*found, block_size=(TILE, block))


def given_lists(tokens, dim, block, way):
    q, k, v = tensors(tokens, dim)
    lists = tile_lists(tokens, TILE, block, peers.key_heads)
    packed, mask = way
    handed = [by_key_head(x) for x in (q, k, v)] if packed else [q, k, v]
    sparse = block_sparse(lists, block, packed)
    masked = {"mask_mod": causal} if mask == "mask_mod" else {"causal": True}

    def work():
        return flash_attn_func(*handed, block_sparse_tensors=sparse, **masked)[0]

    def error():
        return rows_error(q[0], k[0], v[0], rows_of(work()), seen_by_tiles(lists, TILE, block))

    return work, error, operations(pairs_of_tiles(lists, TILE, block), peers.query_heads, dim)


def paged(tokens, page):
    """Each tile of a key head is a sequence whose pages are its list, its own block last; the first queries, which see all, run dense.
    q [key heads, tokens, group, dim], the queries of a tile copied together outside the clock."""
    heads, dim, group = peers.key_heads, peers.dim, peers.query_heads // peers.key_heads
    kept = min(KEPT, tokens // 2)
    q, k, v = normal(heads, tokens, group, dim), normal(heads, tokens, 1, dim), normal(heads, tokens, 1, dim)
    lists = tile_lists(tokens, TILE, page, heads, kept)
    first = (torch.arange(heads, device=DEVICE, dtype=torch.int32) * (tokens // page))[:, None, None]
    pages = (ascending(lists)[1][:, kept // TILE :, : kept // page] + first).reshape(-1, kept // page).contiguous()
    keys, values = k.view(-1, page, 1, dim), v.view(-1, page, 1, dim)
    tiles = q[:, kept:].reshape(-1, TILE, group, dim)
    head = [x[:, :kept] for x in (q, k, v)]
    tiles_out, head_out = torch.empty_like(tiles), torch.empty(heads, kept, group, dim, dtype=q.dtype, device=DEVICE)

    def work():
        _flash_attn_fwd(tiles, keys, values, page_table=pages, causal=True, tile_mn=(TILE, page), out=tiles_out)
        _flash_attn_fwd(*head, causal=True, out=head_out)

    def error():
        work()
        out = torch.cat([head_out, tiles_out.view(heads, tokens - kept, group, dim)], 1)
        return rows_error(*map(rows_of, (q, k, v, out)), seen_by_tiles(lists, TILE, page))

    return work, error, operations(pairs_of_tiles(lists, TILE, page), peers.query_heads, dim)


def shape(tokens, dim, block):
    return peers.shape(tokens, d=dim, dv=dim, tile=TILE, key_block=block, kept=KEPT)


def given():
    what, best = "prefill.exact.given", None
    sizes = dict.fromkeys([(tokens, peers.dim) for tokens in peers.tokens] + [(peers.tokens[0], 64)])
    for block in (128, 64):
        peer = f"{NAME}, blocks of {block}"
        for tokens, dim in sizes:
            measured = {way: peers.measure(what, peer, shape(tokens, dim, block), lambda: given_lists(tokens, dim, block, way),
                                           show=False, way=f"{'packed group' if way[0] else 'per query head'}, {way[1]}")
                        for way in WAYS if best in (None, way)}
            best = peers.fastest(what, peer, measured) or best
    for page in (128, 64):
        for tokens in peers.tokens:
            peers.measure(what, f"{NAME}, pages of {page}", shape(tokens, peers.dim, page), lambda: paged(tokens, page))


def main():
    for tokens in peers.dense_sizes():
        peers.measure("prefill.dense", NAME, peers.shape(tokens), lambda: dense(tokens, peers.dim))
    if peers.wants("given") and peers.dim != 64:
        tokens = peers.tokens[0]
        peers.measure("prefill.dense", NAME, peers.shape(tokens, d=64, dv=64), lambda: dense(tokens, 64))
    gpu_error.report(peers, NAME, lambda q, k, v: flash_attn_func(q, k, v, causal=True)[0])
    if peers.wants("given"):
        given()


main()
