# SPDX-FileCopyrightText: The spla authors
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Lists of blocks for peers that are given them, and rows of attention by definition, which peers are held against."""
import torch

from gpu_record import DEVICE

KEPT, WINDOW = 4096, 512  # keys of a list; those of them that end with the tile


def tile_lists(tokens, tile, block, heads, kept=KEPT):
    """bool [heads, tiles, blocks]: the first block, a window that ends with the tile, others by chance; 4096 keys, fewer where
    fewer exist."""
    scores = torch.rand(heads, tokens // tile, tokens // block, device=DEVICE)
    last = (torch.arange(tokens // tile, device=DEVICE) * tile + tile - 1)[:, None] // block
    j = torch.arange(tokens // block, device=DEVICE)[None, :]
    scores[:, (j <= last) & (j > last - WINDOW // block)] = 3
    scores[:, :, 0] = 2
    scores[:, j > last] = -1
    chosen = scores.topk(min(kept // block, tokens // block), dim=-1).indices
    return torch.zeros_like(scores, dtype=torch.bool).scatter_(2, chosen, True) & (j <= last)


def token_lists(tokens, block, heads, kept=KEPT):
    """int32 [tokens, heads, entries], ascending, -1 last: a list as above for every token."""
    entries = min(kept, tokens) // block
    lists = torch.empty(tokens, heads, entries, dtype=torch.int32, device=DEVICE)
    j = torch.arange(tokens // block, device=DEVICE)[None, :]
    for first in range(0, tokens, 8192):
        own = torch.arange(first, min(first + 8192, tokens), device=DEVICE)[:, None] // block
        for head in range(heads):
            scores = torch.rand(own.shape[0], tokens // block, device=DEVICE)
            scores[(j <= own) & (j > own - WINDOW // block)] = 3
            scores[:, 0] = 2
            scores[j > own] = -1
            chosen = scores.topk(entries, dim=-1).indices
            chosen = torch.where(chosen <= own, chosen, tokens).sort(-1).values
            lists[first : first + own.shape[0], head] = torch.where(chosen < tokens, chosen, -1).to(torch.int32)
    return lists


def pairs_of_tiles(lists, tile, block):
    """(query, key) pairs that a query head visits, exactly, the mean over key heads."""
    heads, tiles, blocks = lists.shape
    first = (torch.arange(tiles, device=DEVICE) * tile)[:, None] - (torch.arange(blocks, device=DEVICE) * block)[None, :] + 1
    seen = sum((first + row).clamp(0, block) for row in range(tile))
    return sum(int((seen * x).sum()) for x in lists) / heads


def pairs_of_tokens(lists, block):
    """The same of lists of a token each, which hold the token's own block."""
    tokens, heads, _ = lists.shape
    whole = int((lists >= 0).sum()) * block / heads
    return whole - float((block - 1 - torch.arange(tokens) % block).sum())


def operations(pairs, heads, dim):
    return 4 * dim * heads * pairs


def some_tokens(tokens):
    return sorted({0, tokens // 32, tokens // 3, tokens // 2 + 77, tokens - 1})


def relative(row, truth):
    return float((row.float() - truth).norm() / truth.norm())


def worst_of(errors):
    return float("nan") if any(e != e for e in errors) else max(errors)


def rows_error(q, k, v, out, seen=None):
    """Relative error of some rows; q, out [tokens, heads, dim], k, v [tokens, key heads, dim]; seen(token, key head): bool per
    key, all of them without it."""
    group, errors = q.shape[1] // k.shape[1], []
    for token in some_tokens(q.shape[0]):
        for head in (0, q.shape[1] // 2 + 1, q.shape[1] - 1):
            keys, values = k[: token + 1, head // group].float(), v[: token + 1, head // group].float()
            logits = keys @ q[token, head].float() / q.shape[2] ** 0.5
            if seen:
                logits = logits.masked_fill(~seen(token, head // group)[: token + 1], float("-inf"))
            truth = torch.softmax(logits, 0) @ values
            errors.append(relative(out[token, head], truth))
    return worst_of(errors)


def seen_by_tiles(lists, tile, block):
    return lambda token, head: lists[head, token // tile].repeat_interleave(block)


def seen_by_tokens(lists, block):
    def seen(token, head):
        chosen = torch.zeros(lists.shape[0] // block, dtype=torch.bool, device=DEVICE)
        chosen[lists[token, head][lists[token, head] >= 0].long()] = True
        return chosen.repeat_interleave(block)

    return seen
