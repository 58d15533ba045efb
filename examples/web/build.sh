#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# examples/web/build.sh [folder]
# Builds rwkv.wasm with clang 19 for WASI (and binaryen, if it is there) and puts everything that a
# page or an npm package needs into the folder: any web server may serve it, and `npm pack` packs it.
set -euo pipefail
web=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$web/../..
out=$(mkdir -p "${1:-$root/build/web}" && cd "${1:-$root/build/web}" && pwd)
objects=$out/../web-objects
mkdir -p "$objects/include"
ln -sfn "${NLOHMANN:-/usr/include/nlohmann}" "$objects/include/nlohmann"  # and nothing else of this system

compiler=(${CXX_WASM:-clang++-19} --target=wasm32-wasi)
! command -v ccache >/dev/null || compiler=(ccache "${compiler[@]}")
flags=(-std=c++20 -msimd128 -mbulk-memory -mnontrapping-fptoint -msign-ext -fno-exceptions -fno-rtti -flto
  -fno-c++-static-destructors -fvisibility=hidden -DNDEBUG -DRWKV_COMPILED -DRWKV_NO_PTH -DRWKV_FEWER_KERNELS
  -I"$root/include" -isystem "$objects/include" -Wall -Wextra -Wpedantic -Wconversion -Wshadow -Werror)
small=(-Oz -DRWKV_PREFER_SIZE)
"${compiler[@]}" "${flags[@]}" -Os -fno-vectorize -fno-slp-vectorize -fno-unroll-loops -c "$web/src/kernels.cpp" -o "$objects/kernels.o" &
"${compiler[@]}" "${flags[@]}" "${small[@]}" -c "$web/src/rwkv.cpp" -o "$objects/rwkv.o"
"${compiler[@]}" "${flags[@]}" "${small[@]}" -c "$web/src/library.cpp" -o "$objects/library.o"
wait $!
${CXX_WASM:-clang++-19} --target=wasm32-wasi -mexec-model=reactor -flto \
  -Wl,--lto-O2,--gc-sections,--strip-all,--export=__stack_pointer \
  "$objects"/{kernels,library,rwkv}.o -o "$objects/rwkv.wasm"
if command -v wasm-opt >/dev/null; then
  # Somewhat more is inlined than -Oz would: smaller, too, when it is compressed.
  wasm-opt --enable-{simd,bulk-memory,mutable-globals,sign-ext,nontrapping-float-to-int} -Oz -Oz -Oz \
    -ocimfs=24 -fimfs=4 -aimfs=4 --strip-producers --strip-target-features \
    "$objects/rwkv.wasm" -o "$out/rwkv.wasm"
else
  cp "$objects/rwkv.wasm" "$out/"
fi
cp "$web"/{index.html,package.json,README.md,rwkv.js,rwkv.d.ts,remote.js,remote.d.ts,worker.js} \
  "$root/LICENSE" "$root/examples/models/tales/tales.safetensors" "$out/"
echo "$out/rwkv.wasm: $(wc -c <"$out/rwkv.wasm") bytes, $(gzip -9c "$out/rwkv.wasm" | wc -c) compressed"
