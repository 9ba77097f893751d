#!/usr/bin/env bash
# Installs the storage services that tests start on the loopback address, below the target folder, and prints the
# folder of their programs: moto (S3 with IAM, checks signatures and policies), WsgiDAV (WebDAV), pyftpdlib (FTP),
# Azurite (Azure Blob Storage) and aiosmtpd (SMTP).
set -euo pipefail
cd "$(dirname "$0")/.."
target="${CARGO_TARGET_DIR:-$PWD/target}"
packages=(moto==5.2.5 flask==3.1.3 flask-cors==6.0.5 PyYAML==6.0.4 py-partiql-parser==0.6.3 wsgidav==4.4.0 cheroot==11.1.2 pyftpdlib==2.2.0 pyOpenSSL==26.0.0 aiosmtpd==1.4.6)
azurite=azurite@3.35.0

venv="$target/test-services"
mkdir -p "$target"
# Tests run in parallel.
exec 9>"$venv.lock"
flock 9
if [ "$(cat "$venv/packages" 2>/dev/null)" != "${packages[*]} $azurite" ]; then
  echo "Installing ${packages[*]} $azurite into $venv" >&2
  rm -f "$venv/packages"
  python3 -m venv --clear "$venv"
  "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-compile "${packages[@]}" >&2
  npm install --silent --no-audit --no-fund --no-save --ignore-scripts --prefix "$venv" "$azurite" >&2
  echo "${packages[*]} $azurite" >"$venv/packages"
fi
echo "$venv/bin"
