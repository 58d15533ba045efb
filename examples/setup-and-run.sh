#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# From a bare Debian 12 or Ubuntu 24.04 to text: installs what is missing, builds the `rwkv` tool,
# and hands the arguments to `rwkv generate`. Only the text goes to standard output.
#
#   examples/setup-and-run.sh                                    the story teller that comes with the library
#   examples/setup-and-run.sh [MODEL] --prompt "Once upon a time" [option of rwkv generate]...
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
build=$root/build/run
log=$build/setup.log

mkdir -p "$build"
"$root/cmake/install-packages.sh" g++ make cmake libeigen3-dev libxsimd-dev nlohmann-json3-dev \
  libcli11-dev

if ! [ -x "$build/examples/rwkv" ]; then echo "Building the rwkv tool (a minute or two)" >&2; fi
if ! { cmake -S "$root" -B "$build" -DRWKV_BUILD_TESTS=OFF -DRWKV_BUILD_BENCH=OFF &&
  cmake --build "$build" --target rwkv_tool --parallel "$(nproc)"; } >"$log" 2>&1; then
  cat "$log" >&2
  exit 1
fi
exec "$build/examples/rwkv" generate "$@"
