# What a person types. Options go through ARGS:  make demo ARGS="--shards 2 --once"

CARGO ?= cargo
ARGS  ?=

.DEFAULT_GOAL := help
.PHONY: help demo test bench soak fmt need-postgres need-rust

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: need-postgres need-rust ## four PostgreSQL servers, pgherd, pgbench, and the proof; serves until Ctrl-C
	$(CARGO) build --release --package pgherd
	@$(or $(CARGO_TARGET_DIR),target)/release/pgherd demo $(ARGS)

test: need-postgres need-rust ## everything that must hold before a commit
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets -- --deny warnings
	$(CARGO) build --package pgherd
	$(CARGO) test --workspace

bench: need-postgres need-rust ## pgherd beside PgBouncer and a direct connection, in one run
	$(CARGO) build --release --package pgherd --package pgherd-bench
	@$(or $(CARGO_TARGET_DIR),target)/release/pgherd-bench $(ARGS)

soak: need-postgres need-rust ## the long form of the tests: crashes under load, noise on both sides of the protocol
	$(CARGO) build --package pgherd
	$(CARGO) test --package pgherd-integration-tests --test soak --test rebalance --test crowd --test protocol --test fuzz --test differential -- --ignored --nocapture --test-threads 1 $(ARGS)

fmt: need-rust ## formats the sources
	$(CARGO) fmt --all

need-postgres:
	@scripts/need-postgres

need-rust:
	@command -v $(CARGO) >/dev/null || { echo "cargo was not found: install Rust 1.89 or newer (https://rustup.rs)" >&2; exit 1; }
