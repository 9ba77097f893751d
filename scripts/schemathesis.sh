#!/usr/bin/env bash
# Lets schemathesis call a real server with what its OpenAPI document allows and with what it does not: no call may end
# in an internal error, break the connection or hang, answers are what the document says, and the supported calls must
# have been tried past the door. Left out are only the calls that end the process or replace its whole configuration.
#
# usage: scripts/schemathesis.sh [SEED]    (ENCKE_BIN: the program; default target/release/encke)
set -euo pipefail
cd "$(dirname "$0")/.."
target="${CARGO_TARGET_DIR:-$PWD/target}"
program="${ENCKE_BIN:-$target/release/encke}"
version=4.32.5
# Seconds: schemathesis stops by itself after the first; the second is for a run that does not.
budget=60
limit=85

venv="$target/schemathesis"
if [ "$(cat "$venv/version" 2>/dev/null)" != "$version" ]; then
  echo "Installing schemathesis $version into $venv"
  python3 -m venv --clear "$venv"
  "$venv/bin/python" -m pip install --quiet --disable-pip-version-check "schemathesis==$version"
  echo "$version" >"$venv/version"
fi

work=$(mktemp -d -t encke-schemathesis.XXXXXX)
server=
finish() {
  [ -z "$server" ] || kill "$server" 2>/dev/null || true
  rm -rf "$work"
}
trap finish EXIT
program=$(realpath "$program")
: >"$work/out"
# In a folder of its own: a call may name one to write into.
(cd "$work" && exec "$program" serve --listen 127.0.0.1:0 --data-dir "$work/data" >"$work/out" 2>"$work/log") &
server=$!
url=
for _ in $(seq 100); do
  url=$(sed -n 's|^Encke listens at \(http://[^/]*\).*|\1|p' "$work/out")
  [ -z "$url" ] || break
  sleep 0.1
done
[ -n "$url" ] || { echo "the server did not start:"; cat "$work/log"; exit 1; }

export SCHEMATHESIS_HOOKS=schemathesis_hooks PYTHONPATH="$PWD/scripts" PYTHONDONTWRITEBYTECODE=1
export ENCKE_URL="$url" ENCKE_WORK="$work"
python3 scripts/schemathesis_hooks.py prepare
status=0
(cd "$work" && timeout "$limit" "$venv/bin/schemathesis" run "$url/docs/openapi.json" --url "$url" \
  --checks not_a_server_error,no_internal_error,response_schema_conformance,content_type_conformance --phases coverage,fuzzing --workers 2 \
  --max-time "$budget" --request-timeout 10 --continue-on-failure --no-color --warnings off \
  --suppress-health-check all --generation-database none ${1:+--seed "$1"} \
  --include-by '/x-encke-support == "supported"' \
  --exclude-path /api/v1/admin/meta/shutdown-service \
  --exclude-path /api/v1/admin/meta/restart-service \
  --exclude-path /api/v1/admin/meta/server-config/set) || status=$?
if [ "$status" -ne 0 ]; then
  echo "schemathesis failed with status $status (124: it hung); the end of the server's log:"
  tail -n 20 "$work/log"
  exit "$status"
fi
kill -0 "$server" || { echo "the server has ended:"; tail -n 20 "$work/log"; exit 1; }
python3 scripts/schemathesis_hooks.py judge
