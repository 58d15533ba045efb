#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Plots the CSV of `speculate --csv FILE`: speed as a multiple of plain decoding by the number of
guesses per pass, one line per share of right guesses; diamonds: with as many as the library chooses.

    plot_speculate.py FILE.csv OUT.svg               (or .png, .pdf; needs matplotlib)
"""
import csv
import sys

try:
    import matplotlib
except ImportError:
    sys.exit("plot_speculate.py needs matplotlib")
matplotlib.use("Agg")
import matplotlib.pyplot as plt


def main():
    if len(sys.argv) != 3:
        sys.exit(__doc__.strip())
    lines, chosen = {}, {}
    with open(sys.argv[1], newline="") as file:
        for row in csv.DictReader(file):
            right, guesses, speedup = float(row["right"]), int(row["guesses"]), float(row["speedup"])
            if guesses == 0:
                chosen[right] = speedup
            else:
                lines.setdefault(right, []).append((guesses, speedup))
    if not lines:
        sys.exit(f"{sys.argv[1]}: no rows")

    figure, axes = plt.subplots(figsize=(6, 3.5))
    longest = max(guesses for points in lines.values() for guesses, _ in points)
    for right, points in sorted(lines.items(), reverse=True):
        line, = axes.plot(*zip(*sorted(points)), marker="o", markersize=3,
                          label=f"{100 * right:.0f} % right")
        if right in chosen:
            axes.plot([longest + 1.5], [chosen[right]], marker="D", markersize=5,
                      color=line.get_color())
    axes.axhline(1, color="grey", linewidth=0.8, linestyle="--")
    ticks = sorted({guesses for points in lines.values() for guesses, _ in points})
    axes.set_xticks([*ticks, longest + 1.5], [*map(str, ticks), "chosen"])
    axes.set(xlabel="guesses per pass", ylabel="times plain decoding", ylim=(0, None))
    axes.legend(fontsize=7, loc="upper left", bbox_to_anchor=(1.01, 1))
    figure.tight_layout()
    figure.savefig(sys.argv[2])


if __name__ == "__main__":
    main()
