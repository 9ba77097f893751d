#!/usr/bin/env bash
# Installs what building or testing needs from the distribution's packages; looks first, and says what it does.
set -euo pipefail

case "${1:-}" in
  build) commands=(cc:gcc make:make) ;;
  test) commands=(cc:gcc make:make restic:restic borg:borgbackup curl:curl openssl:openssl jq:jq chromium:chromium setfattr:attr c++:g++ mariadbd:mariadb-server pg_ctlcluster:postgresql mariadb-install-db:mariadb-server setpriv:util-linux sshd:openssh-server ssh:openssh-client ip:iproute2 mkfs.btrfs:btrfs-progs lvcreate:lvm2 slapd:slapd smbd:samba pdftotext:poppler-utils python3:python3 strace:strace) ;;
  *) echo "usage: $0 build|test" >&2; exit 2 ;;
esac

missing=()
for pair in "${commands[@]}"; do
  command -v "${pair%%:*}" >/dev/null || missing+=("${pair##*:}")
done
# Debian keeps what makes Python environments apart, without a command of its own.
if [ "$1" = test ] && ! python3 -c 'import ensurepip, venv' 2>/dev/null; then missing+=(python3-venv); fi
for tool in cargo node npm; do
  command -v "$tool" >/dev/null || { echo "$tool is missing: install a Rust toolchain (1.91 or newer) and Node.js (20 or newer)" >&2; exit 1; }
done
[ ${#missing[@]} -eq 0 ] && exit 0

echo "Installing ${missing[*]} with apt-get"
root=()
[ "$(id -u)" -eq 0 ] || root=(sudo)
export DEBIAN_FRONTEND=noninteractive
"${root[@]}" apt-get update -qq
"${root[@]}" apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
