#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# tests/platforms/headers.sh <c++ compiler> [option]...
# Compiles every public header, in one translation unit, to nothing.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../../include"
# xsimd.hpp is for native.hpp to include, where there is a vector unit; cuda/ is for other compilers.
find rwkv -name '*.hpp' ! -path rwkv/simd/xsimd.hpp ! -path 'rwkv/cuda/*' | LC_ALL=C sort |
  sed 's/.*/#include <&>/' |
  "$1" -std=c++20 -Wall -Wextra -Wpedantic -Wconversion -Wshadow -Werror -fsyntax-only "${@:2}" \
    -I . -x c++ -
