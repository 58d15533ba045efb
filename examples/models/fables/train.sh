#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Trains the story teller for 1 MB of flash: train.sh TRAIN.txt VALID.txt OUT.safetensors, with `rwkv` on the PATH.
# Interrupted, it goes on from OUT.safetensors.run when called again.
set -euo pipefail
run=$3.run
resume=()
if [ -e "$run" ]; then resume=(--resume); fi
exec rwkv train --text "$1" --validation "$2" --out "$3" --checkpoint "$run" --log "$3.log.jsonl" "${resume[@]}" \
  --layers 5 --embed 128 --head-size 32 --ffn 256 --ranks 8,8,8,16 \
  --steps 3200 --batch 8 --length 512 --rate 2.5e-3 --final-rate 6e-5 --weight-decay 0.1 --warm-up 50 \
  --validate-every 500 --save-every 250 --seed 1 --threads 1
