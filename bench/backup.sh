#!/usr/bin/env bash
# Measures first backup, unchanged backup, backup after a small change, restore and check of the same folder by encke,
# restic and Borg, one after the other on the same disk, and prints a table for each folder.
#
# How to read it: `time` is wall-clock seconds, `CPU` user and system seconds together, `memory` the largest resident set
# in MiB, `ratio` the time of that tool divided by encke's: above 1 means encke was faster. `repository` is MiB on disk
# after all backups. Each tool runs with its own usual compression (encke 4, restic auto, Borg zstd,3), encrypted. Numbers
# of one run can be compared with each other, not with those of another machine.
set -euo pipefail
cd "$(dirname "$0")/.."

usage() {
    cat <<'TEXT'
usage: bench/backup.sh [--folder FOLDER]... [--full] [--rounds N] [--work FOLDER] [--keep]

  --folder FOLDER  measure this folder (it is only read; no small change is made); may be given several times
  --full           the large data sets: 100,000 small files of 1.5 GB; 4 GB in two files
                   (default: 20,000 files of 300 MB; 500 MB in two files)
  --rounds N       repeat everything N times and keep each cell's best (default 1)
  --work FOLDER    where repositories and restored files go (default: a new folder under $TMPDIR)
  --keep           do not remove them

Environment: ENCKE (the program; default: target/release/encke, built if missing).
TEXT
}

folders=() full= rounds=1 work= keep=
while [ $# -gt 0 ]; do
    case $1 in
    --folder) folders+=("$(realpath "$2")"); shift ;;
    --full) full=yes ;;
    --rounds) rounds=$2; shift ;;
    --work) work=$2; shift ;;
    --keep) keep=yes ;;
    -h | --help) usage; exit ;;
    *) usage >&2; exit 2 ;;
    esac
    shift
done

missing=()
for pair in restic:restic borg:borgbackup python3:python3; do
    command -v "${pair%%:*}" >/dev/null || missing+=("${pair#*:}")
