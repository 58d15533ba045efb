#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Plots the CSV of `hybrid_million --csv FILE`: time per token and resident memory by position.

    plot_hybrid_million.py FILE.csv OUT.svg          (or .png, .pdf; needs matplotlib)
"""
import csv
import sys

try:
    import matplotlib
except ImportError:
    sys.exit("plot_hybrid_million.py needs matplotlib")
matplotlib.use("Agg")
import matplotlib.pyplot as plt


def main():
    if len(sys.argv) != 3:
        sys.exit(__doc__.strip())
    with open(sys.argv[1], newline="") as file:
        rows = list(csv.DictReader(file))
    if not rows:
        sys.exit(f"{sys.argv[1]}: no rows")
    tokens = [int(row["tokens"]) / 1000 for row in rows]

    figure, (time, memory) = plt.subplots(2, 1, figsize=(6, 4), sharex=True)
    time.plot(tokens, [float(row["microseconds"]) for row in rows], color="C0")
    time.set(ylabel="µs per token", ylim=(0, None))
    for column, label, style in [("resident_bytes", "process", "-"), ("state_bytes", "state", "--")]:
        memory.plot(tokens, [int(row[column]) / 2**20 for row in rows], style, color="C1",
                    label=label)
    memory.set(ylabel="MiB", xlabel="position (thousand tokens)", ylim=(0, None))
    memory.legend(fontsize=7)
    figure.tight_layout()
    figure.savefig(sys.argv[2])


if __name__ == "__main__":
    main()
