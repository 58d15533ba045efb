#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""RWKV-X in float64, in both of its semantics (include/rwkv/hybrid.hpp), and hybrid.golden.safetensors.

The file has no weights: its metadata `tensors` lists [name, shape, middle, spread], and element i of
entry k of that list is middle + spread * hash(k, i) / 1024, which is exact in float32. The metadata
`scenarios` has of each the configuration and the calls, as numbers of tokens. Tensors:
`<scenario>.tokens`, `.logits` [T, V] after every token, and when all is done `.att_x_prev` and
`.ffn_x_prev` [L, C] of the RWKV-7 blocks and, of sparse block j, `.<j>.ffn_x_prev` [C] and every eighth channel of
`.<j>.k_cache` and `.<j>.v_cache`.
"""
import json
import pathlib

import numpy as np

from make_goldens import Rwkv7, write_safetensors

L, SPARSE, C, N, V, F = 3, 2, 128, 32, 16, 32  # the third RWKV-7 block is left over and never runs
HEAD = 64  # of the attention


def tensor_list():
    tensors = []

    def add(name, shape, middle, spread):
        tensors.append([name, list(shape), middle, spread])

    def norm(name):
        add(name + ".weight", [C], 1.0, 0.25)
        add(name + ".bias", [C], 0.0, 0.25)

    add("emb.weight", [V, C], 0.0, 1.0)
    norm("blocks.0.ln0")
    for i in range(L):
        att, ffn = f"blocks.{i}.att.", f"blocks.{i}.ffn."
        norm(f"blocks.{i}.ln1")
        norm(f"blocks.{i}.ln2")
        for n in "rwkvag":
            add(att + "x_" + n, [1, 1, C], 0.5, 0.5)
        for n, rank in {"w": 6, "a": 5, "v": 3, "g": 8}.items():
            if n == "v" and i == 0:
                continue
            if n != "g":
                add(att + n + "0", [1, 1, C], -1.0 if n == "w" else 0.0, 1.0)
            add(att + n + "1", [C, rank], 0.0, 0.1875)
            add(att + n + "2", [rank, C], 0.0, 0.75)
        add(att + "k_k", [1, 1, C], 0.75, 0.25)
        add(att + "k_a", [1, 1, C], 1.0, 0.25)
        add(att + "r_k", [C // N, N], 0.0, 0.5)
        for n in ("receptance", "key", "value", "output"):
            add(att + n + ".weight", [C, C], 0.0, 0.125)
        norm(att + "ln_x")
        add(ffn + "x_k", [1, 1, C], 0.5, 0.5)
        add(ffn + "key.weight", [F, C], 0.0, 0.125)
        add(ffn + "value.weight", [C, F], 0.0, 0.25)
    for j in range(SPARSE):
        block = f"moba.{j}."
        norm(block + "ln1")
        norm(block + "ln2")
        for n, spread in (("receptance", 0.25), ("key", 0.25), ("value", 0.125), ("output", 0.25)):
            add(block + f"att.{n}.weight", [C, C], 0.0, spread)
        add(block + "ffn.x_k", [1, 1, C], 0.5, 0.5)
        add(block + "ffn.key.weight", [F, C], 0.0, 0.125)
        add(block + "ffn.value.weight", [C, F], 0.0, 0.25)
    norm("ln_out")
    add("head.weight", [V, C], 0.0, 0.375)
    return tensors


def weights_of(tensors):
    weights = {}
    for k, (name, shape, middle, spread) in enumerate(tensors):
        i = np.arange(np.prod(shape), dtype=np.uint64)
        low = np.uint64(0xFFFFFFFF)
        u = (i * np.uint64(0x9E3779B1) + np.uint64(k) * np.uint64(0x85EBCA77) + np.uint64(1)) & low
        for shift, factor in ((15, 0x2C1B3C6D), (12, 0x297A2D39)):
            u = ((u ^ (u >> np.uint64(shift))) * np.uint64(factor)) & low
        hashed = (u >> np.uint64(21)).astype(np.float64) - 1024
        weights[name] = (middle + spread * hashed / 1024).reshape(shape)
    return weights


def softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


class Margin:
    """How clear the choices are: the smallest lead of what is in over what is out."""

    def __init__(self):
        self.smallest = np.inf

    def best(self, scores, count):
        """Indices of the largest, in decreasing order."""
        order = np.argsort(-scores, kind="stable")
        ranked = scores[order]
        # The package stores what it keeps in this order, so every lead counts.
        leads = (ranked[:count] - ranked[1:count + 1]) if count < len(order) else [np.inf]
        self.smallest = min(self.smallest, np.min(leads) / np.abs(ranked).max())
        return order[:count]


class RwkvX:
    def __init__(self, weights, config):
        self.z = weights
        self.rwkv = Rwkv7(weights)
        self.config = config
        self.margin = Margin()
        self.state = self.rwkv.zero_state()
        self.caches = [{"q": np.zeros((0, C)), "k": np.zeros((0, C)), "v": np.zeros((0, C)),
                        "ffn_x_prev": np.zeros(C)} for _ in range(SPARSE)]

    def norm(self, x, name):
        return np.array([self.rwkv.layer_norm(row, name) for row in x])

    def call(self, tokens):
        """Logits [T, V]. With the package's semantics it matters what is one call."""
        x = self.norm(self.z["emb.weight"][tokens], "blocks.0.ln0")
        v_first = [None] * len(tokens)
        for j in range(SPARSE):
            interval = L // SPARSE
            for i in range(j * interval, (j + 1) * interval):
                for t in range(len(tokens)):
                    u = self.rwkv.layer_norm(x[t], f"blocks.{i}.ln1")
                    out, v_first[t] = self.rwkv.time_mix(i, u, v_first[t], self.state)
                    x[t] = x[t] + out
                    u = self.rwkv.layer_norm(x[t], f"blocks.{i}.ln2")
                    x[t] = x[t] + self.rwkv.channel_mix(i, u, self.state)
            x = self.sparse_block(j, x)
        return self.norm(x, "ln_out") @ self.z["head.weight"].T

    def sparse_block(self, j, x):
        block, cache = f"moba.{j}.", self.caches[j]
        u = self.norm(x, block + "ln1")
        q, k, v = (u @ self.z[f"{block}att.{n}.weight"].T for n in ("receptance", "key", "value"))
        attend = self.paper if self.config["semantics"] == "paper" else self.package
        x = x + attend(cache, u, q, k, v) @ self.z[block + "att.output.weight"].T
        u = self.norm(x, block + "ln2")
        previous = np.vstack([cache["ffn_x_prev"], u[:-1]])
        cache["ffn_x_prev"] = u[-1]
        mixed = u + (previous - u) * self.z[block + "ffn.x_k"].squeeze()
        hidden = np.maximum(mixed @ self.z[block + "ffn.key.weight"].T, 0) ** 2
        return x + hidden @ self.z[block + "ffn.value.weight"].T

    @staticmethod
    def attention(q, k, v):
        """One query, all heads reading the same entries."""
        out = np.empty(C)
        for h in range(0, C, HEAD):
            s = np.s_[h:h + HEAD]
            out[s] = softmax(k[:, s] @ q[s] / 8) @ v[:, s]
        return out

    # ------------------------------------------------------------------------------- package

    def package(self, cache, u, q, k, v):
        chunk, topk = self.config["chunk"], self.config["topk"]
        tokens, cached = len(q), len(cache["k"])
        if 0 < self.config["max"] < cached and cached > self.config["min"]:
            self.compress(cache, q if tokens == 1 else u)
            cached = len(cache["k"])
        before_k, before_v = cache["k"], cache["v"]
        cache["k"], cache["v"] = np.vstack([before_k, k]), np.vstack([before_v, v])
        window = chunk * topk
        if tokens > 1 and tokens + cached > window:  # pieces of the call, and no cache
            return np.array([self.attention(q[t], k[t - t % chunk:t + 1], v[t - t % chunk:t + 1])
                             for t in range(tokens)])
        if tokens > 1 or cached <= window or self.config["attn_mode"] == "full":
            return np.array([self.attention(q[t], cache["k"][:cached + t + 1],
                                            cache["v"][:cached + t + 1]) for t in range(tokens)])
        chunks = cached // chunk
        means = before_k[:chunks * chunk].reshape(chunks, chunk, C).mean(1)
        best = self.margin.best(means @ q[0], topk)
        seen = np.concatenate([np.arange(m * chunk, (m + 1) * chunk) for m in best]
                              + [np.arange(chunks * chunk, cached + 1)])
        return self.attention(q[0], cache["k"][seen], cache["v"][seen])[None]

    def compress(self, cache, queries):
        past = len(cache["k"]) - self.config["window"]
        for h in range(0, C, HEAD):
            s = np.s_[h:h + HEAD]
            votes = softmax(queries[:, s] @ cache["k"][:past, s].T / 8).sum(0)
            kept = self.margin.best(votes, self.config["min"] - self.config["window"])
            seen = np.concatenate([kept, np.arange(past, len(cache["k"]))])
            for n in ("k", "v"):  # a shorter cache, whose rows mix tokens across the heads
                cache[n][:len(seen), s] = cache[n][seen, s]
        for n in ("k", "v"):
            cache[n] = cache[n][:self.config["min"]]

    # --------------------------------------------------------------------------------- paper

    def paper(self, cache, u, q, k, v):
        out = []
        for t in range(len(q)):
            if len(cache["k"]) == self.config["max"]:
                self.thin_out(cache)
            for n, row in (("q", q), ("k", k), ("v", v)):
                cache[n] = np.vstack([cache[n], row[t]])
            out.append(self.paper_attention(cache))
        return np.array(out)

    def paper_attention(self, cache):
        chunk, topk = self.config["chunk"], self.config["topk"]
        entries = len(cache["k"])
        own = (entries - 1) // chunk
        out = np.empty(C)
        for h in range(0, C, HEAD):
            s = np.s_[h:h + HEAD]
            q, k, v = (cache[n][:, s] for n in ("q", "k", "v"))
            chosen = range(own)
            if self.config["attn_mode"] == "sparse" and own > topk - 1:
                means = k[:own * chunk].reshape(own, chunk, HEAD).mean(1)
                chosen = self.margin.best(means @ q[-1], topk - 1)
            seen = np.concatenate([np.arange(m * chunk, (m + 1) * chunk) for m in chosen]
                                  + [np.arange(own * chunk, entries)])
            out[s] = softmax(k[seen] @ q[-1] / 8) @ v[seen]
        return out

    def thin_out(self, cache):
        past = len(cache["k"]) - self.config["window"]
        for h in range(0, C, HEAD):
            s = np.s_[h:h + HEAD]
            votes = softmax(cache["q"][past:, s] @ cache["k"][:past, s].T / 8).sum(0)
            kept = np.sort(self.margin.best(votes, self.config["min"] - self.config["window"]))
            seen = np.concatenate([kept, np.arange(past, len(cache["k"]))])
            for n in ("q", "k", "v"):
                cache[n][:len(seen), s] = cache[n][seen, s]
        for n in ("q", "k", "v"):
            cache[n] = cache[n][:self.config["min"]]


