#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# install-packages.sh <package>...: installs what is missing on Debian or Ubuntu; says so only if
# there is something to do. Elsewhere it leaves the packages to you.
set -euo pipefail

if ! command -v dpkg-query >/dev/null; then
  echo "Not a Debian or Ubuntu system; expecting the equivalents of: $*" >&2
  exit 0
fi

missing=()
for package in "$@"; do
  status=$(dpkg-query -W -f='${db:Status-Status}' "$package" 2>/dev/null) || true
  [ "$status" = installed ] || missing+=("$package")
done
[ ${#missing[@]} -gt 0 ] || exit 0

as_root=()
if [ "$(id -u)" -ne 0 ]; then
  if ! command -v sudo >/dev/null; then
    echo "error: not root and no sudo; please install: ${missing[*]}" >&2
    exit 1
  fi
  as_root=(sudo)
fi
apt_get=("${as_root[@]}" env DEBIAN_FRONTEND=noninteractive
  apt-get -qq -y -o DPkg::Lock::Timeout=600)

echo "Installing ${missing[*]}" >&2
log=$(mktemp)
trap 'rm -f "$log"' EXIT
if ! { "${apt_get[@]}" update &&
  "${apt_get[@]}" install --no-install-recommends "${missing[@]}"; } >"$log" 2>&1 </dev/null; then
  cat "$log" >&2
  exit 1
fi
