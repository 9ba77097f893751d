# For the other scripts of this folder: a server with an administrator, filled with accounts and jobs.
# Sets: ENCKE, FILL, work, url, pid; stops and removes everything at exit.

PASSWORD=bench-password
ADMIN="Username=admin&AuthType=Password&Password=$PASSWORD"

need() {
    local missing=() pair
    for pair in "$@"; do
        command -v "${pair%%:*}" >/dev/null || missing+=("${pair#*:}")
    done
    [ ${#missing[@]} -gt 0 ] || return 0
    echo "installing ${missing[*]} with apt-get" >&2
    local sudo=
    [ "$(id -u)" = 0 ] || sudo=sudo
    $sudo apt-get install -y -q "${missing[@]}" >/dev/null || {
        echo "please install: ${missing[*]}" >&2
        exit 1
    }
}

target=${CARGO_TARGET_DIR:-$PWD/target}
ENCKE=${ENCKE:-$target/release/encke}
build() {
    [ -x "$ENCKE" ] || cargo build --release --locked -p encke
    [ -n "${ENCKE_BENCH_BUILT:-}" ] || cargo build --release --locked --quiet -p encke-store --example fill
    cargo build --release --locked --quiet -p encke-server --example constant
    FILL=$target/release/examples/fill
    CONSTANT=$target/release/examples/constant
    ENCKE=$(realpath "$ENCKE")
}

pids=()
clean() {
    [ ${#pids[@]} -eq 0 ] || kill "${pids[@]}" 2>/dev/null || true
    wait 2>/dev/null || true
    rm -rf "$work"
}
workspace() {
    work=$(mktemp -d -t encke-bench.XXXXXX)
    trap clean EXIT
}

# Starts a program that tells its address: sets pid and url.
launch() {
    # Not what the one before has told.
    : >"$work/out"
    "$@" >"$work/out" 2>>"$work/log" &
    pid=$!
    pids+=("$pid")
    url=
    until [ -n "$url" ]; do
        url=$(sed -n 's|^Encke listens at \(http://[^/]*\).*|\1|p' "$work/out")
        kill -0 "$pid" 2>/dev/null || {
            echo "it did not start:" >&2
            cat "$work/log" >&2
            exit 1
        }
        sleep 0.05
    done
}

stop() {
    kill "$pid" 2>/dev/null || true
    wait "$pid" 2>/dev/null || true
}

post() { curl -sS -d "$ADMIN" "${@:2}" "$url$1"; }

# A data folder with this many accounts, jobs and log lines.
furnish() {
    local folder=$1
    launch "$ENCKE" serve --listen 127.0.0.1:0 --data-dir "$folder"
    post /api/v1/admin/add-first-admin-user -d "TargetUser=admin&TargetPassword=$PASSWORD" | grep -q '"Status":200'
    post /api/v1/admin/add-user -d "TargetUser=template&TargetPassword=$PASSWORD" | grep -q '"Status":200'
    stop
    "$FILL" "$folder/encke.db" "$2" "$3" "$4"
}

mebibytes() { awk -v what="$1:" '$1 == what { printf "%.0f", $2 / 1024 }' "/proc/$pid/status"; }
# Peak resident memory is counted from now on.
forget_peak() { echo 5 >"/proc/$pid/clear_refs"; }
