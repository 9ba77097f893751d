#!/usr/bin/env bash
# Builds, checks or photographs the web console; installs its packages when the lock file has changed.
set -euo pipefail
cd "$(dirname "$0")/../web"

stamp=node_modules/.installed
if [ ! -f "$stamp" ] || [ package-lock.json -nt "$stamp" ]; then
  echo "Installing the web console's packages"
  npm ci --no-audit --no-fund --silent
  touch "$stamp"
fi
case "${1:-}" in
  build) npm run --silent build ;;
  check) npm run --silent check ;;
  browser) npm run --silent test:browser ;;
  screenshots) npm run --silent screenshots -- "${@:2}" ;;
  *) echo "usage: $0 build|check|browser|screenshots FOLDER [LOOK...]" >&2; exit 2 ;;
esac
