# Everything sets itself up: `make test` on a machine with Python 3.11+, make and a C compiler is enough.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
PIP    := $(BIN)/python -m pip --disable-pip-version-check install -q -c constraints.txt
NATIVE := $(wildcard nbtorch/kernels/native/*.c nbtorch/kernels/native/*.h nbtorch/kernels/native/build.py)

PYTEST_WORKERS ?= 2
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n $(PYTEST_WORKERS) --durations=15

.DEFAULT_GOAL := help
.PHONY: help install refine test test-slow lint format bench clean

help: ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  make %-10s %s\n", $$1, $$2}'

install: $(STAMP) ## create .venv with everything in it (the only step that needs a network)

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "nbtorch needs Python 3.11 or newer, and '$(PYTHON)' is $$($(PYTHON) -V 2>&1). Try: make PYTHON=python3.12 install"; exit 1; }
	$(PYTHON) -m venv $(VENV)

# torch first and alone: it is the one big download, and everything else is then satisfied with that very build.
# No build isolation: the setuptools just installed builds, so that nothing is fetched twice.
$(STAMP): $(BIN)/python pyproject.toml constraints.txt setup.py $(NATIVE)
	$(PIP) setuptools torch
	$(PIP) --no-build-isolation -e '.[refine,cbf,gpu,dev,docs]'
	@ls nbtorch/kernels/native/libnbtorch_native.* >/dev/null 2>&1 || \
	  echo "nbtorch: no C kernels (is there a C compiler?); the PyTorch reference serves instead, slower"
	@touch $@

refine: install ## refine the embedded example: the first thing to try
	$(BIN)/nb-refine

test: install lint ## lint, then every test that is not slow
	$(PYTEST) -m "not slow"

test-slow: install ## the long tests: full products, coverage of the error bars, fresh environments
	$(PYTEST) -m slow

lint: install ## ruff, formatting, types, import floors
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: install ## let ruff format and fix what it can
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: install ## measure: one table, and JSON in benchmarks/results
	$(BIN)/python benchmarks/run.py

clean: ## remove what builds and tests leave behind (not .venv, not outputs)
	rm -rf build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	find nbtorch refine tests benchmarks docs -name __pycache__ -type d -prune -exec rm -rf {} +
