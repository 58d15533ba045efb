#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Everything that wants a CUDA device, in one go and a few minutes: are the models right on it, and
# how fast are they?
#
#   bench/cuda.sh                 builds (for the device that is there), checks, measures
#   bench/cuda.sh --build-only    builds, for RWKV_CUDA_ARCHITECTURES (90), on a machine without one:
#                                 build/cuda/bench/cuda then runs where there is no compiler
#   bench/cuda.sh --dry-run       the same on an emulated device and a tiny model: no nvcc, no GPU
#   bench/cuda.sh --sanitizer     checks under compute-sanitizer's four tools instead of measuring
#   bench/cuda.sh --profile       one lone sequence of 1.5B under ncu instead of measuring
#   bench/cuda.sh -- OPTIONS      further options of the program: --shapes 1.5b --type bf16 --dense
#
# What it prints of tables goes to bench/README.md with the device's name and the date.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

mode=measure
while [ $# -gt 0 ]; do
  case $1 in
    --dry-run | --build-only | --sanitizer | --profile) mode=${1#--} ;;
    --) shift; break ;;
    *) sed -n '3,14p' "${BASH_SOURCE[0]}" >&2; exit 2 ;;
  esac
  shift
done

build=build/cuda
program=$build/bench/cuda
if [ "$mode" = dry-run ]; then
  build=build/cuda-emulated
  program=$build/bench/cuda_emulated
fi
newer() { [ ! -x "$program" ] || [ -n "$(find include bench/cuda tests/cuda -newer "$program" -type f | head -n 1)" ]; }
if newer; then
  options=(-DCMAKE_BUILD_TYPE=Release -DRWKV_BUILD_TESTS=OFF -DRWKV_BUILD_EXAMPLES=OFF)
  target=rwkv_bench_cuda_emulated
  if [ "$mode" != dry-run ]; then
    architectures=native
    [ "$mode" != build-only ] || architectures=${RWKV_CUDA_ARCHITECTURES:-90}
    options+=(-DRWKV_CUDA=ON "-DCMAKE_CUDA_ARCHITECTURES=$architectures"
      "-DCMAKE_EXE_LINKER_FLAGS=-static-libstdc++ -static-libgcc")
    target=rwkv_bench_cuda
  fi
  if ! command -v cmake >/dev/null; then
    echo "error: no cmake here, and $program is older than the sources: bench/cuda.sh --build-only elsewhere" >&2
    exit 1
  fi
  cmake -S . -B "$build" "${options[@]}"
  cmake --build "$build" --parallel --target "$target"
fi

case $mode in
  build-only) ls -l "$program" ;;
  dry-run) "$program" --check --table --tiny "$@" ;;
  sanitizer)
    for tool in memcheck racecheck initcheck synccheck; do
      echo "--- $tool"
      compute-sanitizer --tool "$tool" --error-exitcode 1 "$program" --check --tiny "$@"
    done
    ;;
  profile) ncu --set basic --launch-skip 200 --launch-count 130 "$program" --table --shapes 1.5b "$@" ;;
  measure) "$program" --check --table "$@" ;;
esac