SMALL = {"chunk": 4, "topk": 2, "max": 22, "min": 15, "window": 6}
SCENARIOS = {
    "decode": ({"semantics": "package", "attn_mode": "sparse", **SMALL}, [1] * 60),
    # Calls within the window, beyond it, and that find the cache full.
    "mixed": ({"semantics": "package", "attn_mode": "sparse", **SMALL},
              [5, 3, 1, 1, 9, 1, 1, 1, 2, 1, 7, 1, 1, 13, 1, 1]),
    "full": ({"semantics": "package", "attn_mode": "full", **SMALL}, [3, 1, 5] + [1] * 12),
    "paper": ({"semantics": "paper", "attn_mode": "sparse", **SMALL, "topk": 3}, [60]),
    "paper_full": ({"semantics": "paper", "attn_mode": "full", **SMALL}, [30]),
}


def run(weights, config, calls):
    """The model after, and tokens and logits of, the first seed whose choices float32 can make."""
    for seed in range(1000):
        tokens = np.random.default_rng(seed).integers(0, V, sum(calls)).astype(np.int32)
        model = RwkvX(weights, config)
        logits = [model.call(tokens[e - n:e]) for n, e in zip(calls, np.cumsum(calls))]
        if model.margin.smallest > 1e-4:
            return model, tokens, np.concatenate(logits)
    raise ValueError("every text has a choice that is too close")


def main():
    tensors = tensor_list()
    weights = weights_of(tensors)
    out, about = {}, {}
    for name, (config, calls) in SCENARIOS.items():
        model, tokens, logits = run(weights, config, calls)
        out[f"{name}.tokens"] = tokens
        out[f"{name}.logits"] = logits.astype(np.float32)
        for n in ("att_x_prev", "ffn_x_prev"):
            out[f"{name}.{n}"] = model.state[n].astype(np.float32)
        for j, cache in enumerate(model.caches):
            out[f"{name}.{j}.ffn_x_prev"] = cache["ffn_x_prev"].astype(np.float32)
            for n in ("k", "v"):
                out[f"{name}.{j}.{n}_cache"] = cache[n][:, ::8].astype(np.float32)
        about[name] = {"config": config, "calls": calls}
        print(f"{name}: logits {logits.std():.2f} std, {len(model.caches[0]['k'])} entries, "
              f"choices clear by {model.margin.smallest:.1e}")
    write_safetensors(pathlib.Path(__file__).resolve().with_name("hybrid.golden.safetensors"), out,
                      {"tensors": json.dumps(tensors), "scenarios": json.dumps(about)})


if __name__ == "__main__":
    main()
