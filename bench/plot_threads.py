#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Plots the CSV of `threads --csv FILE`: tokens per second by threads, one line per number of busy
neighbours.

    plot_threads.py FILE.csv OUT.svg                 (or .png, .pdf; needs matplotlib)
"""
import csv
import sys

try:
    import matplotlib
except ImportError:
    sys.exit("plot_threads.py needs matplotlib")
matplotlib.use("Agg")
import matplotlib.pyplot as plt


def main():
    if len(sys.argv) != 3:
        sys.exit(__doc__.strip())
    lines = {}
    with open(sys.argv[1], newline="") as file:
        for row in csv.DictReader(file):
            lines.setdefault(int(row["neighbours"]), []).append(
                (int(row["threads"]), float(row["tokens_per_second"])))
    if not lines:
        sys.exit(f"{sys.argv[1]}: no rows")

    figure, axes = plt.subplots(figsize=(5, 3))
    for neighbours, points in sorted(lines.items()):
        axes.plot(*zip(*sorted(points)), marker="o", markersize=3,
                  label=f"{neighbours} busy neighbours")
    threads = sorted({t for points in lines.values() for t, _ in points})
    axes.set(xscale="log", xlabel="threads", ylabel="tokens/s", ylim=(0, None))
    axes.set_xticks(threads, [str(t) for t in threads])
    axes.minorticks_off()
    axes.legend(fontsize=7)
    figure.tight_layout()
    figure.savefig(sys.argv[2])


if __name__ == "__main__":
    main()
