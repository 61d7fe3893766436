# The one gate for people and CI: `make check test`. Needs Rust, Python 3.11, a C compiler; installs the rest below
# the target directory, as the user it runs as.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DELETE_ON_ERROR:
MAKEFLAGS += --no-builtin-rules

TARGET := $(abspath $(if $(CARGO_TARGET_DIR),$(CARGO_TARGET_DIR),target))
TOOLS := $(TARGET)/tools
VENV := $(TARGET)/venv
PYTHON := $(VENV)/bin/python
BINARY := $(TARGET)/debug/trailship
CARGO_DENY := $(TOOLS)/bin/cargo-deny
CARGO_FUZZ := $(TOOLS)/bin/cargo-fuzz
PROMTOOL := $(TOOLS)/promtool

# Tests at once: most of them wait for something most of the time, so that two cores have work for five.
TEST_THREADS ?= $(shell n=$$(nproc); echo $$((n > 5 ? n : 5)))
FUZZ_SECONDS ?= 600
# Of the simulation: how many seeds, from which on, and whether all that happens is shown (0 or 1).
SEEDS ?= 1000
FIRST ?= 0
TRACE ?= 0
# How often an agent is killed, and how long the load is steady.
KILLS ?= 200
SECONDS ?= 120
# Of the two hours that a sink is down: how many log files come.
OUTAGE_FILES ?= 100000
# A folder with log files of your own (plain JSON), for `make test-real`; generated ones are used besides.
REAL_LOG_FILES ?=

# Tools are built once and run for seconds: without optimisation they take a quarter of the time to build.
QUICK := CARGO_PROFILE_RELEASE_OPT_LEVEL=0 CARGO_PROFILE_RELEASE_CODEGEN_UNITS=16 CARGO_PROFILE_RELEASE_LTO=off \
	CARGO_PROFILE_RELEASE_STRIP=true CARGO_TARGET_DIR=$(TOOLS)/build

.PHONY: help demo check test test-real simulate simulate-outage chaos soak mutants bench fuzz clean
.PHONY: check-format check-lints check-dependencies check-tree check-deploy check-prometheus

help:
	@echo "make demo       the agent against stand-ins, in one process"
	@echo "make check      format, lints, licences and bans, tidiness, everything in deploy/"
	@echo "make test       the workspace's tests, then the real binary against moto, and clients of other hands against stand-ins"
	@echo "make test-real  the real binary against real servers: OpenSearch, rsyslog, Spark, nginx and others"
	@echo "make simulate   the whole agent in a simulated world, for SEEDS ($(SEEDS)) seeds from FIRST ($(FIRST)) on"
	@echo "make simulate-outage  one sink down for two hours, while OUTAGE_FILES ($(OUTAGE_FILES)) log files come"
	@echo "make chaos      two agents on one queue, killed at random under load KILLS ($(KILLS)) times"
	@echo "make soak       a steady load with one sink down, for SECONDS ($(SECONDS)): memory has to stay flat"
	@echo "make mutants    breaks the agent on purpose, and shows that the tests notice"
	@echo "make bench      the hot path and the agent's CPU time"
	@echo "make fuzz       each fuzz target for FUZZ_SECONDS ($(FUZZ_SECONDS))"
	@echo "make clean      removes what was built"

demo:
	cargo run --locked --release -- demo

check: check-format check-tree check-deploy check-prometheus check-dependencies check-lints

check-format:
	cargo fmt --all --check

check-lints:
	cargo clippy --workspace --all-targets --locked -- -D warnings

check-dependencies: $(CARGO_DENY)
	$(CARGO_DENY) --log-level error check bans licenses sources

check-tree: $(VENV)/.ready
	$(PYTHON) tests/python/tidy.py