done
[ -x /usr/bin/time ] || missing+=(time)
if [ ${#missing[@]} -gt 0 ]; then
    echo "installing ${missing[*]} with apt-get"
    sudo=; [ "$(id -u)" = 0 ] || sudo=sudo
    $sudo apt-get install -y -q "${missing[@]}" >/dev/null || {
        echo "please install: ${missing[*]}" >&2
        exit 1
    }
fi
ENCKE=${ENCKE:-${CARGO_TARGET_DIR:-target}/release/encke}
if [ ! -x "$ENCKE" ]; then
    echo "building encke"
    cargo build --release --locked -p encke
fi
ENCKE=$(realpath "$ENCKE")

work=${work:-$(mktemp -d -t encke-bench.XXXXXX)}
mkdir -p "$work"
work=$(realpath "$work")
[ -n "$keep" ] || trap 'chmod -R u+rwX "$work" 2>/dev/null; rm -rf "$work"' EXIT

export ENCKE_VAULT_PASSWORD=bench RESTIC_PASSWORD=bench BORG_PASSPHRASE=bench
export BORG_BASE_DIR=$work/borg-base RESTIC_CACHE_DIR=$work/restic-cache
export BORG_RELOCATED_REPO_ACCESS_IS_OK=yes ENCKE_LOG=warn

here=$PWD/bench
changeable=
if [ ${#folders[@]} -eq 0 ]; then
    changeable=yes
    if [ -n "$full" ]; then
        python3 "$here/make_data.py" small "$work/data/small" 100000 1500
        python3 "$here/make_data.py" large "$work/data/large" 4096
    else
        python3 "$here/make_data.py" small "$work/data/small" 20000 300
        python3 "$here/make_data.py" large "$work/data/large" 500
    fi
    folders=("$work/data/small" "$work/data/large")
fi

# One measured run: result file gets "seconds cpu mebibytes", the best of the rounds.
measure() {
    local cell=$1
    shift
    # What the run before has left to write is not this run's business.
    sync
    if ! /usr/bin/time -o "$work/time" -f '%e %U %S %M' "$@" >"$work/out" 2>&1; then
        echo "failed: $*" >&2
        tail -5 "$work/out" >&2
        exit 1
    fi
    awk '{ printf "%.2f %.2f %.0f\n", $1, $2 + $3, $4 / 1024 }' "$work/time" >>"$cell"
    sort -n -o "$cell" "$cell"
}

one_round() {
    local folder=$1 round=$2 tool=$3 cells=$4
    local repo=$work/repo-$tool-$round target=$work/target-$tool-$round
    rm -rf "$repo" "$target"
    mkdir -p "$target"
    local -a backup restore check
    case $tool in
    encke)
        "$ENCKE" vault --repo "$repo" init >/dev/null
        backup=("$ENCKE" vault --repo "$repo" backup "$folder")
        restore=("$ENCKE" vault --repo "$repo" restore latest --target "$target")
        check=("$ENCKE" vault --repo "$repo" check --read-data)
        ;;
    restic)
        restic -q -r "$repo" init >/dev/null
        backup=(restic -q -r "$repo" backup "$folder")
        restore=(restic -q -r "$repo" restore latest --target "$target")
        check=(restic -q -r "$repo" check --read-data)
        ;;
    borg)
        borg init -e repokey-blake2 "$repo" 2>/dev/null
        backup=(bash -c 'exec borg create -C zstd,3 "$0::$(date +%s.%N)" "$1"' "$repo" "$folder")
        restore=(bash -c 'cd "$1" && exec borg extract "$0::$(borg list --last 1 --short "$0")"' "$repo" "$target")
        check=(borg check --verify-data "$repo")
        ;;
    esac
    measure "$cells/first.$tool" "${backup[@]}"
    measure "$cells/unchanged.$tool" "${backup[@]}"
    if [ -n "$changeable" ]; then
        python3 "$here/make_data.py" change "$folder"
        measure "$cells/changed.$tool" "${backup[@]}"
    fi
    measure "$cells/restore.$tool" "${restore[@]}"
    measure "$cells/check.$tool" "${check[@]}"
    if ! diff -r "$folder" "$target$folder" >"$work/out" 2>&1; then
        echo "$tool did not restore what it was given:" >&2
        head -5 "$work/out" >&2
        exit 1
    fi
    du -sm "$repo" | cut -f1 >"$cells/size.$tool"
}

tools=(encke restic borg)
for folder in "${folders[@]}"; do
    name=$(basename "$folder")
    cells=$work/cells-$name
    mkdir -p "$cells"
    # Into the page cache, for everybody alike.
    tar c "$folder" 2>/dev/null | cat >/dev/null
    for round in $(seq "$rounds"); do
        for tool in "${tools[@]}"; do
            one_round "$folder" "$round" "$tool" "$cells"
        done
    done
    printf '\n%s: %s files, %s MiB\n\n' "$folder" "$(find "$folder" -type f | wc -l)" "$(du -sm "$folder" | cut -f1)"
    printf '| %-16s |' 'step'
    for tool in "${tools[@]}"; do printf ' %-8s %7s %7s %6s |' "$tool" CPU memory ratio; done
    printf '\n| ---------------- |'
    for tool in "${tools[@]}"; do printf ' ------------------------------- |'; done
    printf '\n'
    for step in first unchanged changed restore check; do
        [ -f "$cells/$step.encke" ] || continue
        case $step in
        first) label='first backup' ;; unchanged) label=unchanged ;; changed) label='1 % changed' ;;
        restore) label=restore ;; check) label='check with data' ;;
        esac
        read -r base _ _ <"$cells/$step.encke"
        printf '| %-16s |' "$label"
        for tool in "${tools[@]}"; do
            read -r seconds cpu memory <"$cells/$step.$tool"
            ratio=$(awk -v a="$seconds" -v b="$base" 'BEGIN { printf "%.1f", a / (b > 0 ? b : 0.01) }')
            printf ' %7.2fs %6.2fs %4sMiB %6s |' "$seconds" "$cpu" "$memory" "$ratio"
        done
        printf '\n'
    done
    printf '| %-16s |' repository
    for tool in "${tools[@]}"; do printf ' %4s MiB %22s |' "$(cat "$cells/size.$tool")" ''; done
    printf '\n'
done
