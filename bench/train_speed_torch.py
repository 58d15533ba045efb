#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Training speed side by side with PyTorch on the CPU: the training form of RWKV-7 with autograd, its
recurrence as a loop over time, and AdamW; the same model and batch as `train_speed`, which is run
in between, round by round, so that what else the machine does falls on both.

The loop is measured as it is usually written, indexing token t of every tensor ("indexed"), and
taking the tensors apart beforehand ("unbound"): the gradient of an index is a tensor of zeros as
large as the whole sequence, which makes the usual loop quadratic in its length.

    train_speed_torch.py build/native/bench/train_speed --layers 6 --embed 256 --batch 8

Needs PyTorch; installs nothing.
"""
import argparse
import json
import statistics
import subprocess
import time

import torch
from torch import nn
from torch.nn import functional as F


class TimeMix(nn.Module):
    recurrence = None  # one of the two below

    def __init__(self, layer, C, N, rank):
        super().__init__()
        self.layer, self.N = layer, N

        def vector():
            return nn.Parameter(0.5 * torch.rand(C))

        def matrix(rows, columns):
            return nn.Parameter(torch.randn(rows, columns) / rows**0.5)

        for letter in "rwkvag":
            setattr(self, "x_" + letter, vector())
        for letter in "wavg" if layer else "wag":
            if letter != "g":
                setattr(self, letter + "0", vector())
            setattr(self, letter + "1", matrix(C, rank))
            setattr(self, letter + "2", matrix(rank, C))
        self.k_k, self.k_a, self.r_k = vector(), vector(), vector()
        self.receptance, self.key, self.value, self.output = (
            nn.Linear(C, C, bias=False) for _ in range(4))
        self.ln_x = nn.GroupNorm(C // N, C, eps=64e-5)

    def forward(self, x, v_first):
        B, T, C = x.shape
        d = shifted(x) - x
        xr, xw, xk, xv, xa, xg = (x + d * getattr(self, "x_" + letter) for letter in "rwkvag")
        r, k, v = self.receptance(xr), self.key(xk), self.value(xv)
        w = torch.exp(-0.6065306597 * torch.sigmoid(self.w0 + torch.tanh(xw @ self.w1) @ self.w2))
        a = torch.sigmoid(self.a0 + xa @ self.a1 @ self.a2)
        g = torch.sigmoid(xg @ self.g1) @ self.g2
        if self.layer == 0:
            v_first = v
        else:
            v = v + (v_first - v) * torch.sigmoid(self.v0 + xv @ self.v1 @ self.v2)
        kk = F.normalize((k * self.k_k).view(B, T, -1, self.N), dim=-1, eps=1e-12).view(B, T, C)
        k = k * (1 + (a - 1) * self.k_a)

        y = TimeMix.recurrence(*(u.view(B, T, -1, self.N) for u in (r, w, k, v, -kk, kk * a)))
        y = self.ln_x(y.reshape(B * T, C)).view(B, T, C)
        bonus = (r * k * self.r_k).view(B, T, -1, self.N).sum(-1, keepdim=True)
        y = y + (bonus * v.view(B, T, -1, self.N)).view(B, T, C)
        return self.output(y * g), v_first


def shifted(x):
    """The previous token's row, zero before the first."""
    return F.pad(x, (0, 0, 1, -1))


def advance(S, r, w, k, v, a, b):
    """S [B, H, value, key] <- S diag(w) + (S a) b^T + v k^T; y = S r. The others [B, H, N]."""
    sa = S @ a.unsqueeze(-1)
    S = S * w.unsqueeze(-2) + sa @ b.unsqueeze(-2) + v.unsqueeze(-1) @ k.unsqueeze(-2)
    return S, (S @ r.unsqueeze(-1)).squeeze(-1)


def indexed(r, w, k, v, a, b):
    """The recurrence; everything [B, T, H, N]."""
    B, T, H, N = r.shape
    S, y = torch.zeros(B, H, N, N), torch.zeros(B, T, H, N)
    for t in range(T):
        S, y[:, t] = advance(S, r[:, t], w[:, t], k[:, t], v[:, t], a[:, t], b[:, t])
    return y


