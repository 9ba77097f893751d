#!/usr/bin/env bash
# Pages of a report against Datasette and ROAPI serving the same rows on this machine, in one run.
#
#   bench/reports.sh [rows, default 1000000] [seconds of each measurement, default 5]
#
# Each serves pages of 1,000 rows as JSON: the first, the middle and the last. wrk asks over 4 connections. Datasette
# pages by row key from an SQLite file, ROAPI by offset from a Parquet file it holds in memory, Encke from its snapshot.
# PostgREST pages by offset from PostgreSQL where both are installed; neither Debian nor the registries of packages have
# it, so put its program into the PATH (github.com/PostgREST/postgrest) and name an empty database in DATABASE.
# How to read it: calls a second (more is better), the middle and the slowest hundredth of the latencies in
# milliseconds, resident memory after the run in MiB; "ratio" is Encke's calls a second over the peer's on the same page.
# Ten million rows need about 12 GB of disk, which are given back at the end.
set -euo pipefail
cd "$(dirname "$0")/.."
rows=${1:-1000000}
seconds=${2:-5}
encke=${CARGO_TARGET_DIR:-$PWD/target}/release/encke
[ -x "$encke" ] || { echo "build first: make build" >&2; exit 1; }
for tool in wrk curl jq python3; do command -v $tool >/dev/null || { echo "$tool is missing" >&2; exit 1; }; done

work=$(mktemp -d)
pids=()
cleanup() { for p in "${pids[@]}"; do kill "$p" 2>/dev/null || true; done; wait 2>/dev/null || true; rm -rf "$work"; }
trap cleanup EXIT

echo "preparing Datasette and ROAPI"
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q --disable-pip-version-check datasette roapi setuptools

free_port() { python3 -c 'import socket; s=socket.socket(); s.bind(("127.0.0.1",0)); print(s.getsockname()[1])'; }
wait_for() { for _ in $(seq 600); do curl -sf -o /dev/null "$1" && return; sleep 0.2; done; echo "$1 does not answer" >&2; exit 1; }
memory() { awk '/VmRSS/ {printf "%d", $2 / 1024}' "/proc/$1/status"; }

# Encke. The limit of calls is for the public; here the server shall be the limit.
ENCKE_REPORT_CALLS_A_SECOND=1000000 "$encke" serve --listen 127.0.0.1:0 --data-dir "$work/data" >"$work/encke.log" 2>&1 &
ours=$!; pids+=($ours)
for _ in $(seq 100); do url=$(sed -n 's|^Encke listens at \(.*\)/$|\1|p' "$work/encke.log"); [ -n "$url" ] && break; sleep 0.1; done
curl -sf "$url/api/v1/admin/add-first-admin-user" -d 'TargetUser=admin&TargetPassword=long enough' >/dev/null
login='Username=admin&AuthType=Password&Password=long enough'
saved=$(curl -sf "$url/api/encke/v1/reports/save-sample" -d "$login&Size=$rows&Seed=1")
code=$(jq -r .APICode <<<"$saved"); id=$(jq -r .ReportID <<<"$saved")
page() { echo "$url/data-backend/api/public/areports/run/$1/1000/?API_KEY=$code"; }
begin=$(date +%s.%N)
curl -sf -o /dev/null "$(page 0)"
echo "snapshot of $rows rows: $(python3 -c "import time; print(round(time.time() - $begin, 1))") s," \
  "$(du -sm "$work/data/reports" | cut -f1) MB; server's memory after it: $(memory $ours) MiB"

echo "copying the rows to the peers"
"$encke" report pull "$(page 0)" --into "$work/data.db" --quiet
# Datasette pages by an integer key only where the table says that it is one.
python3 - "$work/data.db" <<'PY'
import re, sqlite3, sys
db = sqlite3.connect(sys.argv[1])
(made,) = db.execute("SELECT sql FROM sqlite_master WHERE name = 'report'").fetchone()
db.execute(re.sub('"uid"( NUMERIC)? PRIMARY KEY', '"uid" INTEGER PRIMARY KEY', made).replace('"report"', '"pages"', 1))
db.execute("INSERT INTO pages SELECT * FROM report")
db.execute("DROP TABLE report")
db.commit()
db.execute("VACUUM")
PY
curl -sf "$url/api/encke/v1/reports/export" -d "$login&ReportID=$id&Format=parquet" -o "$work/report.parquet"

