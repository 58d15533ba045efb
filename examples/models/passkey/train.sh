#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Trains the model and the RWKV-7 beside it, and tests both: train.sh OUT.safetensors, with
# `passkey` (built from bench/passkey.cpp) on the PATH.
set -euo pipefail
passkey --steps 1200 --longest 16384 --csv "${1%.safetensors}.csv" --out "$1"
