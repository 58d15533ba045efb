#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Plots the CSV of `state_tracking --csv FILE`: accuracy by length, one panel per task.

    plot_state_tracking.py FILE.csv OUT.svg          (or .png, .pdf; needs matplotlib)
"""
import csv
import sys

try:
    import matplotlib
except ImportError:
    sys.exit("plot_state_tracking.py needs matplotlib")
matplotlib.use("Agg")
import matplotlib.pyplot as plt


def main():
    if len(sys.argv) != 3:
        sys.exit(__doc__.strip())
    curves, trained = {}, 0  # task -> (layers, eigenvalues) -> [(length, accuracy)]
    with open(sys.argv[1], newline="") as file:
        for row in csv.DictReader(file):
            key = int(row["layers"]), row["eigenvalues"]
            point = int(row["length"]), 100 * float(row["accuracy"])
            curves.setdefault(row["task"], {}).setdefault(key, []).append(point)
            trained = int(row["train_length"])
    if not curves:
        sys.exit(f"{sys.argv[1]}: no rows")

    figure, panels = plt.subplots(1, len(curves), figsize=(3.2 * len(curves), 3), sharey=True,
                                  squeeze=False)
    layer_counts = sorted({layers for task in curves.values() for layers, _ in task})
    for panel, (task, lines) in zip(panels[0], curves.items()):
        for (layers, eigenvalues), points in sorted(lines.items()):
            panel.plot(*zip(*sorted(points)), marker="o", markersize=3,
                       color=f"C{layer_counts.index(layers)}",
                       linestyle="-" if eigenvalues == "extended" else "--",
                       label=f"{layers} layer{'s' if layers > 1 else ''}, {eigenvalues}")
        panel.axvline(trained, color="grey", linewidth=0.5)
        panel.set(title=task, xscale="log", xlabel="position", ylim=(-3, 103))
        lengths = sorted({length for points in lines.values() for length, _ in points})
        panel.set_xticks(lengths, [str(length) for length in lengths], fontsize=7)
        panel.minorticks_off()
    panels[0][0].set_ylabel("accuracy (%)")
    panels[0][-1].legend(fontsize=6)
    figure.tight_layout()
    figure.savefig(sys.argv[2])


if __name__ == "__main__":
    main()