check-deploy: $(VENV)/.ready
	$(VENV)/bin/cfn-lint deploy/cloudformation/*.yaml
	$(PYTHON) tests/python/check_deploy.py

check-prometheus: $(PROMTOOL)
	@if [ -s $(PROMTOOL) ]; then \
		cd deploy/prometheus && \
		$(PROMTOOL) check config scrape.yml && $(PROMTOOL) check rules alerts.yml && $(PROMTOOL) test rules alerts_test.yml; \
	else echo "skipped: promtool ($$(cat $(PROMTOOL).reason))"; fi

test: $(VENV)/.ready $(PROMTOOL)
	RUST_TEST_THREADS=$(TEST_THREADS) cargo test --workspace --locked
	# As the README has it, without the name of a binary: there are two in the workspace.
	cargo run --locked --quiet -- --version
	cargo build --locked --bin trailship --bin testkit
	$(PYTHON) -m unittest discover --start-directory tests/python --pattern '*_test.py'
	$(PYTHON) tests/python/check_configs.py --binary $(BINARY)
	$(PYTHON) tests/python/moto_lane.py --binary $(BINARY) --promtool $(PROMTOOL)
	$(PYTHON) tests/python/opensearch_client.py --testkit $(TARGET)/debug/testkit
	$(PYTHON) tests/python/pylogbeat_client.py --testkit $(TARGET)/debug/testkit

test-real: $(VENV)/.ready
	cargo build --locked --bin trailship
	cargo build --locked --package testkit --bin testkit
	$(PYTHON) tests/real/run.py --binary $(BINARY) --tools $(TOOLS) $(if $(REAL_LOG_FILES),--log-files "$(REAL_LOG_FILES)")

# A seed that failed, and all that happened in it: make simulate FIRST=17 SEEDS=1 TRACE=1
simulate:
	TRAILSHIP_SIMULATION_FIRST=$(FIRST) TRAILSHIP_SIMULATION_SEEDS=$(SEEDS) TRAILSHIP_SIMULATION_TRACE=$(TRACE) \
		cargo test --locked --test simulation whatever_fails -- --nocapture

simulate-outage:
	TRAILSHIP_OUTAGE_FILES=$(OUTAGE_FILES) cargo test --locked --test simulation two_hours -- --nocapture

chaos:
	TRAILSHIP_TEST_KILLS=$(KILLS) cargo test --locked --test it killed_at_random -- --nocapture

soak:
	TRAILSHIP_TEST_SOAK_SECONDS=$(SECONDS) cargo test --locked --test it under_a_steady_load -- --nocapture

mutants: $(VENV)/.ready
	$(PYTHON) tests/python/mutants.py --target $(TARGET)/mutants

bench:
	cargo bench --locked --bench hot_path --bench end_to_end

# libFuzzer needs flags that are unstable; RUSTC_BOOTSTRAP lets the stable compiler take them.
fuzz: $(CARGO_FUZZ)
	@for target in notification log_file config answers; do \
		echo "fuzz: $$target for $(FUZZ_SECONDS) s"; \
		mkdir -p fuzz/corpus/$$target; \
		dictionary=$$(ls fuzz/$$target.dict 2>/dev/null || true); \
		RUSTC_BOOTSTRAP=1 $(CARGO_FUZZ) run --target-dir $(TARGET)/fuzz $$target fuzz/corpus/$$target fuzz/seeds/$$target -- \
			-max_total_time=$(FUZZ_SECONDS) $${dictionary:+-dict=$$dictionary}; \
	done

clean:
	cargo clean
	rm -rf $(VENV) $(TOOLS) out state

$(VENV)/.ready: tests/python/requirements.txt
	rm -rf $(VENV)
	python3 -m venv $(VENV) || { apt-get install -y -q python3-venv && python3 -m venv $(VENV); }
	$(VENV)/bin/python -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed")'
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check --requirement tests/python/requirements.txt
	touch $@

# An empty file stands for "cannot be had", the reason is beside it; the next run tries again.
$(shell [ -s $(PROMTOOL) ] || rm -f $(PROMTOOL))
$(PROMTOOL):
	tests/tools/promtool.sh $(TOOLS)

$(CARGO_DENY):
	$(QUICK) cargo install cargo-deny --version 0.20.2 --locked --no-default-features --root $(TOOLS)
	rm -rf $(TOOLS)/build

$(CARGO_FUZZ):
	$(QUICK) cargo install cargo-fuzz --locked --root $(TOOLS)
	rm -rf $(TOOLS)/build
