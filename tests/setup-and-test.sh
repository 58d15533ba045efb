#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# From a bare Debian 12 or Ubuntu 24.04 to a verdict: installs what is missing and runs every check
# of the project. One line per stage; the log of a stage is shown only if it failed.
#
#   tests/setup-and-test.sh                 everything
#   tests/setup-and-test.sh gcc format      only these stages
#
# Exit status 0 if every stage passed. Logs and build trees: build/ci/.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1

all_stages=(format headers gcc consumers bare-metal emulated-arm windows asan-ubsan clang tsan)
warnings="-Wall -Wextra -Wpedantic -Wconversion -Wshadow -Werror"
jobs=$(nproc)

packages() {
  local build=(g++ make cmake ccache libeigen3-dev libxsimd-dev nlohmann-json3-dev)
  local tests=("${build[@]}" doctest-dev libcli11-dev)
  case $1 in
    format) echo clang-format-14 ;;
    headers) echo "${build[@]}" ;;
    gcc) echo "${tests[@]}" qemu-user ;;
    tsan) echo "${tests[@]}" ;;
    consumers) echo "${tests[@]}" pkg-config ;;
    bare-metal)
      echo "${tests[@]}" gcc-arm-none-eabi libnewlib-arm-none-eabi libstdc++-arm-none-eabi-newlib \
        qemu-system-arm
      ;;
    emulated-arm) echo "${tests[@]}" g++-aarch64-linux-gnu qemu-user ;;
    windows) echo "${tests[@]}" g++-mingw-w64-x86-64-posix ;;
    clang | asan-ubsan) echo "${tests[@]}" clang libclang-rt-dev ;;
  esac
}

# configure <tree> <preset> [option]...
configure() {
  cmake --fresh --preset "$2" -B "build/ci/$1" -DRWKV_WERROR=ON "${@:3}"
}
build() {
  cmake --build "build/ci/$1" --parallel "$jobs" "${@:2}"
}
run_tests() {
  ctest --test-dir "build/ci/$1" --parallel "$jobs" --output-on-failure --no-tests=error "${@:2}"
}

# Sources are formatted; clang-format differs between versions, so the version is part of the rule.
# (--dry-run reports closing namespace comments that it would replace by themselves.)
stage_format() {
  local file status=0
  while IFS= read -r file; do
    clang-format-14 "$file" | diff -u --label "$file" --label "$file, formatted" "$file" - ||
      status=1
  done < <(find include examples tests bench -name '*.hpp' -o -name '*.cpp' -o -name '*.cu' | sort)
  return $status
}

# Every public header compiles alone and without a warning, for a processor of no particular model.
stage_headers() {
  configure headers debug -DRWKV_BUILD_EXAMPLES=OFF -DRWKV_BUILD_TESTS=OFF \
    -DRWKV_BUILD_BENCH=OFF -DCMAKE_CXX_FLAGS="$warnings" &&
    build headers --target all_verify_interface_header_sets
}

faster_to_compile='-DCMAKE_CXX_FLAGS_RELEASE=-O2 -DNDEBUG'  # than the presets

configure_gcc() {
  configure gcc release "$faster_to_compile"
}

stage_gcc() {
  configure_gcc && build gcc && run_tests gcc --label-exclude "consumer|bare-metal|emulated-arm|windows"
}

stage_consumers() {
  configure_gcc && run_tests gcc --label-regex consumer
}

stage_bare-metal() {
  configure_gcc && build gcc --target rwkv_firmware_source &&
    run_tests gcc --label-regex bare-metal
}

stage_emulated-arm() {
  configure_gcc && run_tests gcc --label-regex emulated-arm
}

stage_windows() {
  configure_gcc && run_tests gcc --label-regex windows
}

# All tests through clang, also the tool and the fuzz corpus, under the sanitizers.
stage_asan-ubsan() {
  configure asan-ubsan asan-ubsan -DCMAKE_CXX_COMPILER=clang++ &&
    build asan-ubsan --target rwkv_tests &&
    run_tests asan-ubsan --label-exclude "consumer|bare-metal|emulated-arm|windows|examples"
}

# The arithmetic once more, optimised by clang for the middle of the instruction sets: gcc above took
# the machine's best.
stage_clang() {
  local flags=() areas=(simd kernels)
  if grep -qw avx2 /proc/cpuinfo && grep -qw fma /proc/cpuinfo; then
    flags=(-DCMAKE_CXX_FLAGS=-march=haswell)
  fi
  configure clang clang -DRWKV_NATIVE=OFF -DRWKV_BUILD_EXAMPLES=OFF -DRWKV_BUILD_BENCH=OFF \
    "$faster_to_compile" "${flags[@]}" && build clang --target "${areas[@]/#/rwkv_tests_}" &&
    run_tests clang --label-regex "^($(IFS='|' && echo "${areas[*]}"))$"
}

# Without xsimd: the scalar kernels are tested as well.
stage_tsan() {
  configure tsan tsan -DRWKV_USE_XSIMD=OFF -DRWKV_BUILD_EXAMPLES=OFF -DRWKV_BUILD_BENCH=OFF &&
    build tsan --target rwkv_tests_threads && run_tests tsan --label-regex "^threads$"
}

stages=("$@")
[ ${#stages[@]} -gt 0 ] || stages=("${all_stages[@]}")
needed=()
for stage in "${stages[@]}"; do
  if [[ " ${all_stages[*]} " != *" $stage "* ]]; then
    echo "error: no stage \"$stage\"; there are: ${all_stages[*]}" >&2
    exit 2
  fi
  for package in $(packages "$stage"); do
    if [[ " ${needed[*]-} " != *" $package "* ]]; then needed+=("$package"); fi
  done
done
cmake/install-packages.sh "${needed[@]}" || exit 1

mkdir -p build/ci
passed=0
failed=0
for stage in "${stages[@]}"; do
  log=build/ci/$stage.log
  start=$SECONDS
  if "stage_$stage" >"$log" 2>&1; then
    verdict=ok
    passed=$((passed + 1))
  else
    verdict=FAILED
    failed=$((failed + 1))
  fi
  summary=$(grep -E '^[0-9]+% tests passed' "$log" | tail -n 1)
  printf '%-11s %-6s %4d s  %s\n' "$stage" "$verdict" $((SECONDS - start)) "$summary"
  if [ "$verdict" = FAILED ]; then
    echo "--- the end of $log"
    tail -n 200 "$log"
    echo "---"
  fi
done
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
