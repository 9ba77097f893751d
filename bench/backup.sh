#!/usr/bin/env bash
# Measures encke, restic, rustic and Borg with the same folders, one after the other on the same disk: first backup,
# unchanged backup, backup after 1 % has changed, restore, check, check with data, prune. Prints a table for each folder.
#
# How to read it: a line for each step and tool. `wall` is seconds by the clock, `CPU` user and system seconds together,
# `memory` the largest resident set in MiB, and the ratios are that tool's wall and CPU divided by encke's: above 1 means
# encke needed less. `repository` is MiB on disk after all backups, before the prune. Each tool runs with its own usual
# compression (encke 4, restic and rustic auto, Borg zstd,3), encrypted. Prune runs after all snapshots but the newest are
# forgotten; Borg's is delete and compact, and encke's second phase, a day later, is measured with its first. Numbers of
# one run can be compared with each other, not with those of another machine; CPU is what other load disturbs least. Wait
# six minutes after many files were deleted on the same file system, as at the end of a run: until then ext4 keeps away from
# their inodes and looks for others one by one, which makes restores slow, the first one most.
set -euo pipefail
cd "$(dirname "$0")/.."

usage() {
    cat <<'TEXT'
usage: bench/backup.sh [--folder FOLDER]... [--full] [--rounds N] [--tools LIST] [--work FOLDER] [--keep]

  --folder FOLDER  measure this folder (it is only read; nothing is changed in it); may be given several times
  --full           the large data sets: small files (100,000, 1.5 GB), large files (4 GB, half of it incompressible), a
                   disk image (4 GB, half of it zeros); default: 20,000 files of 300 MB, 500 MB, 500 MB
  --only LIST      of the data sets, these: small,large,image
  --rounds N       repeat everything N times and keep each cell's best (default 1)
  --tools LIST     tools to measure (default: encke,restic,rustic,borg; those that can not be had are left out)
  --work FOLDER    where repositories and restored files go (default: a new folder under $TMPDIR)
  --keep           do not remove them

Environment: ENCKE (the program; default: target/release/encke, built if missing), RESTIC, RUSTIC, BORG (programs to
measure instead of those found or built), ENCKE_BENCH_CACHE (where rustic is built and Borg installed, once; default:
~/.cache/encke-bench).
TEXT
}

folders=() full= rounds=1 work= keep= tools=encke,restic,rustic,borg only=small,large,image
while [ $# -gt 0 ]; do
    case $1 in
    --folder) folders+=("$(realpath "$2")"); shift ;;
    --full) full=yes ;;
    --only) only=$2; shift ;;
    --rounds) rounds=$2; shift ;;
    --tools) tools=$2; shift ;;
    --work) work=$2; shift ;;
    --keep) keep=yes ;;
    -h | --help) usage; exit ;;
    *) usage >&2; exit 2 ;;
    esac
    shift
done
IFS=, read -r -a tools <<<"$tools"
wants() { [[ " ${tools[*]} " == *" $1 "* ]]; }
wants encke || { echo "encke is what the others are compared with: name it among the tools" >&2; exit 2; }

cache=${ENCKE_BENCH_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/encke-bench}
sudo=; [ "$(id -u)" = 0 ] || sudo=sudo
debian() { $sudo apt-get install -y -q "$@" >/dev/null 2>&1; }
leave_out() {
    echo "$1 is left out: $2" >&2
    local kept=() tool
    for tool in "${tools[@]}"; do [ "$tool" = "$1" ] || kept+=("$tool"); done
    tools=("${kept[@]}")
}

for pair in python3:python3 /usr/bin/time:time; do
    command -v "${pair%%:*}" >/dev/null || debian "${pair#*:}" || { echo "please install ${pair#*:}" >&2; exit 1; }
done
if wants restic; then
    RESTIC=${RESTIC:-$(command -v restic || { debian restic && command -v restic; } || true)}
    [ -n "$RESTIC" ] || leave_out restic "it is not installed and apt-get does not have it"
