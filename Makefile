# Every target sets up what it needs; `make help` lists them.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
UV_VERSION := 0.13.9
TEST_PROCESSES ?= 2

.DEFAULT_GOAL := help
.PHONY: help setup check test demo up bench loadtest report lock clean

help:  ## list the targets
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | awk -F'\t' '{printf "  make %-10s %s\n", $$1, $$2}'

# The stamp is older than the lock after a change of dependencies, and then everything is installed again.
$(VENV)/.installed: requirements.lock pyproject.toml
	@echo "Setting up $(VENV) ..."
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) || \
		{ echo "Python's venv module is missing: install Debian's package python3-venv"; rm -rf $(VENV); exit 1; }
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check "uv==$(UV_VERSION)"
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --require-hashes --requirement requirements.lock
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --editable .
	@touch $@

setup: $(VENV)/.installed  ## create the virtual environment and install everything, pinned

check: setup  ## format, lint, types, import contracts
	$(BIN)/ruff format --check --quiet .
	$(BIN)/ruff check --quiet .
	$(BIN)/mypy
	$(BIN)/lint-imports --cache-dir $(VENV)/import-linter-cache

test: setup  ## every test, in two processes; starts and stops its own stores
	$(BIN)/python -m pytest --numprocesses $(TEST_PROCESSES) --dist loadscope $(ARGS)

demo: setup  ## the whole loop on published retail data (ARGS="--exit --seed 2")
	@$(BIN)/offerloop demo $(ARGS)

up: setup  ## run the installation here: private stores, service, learner, jobs
	@$(BIN)/offerloop up $(ARGS)

bench: setup  ## measure against yardsticks in the same run; writes var/bench/results.json
	$(BIN)/python -m benchmarks $(ARGS)

loadtest: setup  ## two minutes of Locust users against an installation of its own
	$(BIN)/python -m loadtest $(ARGS)

report: setup  ## off-policy evaluation of the last demo's log; writes var/report/
	@test -d var/demo/store || { echo "There is no log yet: run 'make demo ARGS=--exit' first"; exit 1; }
	OFFERLOOP_DATA_DIR=var/demo/store $(BIN)/offerloop evaluate --loop baskets --out var/report $(ARGS)

lock: setup  ## pin the dependencies anew
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
		--all-extras --custom-compile-command "make lock" --output-file requirements.lock pyproject.toml

clean:  ## remove what was generated; the virtual environment stays
	rm -rf var build *.egg-info .mypy_cache .ruff_cache .pytest_cache
