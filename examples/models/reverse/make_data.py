#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes samples of the reversal task: {"prompt": "1234=", "completion": "4321\\n"}, one per line.

    make_data.py COUNT SEED [SHORTEST LONGEST] > samples.jsonl

Lengths are uniform from SHORTEST to LONGEST digits (1 to 60), digits are uniform.
"""
import random
import sys

count, seed = int(sys.argv[1]), int(sys.argv[2])
shortest, longest = (int(a) for a in sys.argv[3:5]) if len(sys.argv) > 4 else (1, 60)
rng = random.Random(seed)
for _ in range(count):
    length = rng.randint(shortest, longest)
    digits = "".join(rng.choice("0123456789") for _ in range(length))
    print('{"prompt": "%s=", "completion": "%s\\n"}' % (digits, digits[::-1]))
