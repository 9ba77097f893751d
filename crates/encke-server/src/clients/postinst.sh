#!/bin/sh
# Registers this machine when dpkg was told how (ENCKE_INSTALL_TOKEN, or ENCKE_USER and ENCKE_PASSWORD), and runs the
# agent of a machine that is registered.
set -e

SERVER=@SERVER@
PRODUCT=@PRODUCT@

[ "$1" = configure ] || exit 0
# Installed for another system than this one.
[ -z "${DPKG_ROOT:-}" ] || exit 0
registered() {
  /usr/bin/encke agent status >/dev/null 2>&1
}
if ! registered; then
  if [ -n "${ENCKE_INSTALL_TOKEN:-}" ]; then
    /usr/bin/encke agent register --server "${ENCKE_SERVER:-$SERVER}"
  elif [ -n "${ENCKE_USER:-}" ] && [ -n "${ENCKE_PASSWORD:-}" ]; then
    /usr/bin/encke agent register --server "${ENCKE_SERVER:-$SERVER}" --user "$ENCKE_USER"
  else
    echo "Register this machine with $PRODUCT: encke agent register --user NAME && encke agent install"
  fi
fi
if registered; then
  /usr/bin/encke agent install --restart
fi
