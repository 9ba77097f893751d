#!/usr/bin/env bash
# Installs the services that tests start on the loopback address, below the target folder, and prints the
# folder of their programs: moto (S3 with IAM, checks signatures and policies), WsgiDAV (WebDAV), pyftpdlib (FTP),
# AsyncSSH (SFTP with passwords), OpenStack Swift and Keystone, the simulator of Backblaze's own library (B2), Azurite
# (Azure Blob Storage), oidc-provider (OpenID
# Connect) and aiosmtpd (SMTP).
set -euo pipefail
cd "$(dirname "$0")/.."
target="${CARGO_TARGET_DIR:-$PWD/target}"
packages=(moto==5.2.5 flask==3.1.3 flask-cors==6.0.5 PyYAML==6.0.4 py-partiql-parser==0.6.3 wsgidav==4.4.0 cheroot==11.1.2 pyftpdlib==2.2.0 pyOpenSSL==26.4.0
  swift==2.38.3 keystone==30.0.0 keystonemiddleware==13.0.1 b2sdk==2.13.2 asyncssh==2.24.1 aiosmtpd==1.4.6)
modules=(azurite@3.35.0 oidc-provider@9.13.3)

venv="$target/test-services"
mkdir -p "$target"
# Tests run in parallel.
exec 9>"$venv.lock"
flock 9
if [ "$(cat "$venv/packages" 2>/dev/null)" != "${packages[*]} ${modules[*]}" ]; then
  echo "Installing ${packages[*]} ${modules[*]} into $venv" >&2
  rm -f "$venv/packages"
  python3 -m venv --clear "$venv"
  "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-compile "${packages[@]}" >&2
  npm install --silent --no-audit --no-fund --no-save --ignore-scripts --prefix "$venv" "${modules[@]}" >&2
  echo "${packages[*]} ${modules[*]}" >"$venv/packages"
fi
echo "$venv/bin"
