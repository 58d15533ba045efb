#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""RWKV-7 in float64, in the order of its equations, and the golden data made with it.

    make_goldens.py              writes the golden_* files beside this script
    make_goldens.py --check DIR  compares with <DIR>/<name>/{model,golden}.safetensors of another origin

`<name>.model.safetensors` is a small random model under the official tensor names;
`<name>.golden.safetensors` holds what it must compute: `tokens` [T], float64 `logits` [P, V] at
`positions` [P], and states as `att_x_prev` [L, C], `wkv` [L, H, N, N] (row = value channel, column =
key channel) and `ffn_x_prev` [L, C]: `mid.*` after the first `mid_pos` tokens, `final.*` after all.
`init.*` is a run of its own that starts from the random state `init.state_in.*`. All but the last
start from the zero state. `argmax` and `top2_margin` (lead of the best logit) cover every position.

`settings.golden.safetensors` holds the last logits [P, V] of golden_l2_c32_f32 after `tokens` under
other settings than a file states by itself: `<variant>.logits`, see VARIANTS.
"""
import argparse
import json
import pathlib
import struct
import sys

import numpy as np

# ---------------------------------------------------------------------------------- the model


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def normalize(x, eps):
    """Zero mean and unit variance along the last axis."""
    centred = x - x.mean(-1, keepdims=True)
    return centred / np.sqrt((centred**2).mean(-1, keepdims=True) + eps)


class Rwkv7:
    """weights: official names -> float64 arrays; without ln0 the table is normalised already.
    extended: eigenvalues of the state transition in (-1, 1) instead of (0, 1)."""

    def __init__(self, weights, extended=False, layer_eps=1e-5, group_eps=64e-5):
        self.z = weights
        self.extended = extended
        self.layer_eps = layer_eps
        self.group_eps = group_eps
        self.V, self.C = weights["emb.weight"].shape
        self.L = 1 + max(int(n.split(".")[1]) for n in weights if n.startswith("blocks."))
        self.H, self.N = weights["blocks.0.att.r_k"].shape

    def zero_state(self):
        L, C, H, N = self.L, self.C, self.H, self.N
        return {"att_x_prev": np.zeros((L, C)), "wkv": np.zeros((L, H, N, N)),
                "ffn_x_prev": np.zeros((L, C))}

    def run(self, tokens, state):
        """Advances `state` in place; returns the logits after every token, [T, V]."""
        return np.array([self.step(token, state) for token in tokens])

    def step(self, token, state):
        x = self.z["emb.weight"][token]
        if "blocks.0.ln0.weight" in self.z:
            x = self.layer_norm(x, "blocks.0.ln0")
        v_first = None
        for i in range(self.L):
            block = f"blocks.{i}."
            out, v_first = self.time_mix(i, self.layer_norm(x, block + "ln1"), v_first, state)
            x = x + out
            x = x + self.channel_mix(i, self.layer_norm(x, block + "ln2"), state, token)
        return self.z["head.weight"] @ self.layer_norm(x, "ln_out")

    def layer_norm(self, x, name):
        return normalize(x, self.layer_eps) * self.z[name + ".weight"] + self.z[name + ".bias"]

    def time_mix(self, i, x, v_first, state):
        def z(name):
            return self.z[f"blocks.{i}.att.{name}"].squeeze()

        def low_rank(name, x, inner=lambda u: u):  # stored [in, out]
            return inner(x @ z(name + "1").reshape(self.C, -1)) @ z(name + "2").reshape(-1, self.C)

        def heads(u):
            return u.reshape(self.H, self.N)

        shift = state["att_x_prev"][i] - x
        state["att_x_prev"][i] = x
        xr, xw, xk, xv, xa, xg = (x + shift * z("x_" + n) for n in "rwkvag")

        r = z("receptance.weight") @ xr
        w = np.exp(-np.exp(-0.5) * sigmoid(z("w0") + low_rank("w", xw, np.tanh)))
        k = z("key.weight") @ xk
        v = z("value.weight") @ xv
        a = sigmoid(z("a0") + low_rank("a", xa)) * (2 if self.extended else 1)
        g = low_rank("g", xg, sigmoid)
        if i == 0:
            v_first = v
        else:
            v = v + (v_first - v) * sigmoid(z("v0") + low_rank("v", xv))

        kk = heads(k * z("k_k"))
        kk = kk / np.maximum(np.linalg.norm(kk, axis=1, keepdims=True), 1e-12)
        k = k * (1 + (a - 1) * z("k_a"))

        r, w, k, v, a = map(heads, (r, w, k, v, a))
        b = kk * a * w if self.extended else kk * a
        S = state["wkv"][i]  # a view: [head, value channel, key channel]
        sa = np.einsum("hij,hj->hi", S, -kk)
        S[:] = S * w[:, None, :] + sa[:, :, None] * b[:, None, :] + v[:, :, None] * k[:, None, :]
        y = np.einsum("hij,hj->hi", S, r)

        y = normalize(y, self.group_eps).reshape(-1) * z("ln_x.weight") + z("ln_x.bias")
        r_k = self.z[f"blocks.{i}.att.r_k"]
        bonus = (r * k * r_k).sum(1, keepdims=True) * v
        return z("output.weight") @ ((y + bonus.reshape(-1)) * g), v_first

    def channel_mix(self, i, x, state, token):
        name = f"blocks.{i}.ffn."
        shift = state["ffn_x_prev"][i] - x
        state["ffn_x_prev"][i] = x
        k = self.z[name + "key.weight"] @ (x + shift * self.z[name + "x_k"].squeeze())
        k = np.maximum(k, 0) ** 2
        if name + "s0" in self.z:
            k = k * self.deep_embed(name, x, token)
        return self.z[name + "value.weight"] @ k

    def deep_embed(self, name, x, token):
        """RWKV-7a: what the hidden units are multiplied with."""
        matrix = self.z[name + "s_emb.weight"][token]
        if name + "s_emb_x.weight" in self.z:  # the table's second part
            embedding = self.layer_norm(self.z["emb.weight"][token], "blocks.0.ln0")
            matrix = matrix + self.z[name + "s_emb_x.weight"] @ embedding
        low = x @ self.z[name + "s1"]
        return low @ matrix.reshape(len(low), len(low)) @ self.z[name + "s2"] + self.z[name + "s0"]


# ------------------------------------------------------------------------------- safetensors


def bfloat16_bits(x):
    """Round to nearest, ties to even."""
    u = np.asarray(x, np.float32).view(np.uint32)
    return ((u + 0x7FFF + ((u >> 16) & 1)) >> 16).astype(np.uint16)


def bfloat16_to_float(bits):
    return (bits.astype(np.uint32) << 16).view(np.float32)


def write_safetensors(path, tensors, metadata=None):
    """tensors: name -> array, or (bits, "BF16")."""
    names = {np.dtype(t): n for t, n in (("f8", "F64"), ("f4", "F32"), ("f2", "F16"), ("i4", "I32"))}
    header, data = ({"__metadata__": metadata} if metadata else {}), b""
    for name, value in tensors.items():
        array, dtype = value if isinstance(value, tuple) else (value, names[value.dtype])
        raw = np.ascontiguousarray(array).tobytes()
        header[name] = {"dtype": dtype, "shape": list(array.shape),
                        "data_offsets": [len(data), len(data) + len(raw)]}
        data += raw
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)


def read_safetensors(path):
    """Returns name -> array (bfloat16 widened to float32), and the metadata."""
    raw = path.read_bytes()
    (size,) = struct.unpack_from("<Q", raw)
    header, data = json.loads(raw[8 : 8 + size]), raw[8 + size :]
    metadata = header.pop("__metadata__", {})
    types = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2", "I32": "<i4"}
    tensors = {}
    for name, entry in header.items():
        begin, end = entry["data_offsets"]
        array = np.frombuffer(data[begin:end], types[entry["dtype"]]).reshape(entry["shape"])
        tensors[name] = bfloat16_to_float(array) if entry["dtype"] == "BF16" else array
    return tensors, metadata


# ------------------------------------------------------------------------------- golden data


def random_weights(rng, L, C, N, V, F, ranks, v_in_block_0, deep=0):
    """Every tensor full size, so that each of them matters for the logits (of standard deviation
    about 2)."""
    z = {}

    def normal(name, shape, scale, mean=0.0):
        z[name] = mean + scale * rng.standard_normal(shape)

    def uniform(name, shape, low, high):
        z[name] = rng.uniform(low, high, shape)

    def layer_norm(name):
        normal(name + ".weight", C, 0.2, mean=1.0)
        normal(name + ".bias", C, 0.2)

    decay_rank, icl_rank, value_rank, gate_rank = ranks
    low_rank = {"w": decay_rank, "a": icl_rank, "v": value_rank, "g": gate_rank}
    normal("emb.weight", (V, C), 0.5)
    layer_norm("blocks.0.ln0")
    for i in range(L):
        att, ffn = f"blocks.{i}.att.", f"blocks.{i}.ffn."
        layer_norm(f"blocks.{i}.ln1")
        layer_norm(f"blocks.{i}.ln2")
        for n in "rwkvag":
            uniform(att + "x_" + n, (1, 1, C), 0, 1)
        for n, rank in low_rank.items():
            if n == "v" and i == 0 and not v_in_block_0:
                continue
            if n != "g":
                normal(att + n + "0", (1, 1, C), 0.8, mean=-1.0 if n == "w" else 0.0)
            normal(att + n + "1", (C, rank), 1.2 / C**0.5)
            normal(att + n + "2", (rank, C), 1.2 / rank**0.5)
        normal(att + "k_k", (1, 1, C), 0.2, mean=0.8)
        uniform(att + "k_a", (1, 1, C), 0.6, 1.2)
        normal(att + "r_k", (C // N, N), 0.3)
        for n in ("receptance", "key", "value", "output"):
            normal(att + n + ".weight", (C, C), 1.0 / C**0.5)
        normal(att + "ln_x.weight", C, 0.2, mean=0.8)
        normal(att + "ln_x.bias", C, 0.2)
        uniform(ffn + "x_k", (1, 1, C), 0, 1)
        normal(ffn + "key.weight", (F, C), 1.0 / C**0.5)
        normal(ffn + "value.weight", (C, F), 0.8 / F**0.5)
        if deep:
            normal(ffn + "s_emb.weight", (V, deep**2), 0.7 / deep**0.5)
            normal(ffn + "s_emb_x.weight", (deep**2, C), 0.7 / (deep * C) ** 0.5)
            normal(ffn + "s1", (C, deep), 1.0 / C**0.5)
            normal(ffn + "s2", (deep, F), 1.0 / deep**0.5)
            normal(ffn + "s0", F, 0.3, mean=1.0)
    layer_norm("ln_out")
    normal("head.weight", (V, C), 2.0 / C**0.5)
    return z


def store(weights, dtype):
    """What the file holds and, widened, what the model computes with. In a float16 file the decay
    bias stays float32: element types may differ between tensors."""
    stored, widened = {}, {}
    for name, value in weights.items():
        if dtype == "bf16":
            bits = bfloat16_bits(value)
            stored[name], widened[name] = (bits, "BF16"), bfloat16_to_float(bits)
        else:
            half = dtype == "f16" and not name.endswith("att.w0")
            stored[name] = widened[name] = value.astype(np.float16 if half else np.float32)
        widened[name] = widened[name].astype(np.float64)
    return stored, widened


def golden(model, rng, length, mid_pos):
    def named(prefix, state):
        return {f"{prefix}.{n}": array.astype(np.float32) for n, array in state.items()}

    tokens = rng.integers(0, model.V, length).astype(np.int32)
    state = model.zero_state()
    first = model.run(tokens[:mid_pos], state)
    mid = named("mid", state)
    logits = np.concatenate([first, model.run(tokens[mid_pos:], state)])
    ordered = np.sort(logits, axis=1)

    init = {n: rng.standard_normal(a.shape).astype(np.float32) for n, a in state.items()}
    init_tokens = rng.integers(0, model.V, 8).astype(np.int32)
    init_state = {n: a.astype(np.float64) for n, a in init.items()}
    init_logits = model.run(init_tokens, init_state)
    return {
        "tokens": tokens,
        "positions": np.arange(length, dtype=np.int32),
        "logits": logits,
        "argmax": logits.argmax(1).astype(np.int32),
        "top2_margin": (ordered[:, -1] - ordered[:, -2]).astype(np.float32),
        "mid_pos": np.array([mid_pos], np.int32),
        **mid,
        **named("final", state),
        "init.tokens": init_tokens,
        "init.logits": init_logits,
        **named("init.state_in", init),
        **named("init.state_out", init_state),
    }


MODELS = {
    "golden_l2_c32_f32": dict(
        seed=1, dtype="f32", extended=False, v_in_block_0=True, L=2, C=32, N=16, V=40, F=56,
        ranks=(8, 6, 3, 10)),
    "golden_l2_c32_extended_f16": dict(
        seed=2, dtype="f16", extended=True, v_in_block_0=False, L=2, C=32, N=16, V=29, F=44,
        ranks=(7, 5, 2, 9)),
    "golden_l3_c48_bf16": dict(
        seed=3, dtype="bf16", extended=False, v_in_block_0=False, L=3, C=48, N=16, V=33, F=52,
        ranks=(12, 7, 5, 13)),
    "golden_l2_c32_deep_f32": dict(
        seed=5, dtype="f32", extended=False, v_in_block_0=False, L=2, C=32, N=16, V=20, F=64,
        ranks=(8, 6, 3, 10), deep=8),
}


def normalised_table(z):
    z = dict(z)
    weight, bias = z.pop("blocks.0.ln0.weight"), z.pop("blocks.0.ln0.bias")
    z["emb.weight"] = (normalize(z["emb.weight"], 1e-5) * weight + bias).astype(np.float32)
    return z


def without_biases(z):
    return {n: 0 * w if n.endswith(".bias") and "ln_x" not in n else w for n, w in z.items()}


# How the weights and the arguments of the model differ. The heads have N = 16 channels.
VARIANTS = {
    "layer_norm": (dict, dict(layer_eps=0.01)),
    "fla": (dict, dict(layer_eps=0.001, group_eps=0.016)),
    "group_norm": (dict, dict(group_eps=0.1)),
    "normalised_table": (normalised_table, {}),
    "tied": (lambda z: {**z, "head.weight": z["emb.weight"]}, {}),
    "no_biases": (without_biases, {}),
}


def make_settings(folder):
    weights, _ = read_safetensors(folder / "golden_l2_c32_f32.model.safetensors")
    tokens = np.random.default_rng(4).integers(0, 40, 10).astype(np.int32)
    data = {"tokens": tokens}
    for name, (change, arguments) in VARIANTS.items():
        changed = {n: w.astype(np.float64) for n, w in change(weights).items()}
        model = Rwkv7(changed, **arguments)
        data[f"{name}.logits"] = model.run(tokens, model.zero_state())[-2:]
    write_safetensors(folder / "settings.golden.safetensors", data)


def make(folder):
    for name, options in MODELS.items():
        seed, dtype, extended = (options.pop(o) for o in ("seed", "dtype", "extended"))
        rng = np.random.default_rng(seed)
        stored, widened = store(random_weights(rng, **options), dtype)
        data = golden(Rwkv7(widened, extended), rng, length=40, mid_pos=17)
        metadata = {"rwkv.eigenvalues": "extended"} if extended else None
        write_safetensors(folder / f"{name}.model.safetensors", stored, metadata)
        write_safetensors(folder / f"{name}.golden.safetensors", data)
        print(f"{name}: logits {data['logits'].std():.2f} std, {abs(data['logits']).max():.2f} max, "
              f"wkv {abs(data['final.wkv']).max():.2f} max")


def check(folder):
    """Recomputes golden data of another origin. Its logits are float64, its states float32."""
    worst = {"logits": 0.0, "state": 0.0}
    for path in sorted(folder.glob("*/golden.safetensors")):
        weights, metadata = read_safetensors(path.with_name("model.safetensors"))
        expected, _ = read_safetensors(path)
        model = Rwkv7({n: w.astype(np.float64) for n, w in weights.items()},
                      metadata.get("rwkv.eigenvalues") == "extended")

        def compare(what, name, values):
            error = abs(expected[name] - values)
            # a float32 reference is itself only exact to half a unit in the last place
            slack = 0 if expected[name].dtype == np.float64 else 2.0**-24 * abs(values)
            worst[what] = max(worst[what], float((error - slack).max()))

        def compare_state(prefix, state):
            for n, array in state.items():
                compare("state", f"{prefix}.{n}", array)

        mid_pos = int(expected["mid_pos"][0])
        state = model.zero_state()
        first = model.run(expected["tokens"][:mid_pos], state)
        compare_state("mid", state)
        logits = np.concatenate([first, model.run(expected["tokens"][mid_pos:], state)])
        compare_state("final", state)
        compare("logits", "logits", logits[expected["positions"]])
        assert (logits.argmax(1) == expected["argmax"]).all(), path

        state = {n: expected[f"init.state_in.{n}"].astype(np.float64) for n in state}
        compare("logits", "init.logits", model.run(expected["init.tokens"], state))
        compare_state("init.state_out", state)
        print(f"{path.parent.name}: largest difference so far {worst}")
    if not 0 < max(worst.values()) < 1e-10:
        sys.exit("the reference does not reproduce this data")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", type=pathlib.Path, metavar="DIR")
    arguments = parser.parse_args()
    if arguments.check:
        check(arguments.check)
    else:
        make(pathlib.Path(__file__).resolve().parent)
        make_settings(pathlib.Path(__file__).resolve().parent)
