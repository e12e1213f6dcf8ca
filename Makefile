# The commands of this project. `make help` lists them.
SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
PY := $(VENV)/bin/python
MODEL := .models/all-MiniLM-L6-v2
# One place for build products; CI may point it outside the clone to reuse an earlier build.
export CARGO_TARGET_DIR ?= $(CURDIR)/target
NATIVE := python-bindings/python/aktis/_aktis.abi3.so
ENV := PYTHONPATH=$(CURDIR)/python-bindings/python AKTIS_TEST_MODEL_DIR=$(CURDIR)/$(MODEL)

.PHONY: help demo test test-rust test-python soak lint bench build wheel venv model generated clean

help: ## List the commands
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

demo: build model ## Embed real text with a real model, then search it
	$(ENV) $(PY) examples/semantic_search.py

test: test-rust test-python ## Build everything and run all tests

test-rust: build model ## Rust tests
	$(ENV) ORT_DYLIB_PATH="$$($(PY) -c 'import glob, onnxruntime; print(glob.glob(onnxruntime.__path__[0] + "/capi/libonnxruntime.so*")[0])')" \
		cargo test --release --workspace
	cargo test --release --manifest-path tests/loom/Cargo.toml --target-dir "$(CARGO_TARGET_DIR)/loom"

test-python: build model ## Python tests
	$(ENV) $(PY) -m pytest tests/python -q

soak: ## Random faults in a cluster in one process, 2000 seeds; the head's file torn at every byte
	AKTIS_CLUSTER_SEEDS=2000 cargo test --release -p aktis-cluster-tests -- --nocapture random_faults torn_files

lint: venv ## Format and lint checks
	cargo fmt --all --check
	cargo fmt --check --manifest-path tests/loom/Cargo.toml
	cargo clippy --release --workspace --all-targets -- -D warnings
	$(VENV)/bin/ruff check python-bindings/python examples tests benches
	$(VENV)/bin/ruff format --check --line-length 120 python-bindings/python examples tests benches

bench: build ## Compare with Ray: installs it into a folder of its own, prints a table of ratios
	$(ENV) $(PY) benches/run.py core

build: check-tools venv ## Build the native module and the aktis command
	cargo build --release --workspace
	@# Where PYTHONDONTWRITEBYTECODE is set, every process would compile the package anew: 50 ms of a session's start.
	@$(PY) -m compileall -q python-bindings/python/aktis
	@strip --strip-debug -o $(NATIVE).new "$(CARGO_TARGET_DIR)/release/lib_aktis.so" && mv -f $(NATIVE).new $(NATIVE)

generated: ## Write the files that are generated: docs/configuration.md, the chart's CRDs
	cargo run --release -p xtask -- all

wheel: venv ## Build the wheel for Python 3.11 and later into dist/
	$(VENV)/bin/maturin build --release --manifest-path python-bindings/Cargo.toml --out dist

.PHONY: check-tools
check-tools:
	@command -v cargo >/dev/null || { echo "cargo is missing: install Rust from https://rustup.rs"; exit 1; }
	@command -v cc >/dev/null || { echo "a C compiler is missing: apt-get install gcc"; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or later is missing: set PYTHON="; exit 1; }

venv: $(VENV)/.ready

$(VENV)/.ready: requirements-dev.txt
	@$(PYTHON) -m venv $(VENV) || { echo "the venv module is missing: apt-get install python3-venv"; exit 1; }
	$(VENV)/bin/pip install -q --upgrade -r requirements-dev.txt
	@touch $@

model: $(MODEL)/model.onnx ## Fetch the model of the demo and the tests

$(MODEL)/model.onnx: $(VENV)/.ready
	$(PY) python-bindings/python/aktis/models/fetch.py all-MiniLM-L6-v2 $(MODEL)
	$(PY) python-bindings/python/aktis/models/export_onnx.py $(MODEL)

clean: ## Remove build products, the virtual environment and downloaded models
	rm -rf target $(VENV) .models dist $(NATIVE) demo-output
