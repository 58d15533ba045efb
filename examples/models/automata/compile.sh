#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Compiles the models: compile.sh FOLDER, with `rwkv` on the PATH.
set -euo pipefail
leap='(0[48]|[2468][048]|[13579][26])' # the last two digits of a leap year, other than 00
rwkv compile-regex --out "$1/date.safetensors" \
  "[0-9]{4}-((0[1-9]|1[0-2])-(0[1-9]|1[0-9]|2[0-8])|(0[13-9]|1[0-2])-(29|30)|(0[13578]|1[02])-31)|([0-9]{2}$leap|($leap|00)00)-02-29"
rwkv compile-regex --out "$1/multiple_of_three.safetensors" '(0|1(01*0)*1)+'
