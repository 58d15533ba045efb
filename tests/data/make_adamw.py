#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A run of torch.optim.AdamW in float64, as adamw.golden.safetensors beside this script.

Three groups: `matrix` with weight decay, `w0` at twice the learning rate, `rest`. Their gradients
are given, not those of a loss: `gradient` [steps, n], with norms on both sides of the limit to which
clip_grad_norm_ cuts them. `rate` [steps] is CosineAnnealingLR from 0.02 to 0.002. For `recipe` (the
betas, epsilon and weight decay of RWKV-7's training) and `defaults` (torch's betas, and an epsilon
that counts): `parameters` [steps, n] after every step, from `start` [n], and the moments after all.
"""
import pathlib

import numpy as np
import torch

from make_goldens import write_safetensors

GROUPS = {"matrix": 20, "w0": 9, "rest": 13}
STEPS = 12
CLIP = 1.0
RUNS = {
    "recipe": dict(betas=(0.9, 0.99), eps=1e-18, weight_decay=0.1),
    "defaults": dict(betas=(0.9, 0.999), eps=1e-2, weight_decay=0.5),
}


def run(start, gradients, options):
    decay = options.pop("weight_decay")
    parts = torch.split(torch.tensor(start, dtype=torch.float64), list(GROUPS.values()))
    parts = [torch.nn.Parameter(p.clone()) for p in parts]
    matrix, w0, rest = parts
    rate = 0.02
    optimizer = torch.optim.AdamW(
        [{"params": [matrix], "lr": rate, "weight_decay": decay},
         {"params": [w0], "lr": 2 * rate, "weight_decay": 0.0},
         {"params": [rest], "lr": rate, "weight_decay": 0.0}], **options)
    # The factors of the cosine, so that it holds for every group's own rate.
    cosine = torch.optim.lr_scheduler.CosineAnnealingLR(
        torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=rate), T_max=STEPS - 1,
        eta_min=rate / 10)
    rates, trajectory, clipped = [], [], 0
    for gradient in gradients:
        rates.append(cosine.get_last_lr()[0])
        for group, factor in zip(optimizer.param_groups, (1, 2, 1)):
            group["lr"] = factor * rates[-1]
        given = torch.split(torch.tensor(gradient, dtype=torch.float64), list(GROUPS.values()))
        for p, g in zip(parts, given):
            p.grad = g.clone()
        clipped += bool(torch.nn.utils.clip_grad_norm_(parts, CLIP) > CLIP)
        optimizer.step()
        cosine.optimizer.step()
        cosine.step()
        trajectory.append(torch.cat([p.detach() for p in parts]).numpy())
    assert 0 < clipped < STEPS

    def moments(name):
        return torch.cat([optimizer.state[p][name] for p in parts]).numpy()

    return np.array(rates), {"parameters": np.array(trajectory),
                             "first_moment": moments("exp_avg"),
                             "second_moment": moments("exp_avg_sq")}


def main():
    rng = np.random.default_rng(7)
    n = sum(GROUPS.values())
    start = rng.standard_normal(n).astype(np.float32)
    # Norms from about 0.2 to 5, and a drift, so that the moments do not average out.
    scale = 10.0 ** rng.uniform(-1.4, 0.0, (STEPS, 1))
    gradients = (scale * (rng.standard_normal((STEPS, n)) + 0.4)).astype(np.float32)
    tensors = {"start": start, "gradient": gradients}
    for name, options in RUNS.items():
        tensors["rate"], result = run(start, gradients, dict(options))
        tensors.update({f"{name}.{key}": value for key, value in result.items()})
    path = pathlib.Path(__file__).resolve().with_name("adamw.golden.safetensors")
    write_safetensors(path, tensors, {"torch": torch.__version__})
    print(f"gradient norms {np.sort(np.linalg.norm(gradients, axis=1)).round(2)}")


if __name__ == "__main__":
    main()
