#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Trains the model: train.sh OUT.safetensors [THREADS], with `reverse_digits` (built from
# examples/reverse_digits.cpp) on the PATH. Interrupted, it goes on when called again; at the end, the test of the card.
set -euo pipefail
reverse_digits train "$1" "${2:-1}"
reverse_digits test "$1"
