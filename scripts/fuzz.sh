#!/usr/bin/env bash
# Fuzzes everything that is read from a repository, with libFuzzer and the stable compiler.
#
# usage: scripts/fuzz.sh [SECONDS [TARGET...]]     seconds of each target (default 5); default: all targets
#
# Targets are in fuzz/fuzz_targets, samples in fuzz/corpus; what a run finds beyond them is kept in fuzz/target/found. An
# input that fails is written to fuzz/target/failed: `fuzz/target/…/release/TARGET FILE` does it again.
set -euo pipefail
cd "$(dirname "$0")/../fuzz"
seconds=${1:-5}
shift || true
targets=("$@")
[ ${#targets[@]} -gt 0 ] || targets=($(basename -s .rs fuzz_targets/*.rs))

host=$(rustc -vV | sed -n 's/^host: //p')
# What `cargo fuzz` passes, but for the nightly compiler's address sanitizer: the engine has no unsafe code.
flags=(
    -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 -Cllvm-args=-sanitizer-coverage-inline-8bit-counters
    -Cllvm-args=-sanitizer-coverage-pc-table -Cllvm-args=-sanitizer-coverage-trace-compares --cfg=fuzzing
)
export CARGO_ENCODED_RUSTFLAGS
CARGO_ENCODED_RUSTFLAGS=$(IFS=$'\x1f'; echo "${flags[*]}")
out=${CARGO_TARGET_DIR:-$PWD/target}
# The program's own versions of everything; cargo adds what only the fuzzers need.
cp ../Cargo.lock .
# With --target the flags are not used for build scripts and macros, which have no fuzzer to report to.
cargo build --release --quiet --target "$host" "${targets[@]/#/--bin=}"

mkdir -p "$out/failed"
fuzz() {
    local target=$1 log=$out/failed/$1.log
    mkdir -p "$out/found/$target"
    if ! "$out/$host/release/$target" -max_total_time="$seconds" -timeout=10 -rss_limit_mb=2048 -max_len=4096 \
        -verbosity=1 -artifact_prefix="$out/failed/$target-" "$out/found/$target" "corpus/$target" >"$log" 2>&1; then
        echo "$target fails:" >&2
        tail -30 "$log" >&2
        return 1
    fi
    echo "$target: $(grep -c . <(ls "$out/found/$target")) inputs found, $(grep -o '^Done [0-9]* runs' "$log" || true)"
}
failed=0 running=0
for target in "${targets[@]}"; do
    # Two at a time.
    [ "$running" -lt 2 ] || { wait -n || failed=1; running=$((running - 1)); }
    fuzz "$target" &
    running=$((running + 1))
done
while [ "$running" -gt 0 ]; do
    wait -n || failed=1
    running=$((running - 1))
done
exit "$failed"
