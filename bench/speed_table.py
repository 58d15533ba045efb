#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The speed tables of README.md and of this folder: medians of several calls of `rwkv bench`.

    speed_table.py TOOL [--rows 0.1b/q8_0/1 0.4b/f16/2 ...] [--calls 3]

TOOL is the `rwkv` program; a row is a shape, a weight type and a number of threads. Every model is
written to a temporary file first, so that loading is measured too.
"""
import argparse
import json
import os
import statistics
import subprocess
import tempfile

TYPES = "f32 f16 bf16 q8_0 q6_k q4_k".split()
ROWS = [f"0.1b/{type}/{threads}" for type in TYPES for threads in (1, 2)]
ROWS += [f"{shape}/{type}/1" for shape in ("0.4b", "1.5b") for type in ("f16", "q8_0", "q4_k")]
# As many tokens as take a second or so.
PROMPT = {"0.1b": 512, "0.4b": 256, "1.5b": 64, "2.9b": 32}
GENERATE = {"0.1b": 60, "0.4b": 40, "1.5b": 20, "2.9b": 10}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("tool")
    parser.add_argument("--rows", nargs="+", default=ROWS, metavar="SHAPE/TYPE/THREADS")
    parser.add_argument("--calls", type=int, default=3)
    args = parser.parse_args()

    def run(*words):
        result = subprocess.run([args.tool, *words], capture_output=True, text=True)
        if result.returncode != 0:
            raise SystemExit(result.stderr.strip())
        return result.stdout

    print("| model | weights | threads | decode, tokens/s | prefill, tokens/s "
          "| decode, share of read bandwidth | prefill, share of peak "
          "| reading, GB/s | from the cache, GB/s | loading, times reading the file |")
    print("|" + "---|" * 10)
    with tempfile.TemporaryDirectory() as folder:
        path, there = os.path.join(folder, "model.gguf"), None
        for row in args.rows:
            shape, type, threads = row.split("/")
            if there != (shape, type):
                run("convert", "--shape", shape, path, "--type", type, "--no-self-test")
                there = (shape, type)
            calls = [
                json.loads(run("bench", path, "--threads", threads, "--prompt", str(PROMPT[shape]),
                               "--generate", str(GENERATE[shape]), "--json"))
                for _ in range(args.calls)
            ]

            def median(key):
                return statistics.median(call[key] for call in calls)

            print(f"| {shape} | {type} | {threads} | {median('decode_tokens_per_second'):.3g} "
                  f"| {median('prefill_tokens_per_second'):.0f} "
                  f"| {100 * median('decode_bandwidth_fraction'):.0f} % "
                  f"| {100 * median('prefill_peak_fraction'):.0f} % "
                  f"| {median('read_bandwidth_bytes_per_second') / 1e9:.1f} "
                  f"| {median('cached_product_bytes_per_second') / 1e9:.1f} "
                  f"| {median('load_seconds_per_read'):.2f} |", flush=True)


if __name__ == "__main__":
    main()
