#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Plots the CSV of `passkey --csv FILE`: accuracy by context length, one line per model.

    plot_passkey.py FILE.csv OUT.svg                 (or .png, .pdf; needs matplotlib)
"""
import csv
import sys

try:
    import matplotlib
except ImportError:
    sys.exit("plot_passkey.py needs matplotlib")
matplotlib.use("Agg")
import matplotlib.pyplot as plt


def main():
    if len(sys.argv) != 3:
        sys.exit(__doc__.strip())
    lines, trained = {}, 0  # model and size -> [(length, accuracy)]
    with open(sys.argv[1], newline="") as file:
        for row in csv.DictReader(file):
            name = f"{row['model']}, {int(row['parameters']) / 1000:.0f} K parameters"
            lines.setdefault(name, []).append((int(row["length"]), 100 * float(row["accuracy"])))
            trained = int(row["train_length"])
    if not lines:
        sys.exit(f"{sys.argv[1]}: no rows")

    figure, axes = plt.subplots(figsize=(5, 3))
    for name, points in lines.items():
        axes.plot(*zip(*sorted(points)), marker="o", markersize=3, label=name)
    axes.axvline(trained, color="grey", linewidth=0.5)
    lengths = sorted({length for points in lines.values() for length, _ in points})
    axes.set(xscale="log", xlabel="context length (grey: longest in training)",
             ylabel="passkeys retrieved (%)", ylim=(-3, 103))
    axes.set_xticks(lengths, [str(length) for length in lengths], fontsize=7)
    axes.minorticks_off()
    axes.legend(fontsize=7)
    figure.tight_layout()
    figure.savefig(sys.argv[2])


if __name__ == "__main__":
    main()
