#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What each weight type costs in quality: bits per byte of a text, and how much more than in f32.

    weight_types.py TOOL MODEL TEXT [--calibrate TEXT] [--vocab FILE] [--types q8_0 q4_k ...]

TOOL is the `rwkv` program. The model is converted to each type in a temporary folder, plainly and,
with --calibrate, weighing errors by that text; converted models run with rounded inputs, as by
default, and with exact ones.
"""
import argparse
import json
import os
import subprocess
import tempfile

TYPES = "q8_0 q6_k q5_k q5_1 q5_0 q4_k q4_1 q4_0 iq4_nl q3_k q2_k".split()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name in ("tool", "model", "text"):
        parser.add_argument(name)
    parser.add_argument("--calibrate", metavar="TEXT")
    parser.add_argument("--vocab", metavar="FILE")
    parser.add_argument("--types", nargs="+", default=TYPES)
    args = parser.parse_args()
    vocab = ["--vocab", args.vocab] if args.vocab else []

    def run(*words):
        result = subprocess.run([args.tool, *words, *vocab], capture_output=True, text=True)
        if result.returncode != 0:
            raise SystemExit(result.stderr.strip())
        return result.stdout

    def bits(model, *how):
        return json.loads(run("perplexity", model, args.text, "--json", *how))["bits_per_byte"]

    exact = bits(args.model)
    print(f"{args.model}: {exact:.5f} bits per byte")
    columns = ["type", "bytes", "rounded inputs", "exact inputs"]
    print(" | ".join(columns + ["calibrated"] * bool(args.calibrate)))
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "model.gguf")
        for name in args.types:
            convert = ["convert", args.model, path, "--type", name, "--no-self-test"]
            run(*convert)
            cells = [name, str(os.path.getsize(path))]
            values = [bits(path), bits(path, "--exact-inputs")]
            if args.calibrate:
                run(*convert, "--calibrate", args.calibrate)
                values.append(bits(path))
            cells += [f"{value:.5f} ({100 * (value / exact - 1):+.2f} %)" for value in values]
            print(" | ".join(cells), flush=True)


if __name__ == "__main__":
    main()