dport=$(free_port)
"$work/venv/bin/datasette" serve -p "$dport" --setting max_returned_rows 1000 --setting num_sql_threads 4 --setting cache_size_kb 20000 \
  "$work/data.db" >"$work/datasette.log" 2>&1 &
datasette=$!; pids+=($datasette)
rport=$(free_port)
"$work/venv/bin/roapi" --addr-http "127.0.0.1:$rport" --table "report=$work/report.parquet" >"$work/roapi.log" 2>&1 &
roapi=$!; pids+=($roapi)
wait_for "http://127.0.0.1:$dport/data.json"
wait_for "http://127.0.0.1:$rport/api/tables/report?limit=1"

servers=(Encke Datasette ROAPI)
if command -v postgrest >/dev/null && [ -n "${DATABASE:-}" ]; then
  pport=$(free_port)
  "$encke" report pull "$(page 0)" --into "$DATABASE" --quiet
  PGRST_DB_URI=$DATABASE PGRST_DB_ANON_ROLE=$(psql -qAt "$DATABASE" -c 'SELECT current_user') PGRST_SERVER_HOST=127.0.0.1 \
    PGRST_SERVER_PORT=$pport postgrest >"$work/postgrest.log" 2>&1 &
  postgrest=$!; pids+=($postgrest)
  wait_for "http://127.0.0.1:$pport/report?limit=1"
  servers+=(PostgREST)
else
  echo "PostgREST is not installed, or DATABASE names none: left out"
fi

last=$(((rows + 999) / 1000 - 1)); middle=$((last / 2))
# Rows before each page; a row's key is 500,000 and its number.
peer() {
  case $1 in
    Encke) page "$2" ;;
    Datasette) echo "http://127.0.0.1:$dport/data/pages.json?_size=1000&_shape=objects&_nocount=1&_next=$((500000 + $2 * 1000))" ;;
    PostgREST) echo "http://127.0.0.1:$pport/report?order=uid&limit=1000&offset=$(($2 * 1000))" ;;
    ROAPI) echo "http://127.0.0.1:$rport/api/tables/report?limit=1000&offset=$(($2 * 1000))" ;;
  esac
}
printf '%-10s %-7s %12s %10s %10s %8s\n' server page 'calls/s' 'p50 ms' 'p99 ms' ratio
declare -A best
for where in first:0 middle:$middle last:$last; do
  for server in "${servers[@]}"; do
    address=$(peer $server "${where#*:}")
    got=$(curl -sf "$address" | jq 'if type == "array" then length elif .results then (.results | length) else (.rows | length) end')
    [ "$got" -gt 0 ] || { echo "$server answers no rows: $address" >&2; exit 1; }
    out=$(wrk -t1 -c4 -d"${seconds}s" --latency --timeout 30s "$address")
    grep -q 'Non-2xx' <<<"$out" && { echo "$server refuses calls" >&2; exit 1; }
    calls=$(awk '/Requests\/sec/ {print $2}' <<<"$out")
    at() { awk -v at=" $1%" 'index($0, at) {v = $2; if (v ~ /us$/) printf "%.2f", v / 1000; else if (v ~ /ms$/) printf "%.2f", v; else printf "%.2f", v * 1000}' <<<"$out"; }
    [ $server = Encke ] && best[${where%%:*}]=$calls
    ratio=$(awk -v a="${best[${where%%:*}]}" -v b="$calls" 'BEGIN { if (b > 0) printf "%.1f", a / b; else print "-" }')
    printf '%-10s %-7s %12s %10s %10s %8s\n' $server "${where%%:*}" "$calls" "$(at 50)" "$(at 99)" "$ratio"
  done
done
echo "memory afterwards in MiB: Encke $(memory $ours), Datasette $(memory $datasette), ROAPI $(memory $roapi)${postgrest:+, PostgREST $(memory "$postgrest")}"
