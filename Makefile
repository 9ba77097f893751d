# Encke. Two commands on a fresh machine: `make demo` and `make test`.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
CARGO ?= cargo
# One profile for everything, so that a cold machine compiles each crate once.
PROFILE := --release
ENCKE := $(or $(CARGO_TARGET_DIR),target)/release/encke
FOLDER ?=

.PHONY: help
help: ## Show what there is to run
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

.PHONY: demo
demo: build ## Show everything on this machine (FOLDER=/some/folder for other data)
	$(ENCKE) demo $(if $(FOLDER),--folder "$(FOLDER)")

.PHONY: build
build: tools-build web ## Build the program with its web console
	$(CARGO) build $(PROFILE) --locked --workspace --bins

.PHONY: web
web: tools-build ## Build the web console
	scripts/web.sh build

.PHONY: test
test: tools-test build ## Run every check and test
	scripts/test.sh

.PHONY: lint
lint: ## Check formatting and lints
	$(CARGO) fmt --all --check
	$(CARGO) clippy $(PROFILE) --locked --workspace --all-targets -- -D warnings

.PHONY: docs
docs: build ## Write the API reference into docs/api
	$(ENCKE) admin api-reference --out docs/api

.PHONY: fuzz
fuzz: ## Fuzz everything that is read from a repository, a minute a parser
	scripts/fuzz.sh 60

.PHONY: bench
bench: build ## Compare with restic and Borg
	bench/backup.sh

.PHONY: tools-build tools-test
tools-build: ; @scripts/install.sh build
tools-test: ; @scripts/install.sh test
