#!/usr/bin/env bash
# Measures API calls with password authentication as a share of the same HTTP stack answering the same bytes as a
# constant; then a server with many accounts: all profiles in one call, and the start.
#
# How to read it: `share` is requests a second of the call divided by those of the constant; both are the best of the
# rounds, taken in turns, with the server on one core and wrk on another where there are two. Memory is the process's
# peak resident set in MiB while the call runs, beside what it was before. Numbers of one run can be compared with each
# other, not with those of another machine.
set -euo pipefail
cd "$(dirname "$0")/.."
usage() {
    cat <<'TEXT'
usage: bench/api.sh [--seconds N] [--rounds N] [--accounts N]

  --seconds N   how long each measurement runs (default 5)
  --rounds N    how often (default 3)
  --accounts N  accounts of the second part (default 10000)

Environment: ENCKE (the program; default: target/release/encke, built if missing).
TEXT
}
seconds=5 rounds=3 accounts=10000
while [ $# -gt 0 ]; do
    case $1 in
    --seconds) seconds=$2 ;;
    --rounds) rounds=$2 ;;
    --accounts) accounts=$2 ;;
    -h | --help) usage; exit ;;
    *) usage >&2; exit 2 ;;
    esac
    shift 2
done
. bench/server.sh
need wrk:wrk curl:curl python3:python3
build
workspace
here=() there=()
if [ "$(nproc)" -ge 2 ]; then here=(taskset -c 0) there=(taskset -c 1); fi

measure() { # url, body: requests a second, bytes, 99th percentile in milliseconds
    BODY=$2 "${there[@]}" wrk -t1 -c16 -d"${seconds}s" -s bench/post.lua "$1" | awk '/^RESULT/ {
        if ($5 > 0) { print "errors while measuring" > "/dev/stderr"; exit 1 } print $2, $3, $4 }'
}

furnish "$work/small" 100 1000 1000 2>/dev/null
launch "${here[@]}" "$ENCKE" serve --listen 127.0.0.1:0 --data-dir "$work/small"
server=$url
printf 'A server with 101 accounts and 1,000 jobs, no device on line; 16 connections, %s s a measurement, best of %s.\n\n' \
    "$seconds" "$rounds"
echo '| call | answer, bytes | calls/s | p99, ms | constant/s | share |'
echo '| --- | ---: | ---: | ---: | ---: | ---: |'
for call in list-users get-user-profile:TargetUser=account-00042 dispatcher/list-active get-jobs-recent; do
    path=/api/v1/admin/${call%%:*}
    body=$ADMIN
    [ "$call" = "${call%%:*}" ] || body="$ADMIN&${call#*:}"
    curl -sS -d "$body" "$server$path" >"$work/answer"
    if grep -q '^{"Status":[45]' "$work/answer"; then
        echo "$path answers $(cat "$work/answer")" >&2
        exit 1
    fi
    launch "${here[@]}" "$CONSTANT" "$work/answer"
    best=0 constant=0 bytes=0 p99=0
    for _ in $(seq "$rounds"); do
        read -r rate size slow < <(measure "$server$path" "$body")
        [ "$rate" -le "$best" ] || { best=$rate bytes=$size p99=$slow; }
        read -r rate _ _ < <(measure "$url$path" "$body")
        [ "$rate" -le "$constant" ] || constant=$rate
    done
    stop
    # What was measured is the answer and not an error of another length.
    length=$(stat -c %s "$work/answer")
    if [ "$bytes" -lt "$length" ] || [ "$bytes" -gt $((length + 4096 + length / 10)) ]; then
        echo "$path answered $bytes bytes instead of $length" >&2
        exit 1
    fi
    printf '| %s | %s | %s | %s | %s | %s %% |\n' "${call%%:*}" "$length" "$best" "$p99" "$constant" \
        $((100 * best / constant))
done
kill "${pids[@]}" 2>/dev/null || true
wait 2>/dev/null || true

printf '\nA server with %s accounts.\n\n' "$accounts"
furnish "$work/large" "$accounts" 0 0 2>/dev/null
launch "$ENCKE" serve --listen 127.0.0.1:0 --data-dir "$work/large"
post /api/v1/admin/list-users >/dev/null
echo '| list-users-full | seconds | MiB | MiB/s | first byte, ms | memory before | peak |'
echo '| --- | ---: | ---: | ---: | ---: | ---: | ---: |'
for at_once in 1 4; do
    forget_peak
    before=$(mebibytes VmRSS)
    calls=()
    started=$(date +%s.%N)
    for n in $(seq "$at_once"); do
        post /api/v1/admin/list-users-full -o /dev/null -w '%{size_download} %{time_starttransfer}\n' >"$work/call-$n" &
        calls+=($!)
    done
    wait "${calls[@]}"
    ended=$(date +%s.%N)
    cat "$work"/call-* | awk -v s="$started" -v e="$ended" -v n="$at_once" -v b="$before" -v p="$(mebibytes VmHWM)" '
        { bytes += $1; if ($2 > first) first = $2 }
        END { printf "| %d at once | %.2f | %.0f | %.0f | %.0f | %d | %d |\n", n, e - s, bytes / 1048576,
              bytes / 1048576 / (e - s), first * 1000, b, p }'
done
stop

echo
python3 - "$ENCKE" "$work/large" "$ADMIN" <<'PY'
import http.client, json, statistics, subprocess, sys, time

program, folder, form = sys.argv[1:]


def start():
    began = time.monotonic()
    server = subprocess.Popen(
        [program, "serve", "--listen", "127.0.0.1:0", "--data-dir", folder],
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    )
    try:
        address = server.stdout.readline().split("//")[1].strip().strip("/")
        times = []
        for path, body in (("/gen/branding.props", None), ("/api/v1/admin/meta/version", form)):
            connection = http.client.HTTPConnection(address)
            headers = {"Content-Type": "application/x-www-form-urlencoded"}
            connection.request("POST" if body else "GET", path, body, headers)
            answer = json.load(connection.getresponse())
            assert "Status" not in answer, answer
            times.append((time.monotonic() - began) * 1000)
        return times
    finally:
        server.terminate()
        server.wait()


start()
rounds = [start() for _ in range(7)]
first, signed_in = (statistics.median(r[n] for r in rounds) for n in (0, 1))
print("| start | ms, median of 7 |\n| --- | ---: |")
print(f"| to the first answer | {first:.0f} |\n| to the first answer with a password | {signed_in:.0f} |")
PY
