#!/usr/bin/env bash
# Every check and test. `make test` calls this after it has built the program.
set -euo pipefail
cd "$(dirname "$0")/.."
target="${CARGO_TARGET_DIR:-$PWD/target}"

# Tests wait more than they compute.
export RUST_TEST_THREADS=3

step() { printf '\n== %s (after %d min)\n' "$*" $((SECONDS / 60)); }

step "formatting and lints"
cargo fmt --all --check
cargo clippy --release --locked --workspace --all-targets --quiet -- -D warnings

step "licences"
scripts/licences.sh

step "unit, property, API, interoperation and crash tests"
cargo test --release --locked --workspace --no-fail-fast

step "fuzzers of everything that is read from a repository, briefly"
scripts/fuzz.sh 4

# Those in which it matters where rows are kept; server/store.rs has both databases anyway.
step "the server's tests once more, on PostgreSQL"
# Of the whole workspace: of one package alone, everything would be compiled again with other features.
export ENCKE_TEST_STORE=postgres
cargo test --release --locked --workspace --test coverage
cargo test --release --locked --workspace --test server --test reports -- accounts:: api:: data:: email:: events:: \
  external_login:: files:: meta:: organizations:: policies:: storage_role:: webhooks::
unset ENCKE_TEST_STORE

step "API against its OpenAPI document (schemathesis)"
ENCKE_BIN="$target/release/encke" scripts/schemathesis.sh

step "web console: types, lints, unit tests"
scripts/web.sh check

step "web console in a browser"
ENCKE_BIN="$target/release/encke" scripts/web.sh browser
