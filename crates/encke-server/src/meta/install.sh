#!/bin/sh
# Installs the backup agent on this machine, registers it, and keeps it running as a service.
#   curl -fsSL SERVER/gen/install.sh | sudo sh -s -- SERVER TOKEN
# Without a token the machine waits in the server's lobby. ENCKE_PROGRAM: where the program goes.
# ENCKE_SERVICE=no: only register.
set -eu

fail() {
  echo "$*" >&2
  exit 1
}

server=${1:?the address of the server}
server=${server%/}
token=${2:-}
program=${ENCKE_PROGRAM:-/usr/local/bin/encke}

[ "$(uname -s) $(uname -m)" = '{system} {machine}' ] ||
  fail "The program of this server is for {system} on {machine}, and this is $(uname -s) on $(uname -m)."
[ -w "$(dirname "$program")" ] || fail "Can not write $program: run this as root, or set ENCKE_PROGRAM."

new=$(mktemp "$program.XXXXXX")
trap 'rm -f "$new"' EXIT
if command -v curl >/dev/null; then
  curl -fsSL "$server/gen/encke" -o "$new"
else
  wget -qO "$new" "$server/gen/encke"
fi
echo "{sha256}  $new" | sha256sum --check --status || fail 'The program did not arrive whole. Try again.'
chmod 755 "$new"
mv "$new" "$program"
echo "installed $program"

if [ -n "$token" ]; then
  ENCKE_INSTALL_TOKEN=$token "$program" agent register --server "$server"
  [ "${ENCKE_SERVICE:-}" = no ] || "$program" agent install
else
  echo 'waiting in the lobby of the server'
  exec "$program" agent lobby --server "$server"
fi
