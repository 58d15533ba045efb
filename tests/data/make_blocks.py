#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The model golden_l2_c32_f32 with matrices of blocks, as rwkv.cpp stores it, and what it computes.

Writes blocks.<type>.bin and blocks.golden.safetensors beside this script, for the types Q5_0 and
Q5_1: `tokens`, and `<type>.logits` [T, V] in float64 from the exactly decoded weights. A block is 32
elements. Element i of a row is x = d (q - 16) in Q5_0 and x = d q + m in Q5_1, 0 <= q < 32, stored as
d (and m) in float16, bit i of 32 for the highest bit of q, and 16 bytes with the other four: those of
elements 0 ... 15 in the low halves, of 16 ... 31 in the high ones. Matrices whose rows are no whole
blocks, and the embedding, are float16.
"""
import pathlib
import struct

import numpy as np

from make_goldens import Rwkv7, read_safetensors, write_safetensors

FOLDER = pathlib.Path(__file__).resolve().parent
NUMBERS = {"Q5_0": 7, "Q5_1": 8}


def encode(w, dtype):
    """Bytes, and the values that they stand for."""
    x = w.reshape(-1, 32)
    if dtype == "Q5_0":
        extreme = np.take_along_axis(x, abs(x).argmax(1)[:, None], 1)
        d, m = (extreme / -16).astype(np.float16), None
        low = -16 * d.astype(np.float64)
    else:
        m = x.min(1, keepdims=True).astype(np.float16)
        d = ((x.max(1, keepdims=True) - x.min(1, keepdims=True)) / 31).astype(np.float16)
        low = m.astype(np.float64)
    q = np.clip(np.rint((x - low) / d.astype(np.float64)), 0, 31).astype(np.uint32)
    high = ((q >> 4) << np.arange(32, dtype=np.uint32)).sum(1, dtype=np.uint32)
    nibbles = ((q[:, :16] & 15) | ((q[:, 16:] & 15) << 4)).astype(np.uint8)
    parts = [d.view(np.uint8)] + ([m.view(np.uint8)] if m is not None else [])
    parts += [high[:, None].view(np.uint8), nibbles]
    return np.hstack(parts).tobytes(), (low + q * d.astype(np.float64)).reshape(w.shape)


def write_model(path, weights, dtype):
    """Returns the weights as stored."""
    V, C = weights["emb.weight"].shape
    out = [b"fmgg", struct.pack("<5i", 101, V, C, 2, NUMBERS[dtype])]
    stored = {}

    def put(name, value, number, data):
        shape = value.shape[::-1]
        out.append(struct.pack("<3i", len(shape), len(name), number))
        out.append(struct.pack(f"<{len(shape)}i", *shape) + name.encode() + data)

    for name, w in weights.items():
        matrix = name.endswith(".weight") and w.ndim == 2
        last = name.split(".")[-1]
        if matrix and name != "emb.weight" and w.shape[1] % 32 == 0:
            data, stored[name] = encode(w, dtype)
            put(name, w, NUMBERS[dtype], data)
        elif w.ndim == 2 and last != "r_k":
            half = w.astype(np.float16)
            stored[name] = half.astype(np.float64)
            half = half if matrix else np.ascontiguousarray(half.T)  # low-rank maps are [out, in]
            put(name, half, 1, half.tobytes())
        else:
            stored[name] = w
            if last.startswith("x_") and ".att." in name:
                if last != "x_r":
                    continue
                w = np.concatenate([weights[name[:-1] + n] for n in "rwkvag"])
                name = name[:-1] + "rwkvag"
            put(name, w, 0, w.astype(np.float32).tobytes())
    path.write_bytes(b"".join(out))
    return stored


def main():
    weights, _ = read_safetensors(FOLDER / "golden_l2_c32_f32.model.safetensors")
    weights = {n: w.astype(np.float64) for n, w in weights.items()}
    tokens = np.random.default_rng(31).integers(0, 40, 32).astype(np.int32)
    golden = {"tokens": tokens}
    for dtype in NUMBERS:
        model = Rwkv7(write_model(FOLDER / f"blocks.{dtype}.bin", weights, dtype))
        golden[f"{dtype}.logits"] = model.run(tokens, model.zero_state())
        difference = golden[f"{dtype}.logits"] - Rwkv7(weights).run(tokens, model.zero_state())
        print(f"{dtype}: changes logits by {abs(difference).max():.2f}")
    write_safetensors(FOLDER / "blocks.golden.safetensors", golden)


if __name__ == "__main__":
    main()
