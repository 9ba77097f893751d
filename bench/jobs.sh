#!/usr/bin/env bash
# Measures the job calls of a server with very many jobs and log lines: how soon an answer begins, how long it takes, and
# how much memory the server needs for it.
#
# How to read it: `first byte` is when the answer begins, `seconds` when it has ended, each the median of the rounds;
# `peak` is the most resident memory of the process in MiB while the call runs: it must not follow the size of the answer.
# The last rows have clients that read slowly, and other calls beside them. The data of the default size takes about
# 10 GiB of disk and some minutes to make.
set -euo pipefail
cd "$(dirname "$0")/.."
usage() {
    cat <<'TEXT'
usage: bench/jobs.sh [--jobs N] [--lines N] [--accounts N] [--rounds N] [--data FOLDER]

  --jobs N       jobs (default 1000000)
  --lines N      log lines; a fiftieth of them are in one job (default 50000000)
  --accounts N   accounts that the jobs belong to (default 10000)
  --rounds N     how often each call is made (default 3)
  --data FOLDER  a data folder that is kept: filled if it does not exist, used again if it does

Environment: ENCKE (the program; default: target/release/encke, built if missing).
TEXT
}
jobs=1000000 lines=50000000 accounts=10000 rounds=3 data=
while [ $# -gt 0 ]; do
    case $1 in
    --jobs) jobs=$2 ;;
    --lines) lines=$2 ;;
    --accounts) accounts=$2 ;;
    --rounds) rounds=$2 ;;
    --data) data=$2 ;;
    -h | --help) usage; exit ;;
    *) usage >&2; exit 2 ;;
    esac
    shift 2
done
. bench/server.sh
need curl:curl python3:python3
build
workspace
data=${data:-$work/data}
if [ ! -d "$data" ]; then
    started=$(date +%s)
    furnish "$data" "$accounts" "$jobs" "$lines"
    echo "filled in $(($(date +%s) - started)) s" >&2
fi
launch "$ENCKE" serve --listen 127.0.0.1:0 --data-dir "$data"
printf '%s jobs of %s accounts, %s log lines; %s MiB on disk.\n\n' "$jobs" "$accounts" "$lines" \
    "$(du -sm "$data" | cut -f1)"
python3 bench/jobs.py "$url" "$pid" "$ADMIN" "$rounds" "$jobs"