fi
if wants rustic; then
    RUSTIC=${RUSTIC:-$(command -v rustic || true)}
    if [ -z "$RUSTIC" ] && [ ! -x "$cache/rustic/bin/rustic" ]; then
        echo "building rustic from crates.io into $cache, once; this takes some minutes"
        mkdir -p "$cache"
        nice cargo install --quiet rustic-rs --locked --root "$cache/rustic" --target-dir "$cache/rustic-target" \
            >"$cache/rustic.log" 2>&1 && rm -rf "$cache/rustic-target" || true
    fi
    RUSTIC=${RUSTIC:-$cache/rustic/bin/rustic}
    [ -x "$RUSTIC" ] || leave_out rustic "it could not be built, see $cache/rustic.log"
fi
if wants borg; then
    # The newest from PyPI needs a compiler and headers; Debian's will do otherwise.
    if [ -z "${BORG:-}" ] && [ ! -x "$cache/borg/bin/borg" ]; then
        mkdir -p "$cache"
        debian python3-dev python3-venv pkg-config libacl1-dev libssl-dev liblz4-dev libzstd-dev libxxhash-dev || true
        { python3 -m venv "$cache/borg" && "$cache/borg/bin/pip" install -q 'borgbackup==1.*'; } >"$cache/borg.log" 2>&1 || true
    fi
    if [ -z "${BORG:-}" ]; then
        if [ -x "$cache/borg/bin/borg" ]; then BORG=$cache/borg/bin/borg; else
            BORG=$(command -v borg || { debian borgbackup && command -v borg; } || true)
        fi
    fi
    [ -n "$BORG" ] || leave_out borg "neither PyPI (see $cache/borg.log) nor apt-get has given it"
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

export ENCKE_VAULT_PASSWORD=bench RESTIC_PASSWORD=bench RUSTIC_PASSWORD=bench BORG_PASSPHRASE=bench
export BORG_BASE_DIR=$work/borg-base RESTIC_CACHE_DIR=$work/restic-cache RUSTIC_CACHE_DIR=$work/rustic-cache
export BORG_RELOCATED_REPO_ACCESS_IS_OK=yes ENCKE_LOG=warn

here=$PWD/bench
changeable=
if [ ${#folders[@]} -eq 0 ]; then
    changeable=yes
    sizes_small="20000 300" sizes_large=500 sizes_image=500
    [ -z "$full" ] || { sizes_small="100000 1500" sizes_large=4096 sizes_image=4096; }
    for set in ${only//,/ }; do
        size=sizes_$set
        [ -e "$work/data/$set" ] || python3 "$here/make_data.py" "$set" "$work/data/$set" ${!size}
        folders+=("$work/data/$set")
    done
fi

# One measured run: a line "wall cpu mebibytes" more in the cell's file.
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
    local folder=$1 round=$2 tool=$3 cells=$4 name=$5
    local repo=$work/repo-$tool-$name-$round target=$work/target-$tool-$name-$round
    mkdir -p "$target"
    local -a backup restore check data prune
    case $tool in
    encke)
        "$ENCKE" vault --repo "$repo" init >/dev/null
        backup=("$ENCKE" vault --repo "$repo" backup "$folder")
        restore=("$ENCKE" vault --repo "$repo" restore latest --target "$target")
        check=("$ENCKE" vault --repo "$repo" check)
        data=("${check[@]}" --read-data)
        # Both phases: to mark, and a day later to delete what was marked.
        prune=(bash -ec '"$0" vault --repo "$1" retention --keep last=1 --prune
            "$0" vault --repo "$1" prune --now "$(date -u -d "+25 hours" +%Y-%m-%dT%H:%M:%SZ)"' "$ENCKE" "$repo")
        ;;
    restic)
        "$RESTIC" -q -r "$repo" init >/dev/null
        backup=("$RESTIC" -q -r "$repo" backup "$folder")
        restore=("$RESTIC" -q -r "$repo" restore latest --target "$target")
        check=("$RESTIC" -q -r "$repo" check)
        data=("${check[@]}" --read-data)
        prune=("$RESTIC" -q -r "$repo" forget --keep-last 1 --prune)
        ;;
    rustic)
        local -a rustic=("$RUSTIC" --no-progress --log-level warn -r "$repo")
        "${rustic[@]}" init >"$work/out" 2>&1
        backup=("${rustic[@]}" backup "$folder")
        restore=("${rustic[@]}" restore latest "$target")
        check=("${rustic[@]}" check)
        data=("${check[@]}" --read-data)
        prune=("${rustic[@]}" forget --keep-last 1 --prune --instant-delete)
        ;;
    borg)
        "$BORG" init -e repokey-blake2 "$repo" 2>/dev/null
        backup=(bash -c 'exec "$0" create -C zstd,3 "$1::$(date +%s.%N)" "$2"' "$BORG" "$repo" "$folder")
        restore=(bash -c 'cd "$2" && exec "$0" extract "$1::$("$0" list --last 1 --short "$1")"' "$BORG" "$repo" "$target")
        check=("$BORG" check "$repo")
        data=("${check[@]}" --verify-data)
        prune=(bash -ec '"$0" prune --keep-last 1 "$1"; "$0" compact "$1"' "$BORG" "$repo")
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
    measure "$cells/data.$tool" "${data[@]}"
    du -sm "$repo" | cut -f1 >"$cells/size.$tool"
    measure "$cells/prune.$tool" "${prune[@]}"
    local restored=$target$folder
    [ -e "$restored" ] || restored=$target
    if ! diff -r "$folder" "$restored" >"$work/out" 2>&1; then
        echo "$tool did not restore what it was given:" >&2
        head -5 "$work/out" >&2
        exit 1
    fi
    # Room for the next one. What is restored stays until the end: for minutes after many files were deleted, ext4 takes
    # long to make new ones, which would be the next tool's loss.
    rm -rf "$repo"
    find "$target" -type f -size +16M -delete
}

