#!/usr/bin/env bash
# Installs the storage services that tests start on the loopback address, below the target folder, and prints the
# folder of their programs: moto (S3 with IAM, checks signatures and policies) and WsgiDAV (WebDAV).
set -euo pipefail
cd "$(dirname "$0")/.."
target="${CARGO_TARGET_DIR:-$PWD/target}"
packages=(moto==5.2.5 flask==3.1.3 flask-cors==6.0.5 PyYAML==6.0.4 py-partiql-parser==0.6.3 wsgidav==4.4.0 cheroot==11.1.2)

venv="$target/test-services"
mkdir -p "$target"
# Tests run in parallel.
exec 9>"$venv.lock"
flock 9
if [ "$(cat "$venv/packages" 2>/dev/null)" != "${packages[*]}" ]; then
  echo "Installing ${packages[*]} into $venv" >&2
  python3 -m venv --clear "$venv"
  "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-compile "${packages[@]}" >&2
  echo "${packages[*]}" >"$venv/packages"
fi
echo "$venv/bin"
