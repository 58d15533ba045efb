#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# tests/cuda/compile.sh <folder for results>
# Compiles the CUDA translation unit for every architecture that it distinguishes, warnings being
# errors, and looks that no kernel of decoding keeps registers in memory. Says "skipped" where there is
# no nvcc.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
out=$1
for nvcc in "$(command -v nvcc || true)" "${CUDA_PATH:-}/bin/nvcc" /usr/local/cuda/bin/nvcc; do
  if [ -x "$nvcc" ]; then break; fi
done
if [ ! -x "$nvcc" ]; then
  echo "skipped: no nvcc in PATH, \$CUDA_PATH/bin or /usr/local/cuda/bin"
  exit 0
fi
mkdir -p "$out"
"$nvcc" --version | tail -n 2

architectures=()
for number in 75 80 120; do
  architectures+=(-gencode "arch=compute_$number,code=sm_$number")
done
"$nvcc" -std=c++20 -O3 -fmad=false --threads 0 "${architectures[@]}" -Werror all-warnings \
  -Xcompiler -Wall,-Wextra,-Werror --resource-usage -I include \
  -c include/rwkv/cuda/rwkv_cuda.cu -o "$out/rwkv_cuda.o" >"$out/resources.txt" 2>&1 ||
  { cat "$out/resources.txt"; exit 1; }

# Heads of 128 channels, which no released model has, are allowed a few.
awk '/Compiling entry function/ { kernel = $0; kernels++ }
     /bytes spill stores/ && !/ 0 bytes spill stores, 0 bytes spill loads/ &&
       kernel !~ /heads_kernelILi128E/ { print kernel; print; bad = 1 }
     END { print kernels " kernels"; exit bad || kernels == 0 }' "$out/resources.txt"