label() {
    case $1 in
    first) echo 'first backup' ;; unchanged) echo unchanged ;; changed) echo '1 % changed' ;; restore) echo restore ;;
    check) echo check ;; data) echo 'check with data' ;; prune) echo prune ;;
    esac
}

for tool in "${tools[@]}"; do
    case $tool in
    encke) "$ENCKE" --version ;; restic) "$RESTIC" version ;; rustic) "$RUSTIC" --version ;; borg) "$BORG" --version ;;
    esac
done
for folder in "${folders[@]}"; do
    name=$(basename "$folder")
    cells=$work/cells-$name
    rm -rf "$cells"
    mkdir -p "$cells"
    # Into the page cache, for everybody alike.
    tar c "$folder" 2>/dev/null | cat >/dev/null
    for round in $(seq "$rounds"); do
        for tool in "${tools[@]}"; do
            one_round "$folder" "$round" "$tool" "$cells" "$name"
        done
    done
    printf '\n%s: %s files, %s MiB\n\n' "$folder" "$(find "$folder" -type f | wc -l)" "$(du -sm "$folder" | cut -f1)"
    printf '| %-15s | %-6s | %8s | %8s | %6s | %10s | %9s |\n' step tool wall CPU MiB 'wall ratio' 'CPU ratio'
    printf '| --------------- | ------ | -------: | -------: | -----: | ---------: | --------: |\n'
    for step in first unchanged changed restore check data prune; do
        [ -f "$cells/$step.encke" ] || continue
        read -r wall0 cpu0 _ <"$cells/$step.encke"
        for tool in "${tools[@]}"; do
            read -r wall cpu memory <"$cells/$step.$tool"
            ratios=$(awk -v w="$wall" -v w0="$wall0" -v c="$cpu" -v c0="$cpu0" \
                'BEGIN { printf "%.1f %.1f", w / (w0 > 0 ? w0 : 0.01), c / (c0 > 0 ? c0 : 0.01) }')
            printf '| %-15s | %-6s | %8s | %8s | %6s | %10s | %9s |\n' \
                "$(label $step)" "$tool" "$wall" "$cpu" "$memory" ${ratios}
        done
    done
    base=$(cat "$cells/size.encke")
    for tool in "${tools[@]}"; do
        size=$(cat "$cells/size.$tool")
        printf '| %-15s | %-6s | %8s | %8s | %6s | %10s | %9s |\n' 'repository, MiB' "$tool" "$size" '' '' \
            "$(awk -v a="$size" -v b="$base" 'BEGIN { printf "%.3f", a / b }')" ''
    done
done
