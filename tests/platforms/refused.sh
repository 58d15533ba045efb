#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# tests/platforms/refused.sh <c++ compiler>...
# What core/config.hpp refuses, and what looks like it but must compile. Every compiler is one that
# names its options as gcc does, on x86.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.." || exit 1
status=0

# try <words of the message, or nothing> <compiler> <option>...
try() {
  local words=$1 out
  shift
  out=$(echo '#include <rwkv/core/config.hpp>' |
    "$1" -std=c++20 "${@:2}" -Iinclude -w -fsyntax-only -x c++ - 2>&1)
  if [ -z "$words" ] && [ -z "$out" ]; then return; fi
  if [ -n "$words" ] && [[ $out == *"error: "*"$words"* ]]; then return; fi
  printf '%s: expected "%s", got\n%s\n' "$*" "$words" "$out"
  status=1
}

for compiler in "$@"; do
  try "rwkv needs IEEE arithmetic" "$compiler" -ffast-math
  try "rwkv needs IEEE arithmetic" "$compiler" -ffinite-math-only
  if ! "$compiler" --version | grep -q clang; then  # which names only the two above
    try "rwkv needs IEEE arithmetic" "$compiler" -funsafe-math-optimizations
    try "rwkv needs IEEE arithmetic" "$compiler" -freciprocal-math
  fi
  try "-msse2 -mfpmath=sse" "$compiler" -m32 -mno-sse
  try "rwkv needs a little-endian processor" "$compiler" -U__BYTE_ORDER__ -D__BYTE_ORDER__=4321
  try "" "$compiler" -ffast-math -fno-fast-math
  try "" "$compiler" -fno-signed-zeros
  try "" "$compiler" -fno-math-errno -fno-trapping-math
  try "" "$compiler" -funsigned-char
done
exit $status
