#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# tests/platforms/abi.sh <c++ compiler for x86-64> [option]...
# Object files with different -m flags in one program: what crosses from one to the other, and that
# they share no kernel, nor anything that kernels are inlined into.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
compile=("$1" -std=c++20 -O0 -Iinclude "${@:2}" -Wall -Wextra -Wpedantic -Werror -c)
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT

"${compile[@]}" tests/platforms/abi/main.cpp -o "$out/main.o" -DRWKV_NO_DISPATCH
"${compile[@]}" -mavx2 -mfma -mf16c tests/platforms/abi/other.cpp -o "$out/other.o"
"$1" "$out/other.o" "$out/main.o" -o "$out/program"  # the linker keeps the first copy
if grep -qw avx2 /proc/cpuinfo; then "$out/program"; else echo "not run: this processor has no AVX2"; fi

cat >"$out/header-only.cpp" <<'SOURCE'
#define RWKV_NO_IO
#include <rwkv/model.hpp>
void run(const rwkv::Model<>& model, std::span<const rwkv::Slot<>> slots, std::span<float> logits,
         rwkv::Workspace<>& work) {
  model.forward(slots, rwkv::Logits::last, logits, work);
}
SOURCE
cat >"$out/compiled.cpp" <<'SOURCE'
#define RWKV_COMPILED  // and yet lanes that are named by type
#include <rwkv/kernels/lanes.hpp>
#include <rwkv/simd/native.hpp>
using rwkv::simd::Native;
void run(const rwkv::AnyMatrix& w, const rwkv::kernels::ProductInputs& x, float* y) {
  rwkv::kernels::quantise_row<Native>(rwkv::kernels::ActivationFormat::codes, x.x, x.quantised, 0);
  rwkv::kernels::multiply<Native>(w, {0, 1}, x, 1, y, 16);
}
SOURCE
# code_of <mode> <cpu>: functions that the linker would take from another file, too.
code_of() {
  "${compile[@]}" "-march=$2" "$out/$1.cpp" -o "$out/$2.o"
  nm -C --defined-only "$out/$2.o" | awk '$2 ~ /[Wu]/ { $1 = $2 = ""; print }' | sort -u |
    grep -E 'rwkv::.*(kernels::[^:]*::compiled|simd::[^:]*::[^:]*::(Vector|Scalar)|time_mix|detail::(run|forward)|Model<)' \
    >"$out/$2"
}
for mode in header-only compiled; do
  for cpu in x86-64 skylake-avx512 icelake-server; do
    code_of $mode $cpu
    for other in $(cd "$out" && ls x86-64 skylake-avx512 icelake-server 2>/dev/null); do
      if [ "$other" = $cpu ]; then continue; fi
      shared=$(comm -12 "$out/$other" "$out/$cpu")
      if [ -n "$shared" ]; then
        echo "shared by $other and $cpu, $mode:"
        echo "$shared" | head -20
        exit 1
      fi
    done
  done
  rm "$out/x86-64" "$out/skylake-avx512" "$out/icelake-server"
done
