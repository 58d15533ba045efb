#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Losses and gradients of the golden models: central differences of the float64 reference's loss.

Writes <case>.gradients.safetensors beside this script (some minutes): `tokens` [B, T + 1]; `loss`,
the mean cross-entropy of the predictions of tokens[:, 1:]; and of a vector or state x its gradient
`all.x`. Of a matrix x only the gradient's first rows, `rows.x`, and, because each is one derivative
along a direction, its alternating sums over every row, `row_sums.x`, and over every column,
`column_sums.x`: the elements' signs are +, -, +, ... (Plain sums are often zero: a layer norm does not
see what all channels have in common.)
With L2Wrap `loss` is without it, the gradients are with it. `state0.*`: where every sample starts.
"""
import pathlib

import numpy as np

from make_goldens import Rwkv7, read_safetensors, write_safetensors

FOLDER = pathlib.Path(__file__).resolve().parent
ROWS = 3
STEP = 1e-5

CASES = {
    "ce_batch": dict(model="golden_l2_c32_f32", seed=11, batch=2, l2wrap=False, state=False),
    "l2wrap_state": dict(
        model="golden_l2_c32_extended_f16", seed=12, batch=1, l2wrap=True, state=True),
}
PREDICTIONS = 18  # more than lie between two states that training keeps


def losses(model, tokens, state0):
    """Cross-entropy, and the function whose gradient L2Wrap adds: 0.5e-4 times the mean square of
    the largest logit."""
    cross_entropy, wrap = [], []
    for row in tokens:
        state = {name: array.copy() for name, array in state0.items()}
        logits = model.run(row[:-1], state)
        largest = logits.max(1, keepdims=True)
        log_sum = np.log(np.exp(logits - largest).sum(1)) + largest[:, 0]
        cross_entropy.append(log_sum - logits[np.arange(len(logits)), row[1:]])
        wrap.append(largest**2)
    return np.mean(cross_entropy), 0.5e-4 * np.mean(wrap)


def make(name, model, seed, batch, l2wrap, state):
    stored, metadata = read_safetensors(FOLDER / f"{model}.model.safetensors")
    weights = {n: w.astype(np.float64) for n, w in stored.items()}
    model = Rwkv7(weights, metadata.get("rwkv.eigenvalues") == "extended")
    rng = np.random.default_rng(seed)
    tokens = rng.integers(0, model.V, (batch, PREDICTIONS + 1)).astype(np.int32)
    state0 = {n: np.float32(rng.standard_normal(a.shape) if state else a).astype(np.float64)
              for n, a in model.zero_state().items()}

    def along(array, where):
        """The derivative along the direction that is 1, -1, 1, ... at array[where]."""
        before = array[where].copy()
        signs = 1 - 2 * (np.arange(before.size).reshape(before.shape) % 2)
        side = []
        for step in (STEP, -STEP):
            array[where] = before + step * signs
            cross_entropy, wrap = losses(model, tokens, state0)
            side.append(cross_entropy + (wrap if l2wrap else 0))
        array[where] = before
        return (side[0] - side[1]) / (2 * STEP)

    def elementwise(array):
        return np.array([along(array, i) for i in np.ndindex(array.shape)],
                        np.float32).reshape(array.shape)

    out = {"tokens": tokens, "loss": np.array([losses(model, tokens, state0)[0]])}
    for n, w in weights.items():
        if w.ndim != 2 or w.shape[0] <= ROWS:
            out["all." + n] = elementwise(w)
            continue
        out["rows." + n] = elementwise(w[:ROWS])
        out["row_sums." + n] = np.array([along(w, np.s_[i]) for i in range(w.shape[0])], np.float32)
        out["column_sums." + n] = np.array([along(w, np.s_[:, j]) for j in range(w.shape[1])],
                                           np.float32)
    if state:
        out.update({"state0." + n: a.astype(np.float32) for n, a in state0.items()})
        out.update({"all.state0." + n: elementwise(a) for n, a in state0.items()})
    write_safetensors(FOLDER / f"{name}.gradients.safetensors", out)
    print(f"{name}: loss {out['loss'][0]:.4f}")


if __name__ == "__main__":
    for case, options in CASES.items():
        make(case, **options)
