# Everything a newcomer needs: `make demo` and `make test` set up a fresh machine alone.
PYTHON ?= python3
VENV ?= .venv
FULL_VENV ?= .venv-full
EXTRAS ?= dev,s3
# pytest workers (0: none), arguments (for instance: make test ARGS="-k sampler") and threads of each worker
WORKERS ?= 2
ARGS ?=
THREADS ?= 1
SHELL := bash

BIN := $(VENV)/bin
READY := $(VENV)/.installed
PYTEST = OMP_NUM_THREADS=$(THREADS) $(BIN)/python -m pytest -n $(WORKERS)
PIP := -m pip install --disable-pip-version-check --quiet -c constraints.txt

.DEFAULT_GOAL := help
.PHONY: help env demo check format test test-full test-all test-scripts test-wheel docs notebooks wheel audit soak bench clean

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' Makefile

env: $(READY) ## Create .venv with the tested versions (PYTHON=python3.12 chooses another Python)

$(FULL_VENV)/.installed: EXTRAS := full

%/.installed: setup.py constraints.txt
	test -x $*/bin/python || $(PYTHON) -m venv $*
	$*/bin/python $(PIP) --upgrade pip # that of Python 3.10 cannot build every package
	DS_BUILD_OPS=0 $*/bin/python $(PIP) -e ".[$(EXTRAS)]"
	@touch $@

demo: $(READY) ## Pre-train, fine-tune with and without it, compare: three minutes, no network
	PATH="$(abspath $(BIN)):$$PATH" bash examples/demo.sh

check: $(READY) ## Lint, formatting, types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(READY) ## Rewrite the files as `check` wants them
	$(BIN)/ruff check --fix-only --quiet .
	$(BIN)/ruff format .

test: $(READY) ## Tests that need no GPU and no patience
	$(PYTEST) $(ARGS)

# a package that is missing there is a failure; what is skipped for other reasons is listed
test-full: BIN := $(FULL_VENV)/bin
test-full: $(FULL_VENV)/.installed ## What `test` leaves out: other packages, processes, nodes, shards; all in .venv-full
	EVERY_PACKAGE=1 $(PYTEST) -rs -m "(needs or slow) and not grid and not gpu" $(ARGS)

test-all: $(READY) ## The slow tests too (on a GPU machine: CUDA_VISIBLE_DEVICES=0 make test-all ARGS="-m gpu")
	$(PYTEST) -m "not gpu" $(ARGS)

test-scripts: $(READY) ## Every pipeline by its command line, tiny, on the CPU
	@set -e; for script in tests/scripts/*.sh; do \
		echo "== $$script"; PATH="$(abspath $(BIN)):$$PATH" TINY=1 bash "$$script"; done

notebooks: $(VENV)/.notebooks ## Execute the notebooks, and store their outputs
	HF_HUB_OFFLINE=1 $(BIN)/python -m tests.notebooks $(ARGS)

wheel: $(VENV)/.release ## Source distribution and wheel, in dist
	rm -rf dist
	$(BIN)/python -m build --outdir dist
	$(BIN)/python -m twine check --strict dist/*

test-wheel: wheel ## Install that wheel in a new environment, outside this folder, and train there
	$(BIN)/python -m tests.wheel

audit: $(READY) ## Known vulnerabilities of the tested versions (asks PyPI)
	$(BIN)/python $(PIP) pip-audit
	$(BIN)/python -m tests.audit

soak: $(READY) ## A short run interrupted at every moment, every pipeline killed at random: 45 minutes
	OMP_NUM_THREADS=1 HF_HUB_OFFLINE=1 $(BIN)/python -m tests.soak $(ARGS)

docs: $(VENV)/.docs ## The documentation as a site, in build/site; a broken link is an error
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --quiet

$(VENV)/.docs $(VENV)/.release $(VENV)/.notebooks: $(VENV)/.%: $(READY)
	$(BIN)/python $(PIP) -e ".[$*]"
	@touch $@

bench: $(READY) ## Speed and memory against peers (see benchmarks/README.md)
	$(BIN)/python -m benchmarks $(ARGS)

clean: ## Remove outputs and caches, but no environment
	rm -rf outputs build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache
	find . -name __pycache__ -not -path "./$(VENV)/*" -not -path "./$(FULL_VENV)/*" -prune -exec rm -rf {} +