def unbound(r, w, k, v, a, b):
    """The same."""
    B, T, H, N = r.shape
    S, y = torch.zeros(B, H, N, N), []
    for inputs in zip(*(u.unbind(1) for u in (r, w, k, v, a, b))):
        S, yt = advance(S, *inputs)
        y.append(yt)
    return torch.stack(y, 1)


class ChannelMix(nn.Module):
    def __init__(self, C, ffn):
        super().__init__()
        self.x_k = nn.Parameter(0.5 * torch.rand(C))
        self.key, self.value = nn.Linear(C, ffn, bias=False), nn.Linear(ffn, C, bias=False)

    def forward(self, x):
        return self.value(torch.relu(self.key(x + (shifted(x) - x) * self.x_k)) ** 2)


class Block(nn.Module):
    def __init__(self, layer, C, N, ffn, rank):
        super().__init__()
        self.ln1, self.ln2 = nn.LayerNorm(C), nn.LayerNorm(C)
        self.att, self.ffn = TimeMix(layer, C, N, rank), ChannelMix(C, ffn)

    def forward(self, x, v_first):
        out, v_first = self.att(self.ln1(x), v_first)
        x = x + out
        return x + self.ffn(self.ln2(x)), v_first


class Rwkv7(nn.Module):
    def __init__(self, layers, C, N, ffn, vocab, rank):
        super().__init__()
        self.emb, self.ln0 = nn.Embedding(vocab, C), nn.LayerNorm(C)
        self.blocks = nn.ModuleList(Block(i, C, N, ffn, rank) for i in range(layers))
        self.ln_out, self.head = nn.LayerNorm(C), nn.Linear(C, vocab, bias=False)

    def forward(self, tokens):
        x, v_first = self.ln0(self.emb(tokens)), None
        for block in self.blocks:
            x, v_first = block(x, v_first)
        return self.head(self.ln_out(x))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("train_speed", help="the compiled benchmark")
    sizes = dict(layers=6, embed=256, head_size=64, ffn=0, vocab=256, rank=32, batch=8, length=256,
                 threads=1)
    for name, default in sizes.items():
        parser.add_argument("--" + name.replace("_", "-"), type=int, default=default)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=3, help="of each, per round")
    o = parser.parse_args()
    o.ffn = o.ffn or 4 * o.embed

    torch.manual_seed(1)
    torch.set_num_threads(o.threads)
    model = Rwkv7(o.layers, o.embed, o.head_size, o.ffn, o.vocab, o.rank)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, betas=(0.9, 0.99), weight_decay=0.1)
    tokens = torch.randint(o.vocab, (o.batch, o.length + 1))
    ours = [o.train_speed, "--json", "--seconds", str(o.seconds)]
    for name in sizes:
        ours += ["--" + name.replace("_", "-"), str(getattr(o, name))]

    def step(recurrence):
        TimeMix.recurrence = recurrence
        logits = model(tokens[:, :-1])
        loss = F.cross_entropy(logits.reshape(-1, o.vocab), tokens[:, 1:].reshape(-1))
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()

    loops = (indexed, unbound)
    for loop in loops:
        step(loop)  # allocates
    rates = {name: [] for name in ("rwkv", "indexed", "unbound")}
    for _ in range(o.rounds):
        run = subprocess.run(ours, check=True, capture_output=True, text=True)
        rates["rwkv"].append(json.loads(run.stdout)["tokens_per_second"])
        for loop in loops:
            times, begin = [], time.perf_counter()
            while not times or time.perf_counter() - begin < o.seconds:
                start = time.perf_counter()
                step(loop)
                times.append(time.perf_counter() - start)
            rates[loop.__name__].append(o.batch * o.length / statistics.median(times))

    parameters = sum(p.numel() for p in model.parameters())
    print(f"{parameters} parameters, batch {o.batch} x {o.length}, {o.threads} thread(s), "
          f"PyTorch {torch.__version__}; tokens/s by round, their median, and how much faster we are")
    medians = {name: statistics.median(values) for name, values in rates.items()}
    for name, values in rates.items():
        print(f"{name:8}" + "".join(f"{rate:10.0f}" for rate in values)
              + f"{medians[name]:12.0f}{medians['rwkv'] / medians[name]:8.1f}")


if __name__ == "__main__":
    main()
