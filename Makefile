# The commands of this project. `make help` lists them.
SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
PY := $(VENV)/bin/python
MODEL := .models/all-MiniLM-L6-v2
# One place for build products; CI may point it outside the clone to reuse an earlier build.
export CARGO_TARGET_DIR ?= $(CURDIR)/target
NATIVE := python-bindings/python/aktis/_aktis.abi3.so
CANDLE := python-bindings/python/aktis/native/libaktis_candle.so
ENV := PYTHONPATH=$(CURDIR)/python-bindings/python AKTIS_TEST_MODEL_DIR=$(CURDIR)/$(MODEL)

# Cargo unites the features of all crates that one command names. What brings features of its own is built by commands of its
# own, so that nothing else is compiled twice for it.
APART := aktis-candle aktis-operator xtask
CORE := --workspace $(APART:%=--exclude %)
# How our own crates are compiled for their tests.
UNOPTIMISED := --config xtask/build/tests.toml
# Python tests wait more than they compute. Those of a file share a session and stay together.
TEST_PROCESSES ?= 2
PROGRESS := $(PYTHON) xtask/build/progress.py --

.PHONY: help demo test test-rust test-python test-wheel soak lint docs bench build candle wheel venv formats model generated build-account clean

help: ## List the commands
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

demo: build model ## Embed real text with a real model, then search it
	$(ENV) $(PY) examples/semantic_search.py

test: test-rust test-python test-wheel ## Build everything and run all tests

test-rust: build venv candle model ## Rust tests
	$(PROGRESS) cargo test --release $(UNOPTIMISED) $(CORE) --no-run
	$(ENV) ORT_DYLIB_PATH="$$($(PY) -c 'import glob, onnxruntime; print(glob.glob(onnxruntime.__path__[0] + "/capi/libonnxruntime.so*")[0])')" \
		cargo test --release $(UNOPTIMISED) --no-fail-fast $(CORE)
	cargo test --release -p aktis-candle
	cargo test --release -p aktis-operator -p xtask
	cargo test --release --manifest-path tests/loom/Cargo.toml --target-dir "$(CARGO_TARGET_DIR)/loom"

test-python: build venv candle model ## Python tests
	$(ENV) $(PY) -m pytest tests/python -q -n $(TEST_PROCESSES) --dist loadfile

soak: build venv ## 2000 seeds of random faults, the head's file torn at every byte, 1000 real processes killed at random, 100 random pipelines in 512 MiB
	AKTIS_CLUSTER_SEEDS=2000 cargo test --release -p aktis-cluster-tests -- random_faults torn_files
	AKTIS_TEST_KILLS=1000 $(ENV) $(PY) -m pytest tests/python/cluster/test_kills.py tests/python/api/test_soak.py -q
	AKTIS_TEST_PIPELINES=100 $(ENV) $(PY) -m pytest tests/python/cluster/test_memory_budget.py -q

test-wheel: wheel venv ## Install the wheel into an empty virtual environment and use it there
	$(PY) tests/wheel.py dist

lint: build venv ## Format and lint checks, and the budget of the build
	$(PYTHON) xtask/checks
	$(PYTHON) xtask/build/budget.py
	cargo fmt --all --check
	cargo fmt --check --manifest-path tests/loom/Cargo.toml
	cargo clippy --release $(CORE) --all-targets -- -D warnings
	cargo clippy --release -p aktis-candle --all-targets -- -D warnings
	cargo clippy --release -p aktis-operator -p xtask --all-targets -- -D warnings
	$(VENV)/bin/ruff check python-bindings/python examples tests benches xtask
	$(VENV)/bin/ruff format --check --line-length 120 python-bindings/python examples tests benches xtask
	$(VENV)/bin/mypy
	PYRIGHT_PYTHON_IGNORE_WARNINGS=1 $(VENV)/bin/pyright --pythonpath $(PY)

docs: build venv ## API pages from the docstrings, into docs/api/
	$(ENV) $(PY) -m pdoc --docformat google --template-directory docs/templates --output-directory docs/api aktis

bench: build ## Compare with Ray: installs it into a folder of its own, prints a table of ratios
	$(ENV) $(PY) benches/run.py core

build: check-tools $(VENV)/.ready ## Build the native module, in which the aktis command lies
	$(PROGRESS) cargo build --release --locked -p aktis-python
	@# Where PYTHONDONTWRITEBYTECODE is set, every process would compile the package anew: 50 ms of a session's start.
	@$(PY) -m compileall -q python-bindings/python/aktis
	@strip --strip-unneeded --wildcard --keep-symbol="*aktis*" -o $(NATIVE).new "$(CARGO_TARGET_DIR)/release/lib_aktis.so" && mv -f $(NATIVE).new $(NATIVE)

candle: check-tools ## Build the candle backend, a library that is loaded when it is asked for
	$(PROGRESS) cargo build --release --locked -p aktis-candle
	@mkdir -p $(dir $(CANDLE))
	@strip --strip-unneeded -o $(CANDLE).new "$(CARGO_TARGET_DIR)/release/libaktis_candle.so" && mv -f $(CANDLE).new $(CANDLE)

generated: ## Write the files that are generated: docs/configuration.md, the chart's CRDs
	cargo run --release -p xtask -- all

wheel: build venv ## Build the wheel for Python 3.11 and later into dist/, from what `make build` has compiled
	@rm -rf dist
	$(VENV)/bin/maturin build --release --manifest-path python-bindings/Cargo.toml --out dist

build-account: check-tools ## Say what a build from nothing costs, and why: docs/building.md
	$(PYTHON) xtask/build/account.py

.PHONY: check-tools
check-tools:
	@command -v $(PYTHON) >/dev/null || { echo "missing: Python 3.11 or later: apt-get install python3 python3-venv, or set PYTHON="; exit 1; }
	@$(PYTHON) xtask/build/preflight.py "$(CARGO_TARGET_DIR)"

venv: $(VENV)/.tools ## The virtual environment, with what the tests and checks need

$(VENV)/.ready: requirements.txt
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/pip install -q --upgrade -r $<
	@touch $@

$(VENV)/.tools: requirements-dev.txt $(VENV)/.ready
	$(VENV)/bin/pip install -q --upgrade -r $<
	@touch $@

formats: venv ## What some formats of datasets need, so that their tests run: Iceberg, Lance, Delta, Avro, films, ...
	$(VENV)/bin/pip install -q -r requirements-formats.txt

model: $(MODEL)/model.onnx ## Fetch the model of the demo and the tests

$(MODEL)/model.onnx: $(VENV)/.ready
	$(PY) python-bindings/python/aktis/models/fetch.py all-MiniLM-L6-v2 $(MODEL)
	$(PY) python-bindings/python/aktis/models/export_onnx.py $(MODEL)

clean: ## Remove build products, the virtual environment and downloaded models
	rm -rf target $(VENV) .models dist docs/api $(NATIVE) $(CANDLE) demo-output
