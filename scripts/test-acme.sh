#!/usr/bin/env bash
# Installs an authority that certifies by itself (pebble) with its DNS server, below the target folder, and prints the
# folder of its programs. Where there is no Go toolchain it prints nothing.
set -euo pipefail
cd "$(dirname "$0")/.."
command -v go >/dev/null || exit 0
target="${CARGO_TARGET_DIR:-$PWD/target}"
version=v2.10.3
folder="$target/test-acme"
mkdir -p "$target"
# Tests run in parallel.
exec 9>"$folder.lock"
flock 9
if [ "$(cat "$folder/version" 2>/dev/null)" != "$version" ]; then
  echo "Installing pebble $version into $folder" >&2
  mkdir -p "$folder"
  for name in pebble pebble-challtestsrv; do
    GOBIN="$folder" go install "github.com/letsencrypt/pebble/v2/cmd/$name@$version" >&2
  done
  echo "$version" >"$folder/version"
fi
echo "$folder"
