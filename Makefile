# `make demo` and `make test` work from a fresh clone with Python >= 3.11, make and a compiler.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
DOCS_STAMP := $(VENV)/.docs-installed
.DEFAULT_GOAL := help
.PHONY: help env demo test lint bench docs ui lock clean

help:  ## say what there is
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 8

env: $(STAMP)  ## the environment in .venv, from requirements.lock

$(STAMP): requirements.lock pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --editable .
	$(BIN)/python -W ignore -c "import umap"  # compiles a part of itself, once: 20 s that the first run need not wait for
	touch $@

$(DOCS_STAMP): docs/requirements.lock $(STAMP)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r docs/requirements.lock
	touch $@

demo: env  ## one experiment on embedded real cells, from counts to genes
	$(BIN)/scballast experiment=demo

test: env  ## the test suite
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

lint: env  ## style, types, spelling, import layers
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/codespell

bench: env  ## benchmarks: speed against scvi-tools, interval coverage, overheads
	$(BIN)/python -m tests.benchmarks

docs: $(DOCS_STAMP)  ## the site of the documentation in site/, with its notebooks run anew; warnings are errors
	PYTHONWARNINGS="ignore:IProgress not found" PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python -m sphinx --fail-on-warning --keep-going --quiet docs site

ui: env  ## the MLflow UI over runs/
	$(BIN)/scballast-ui

lock: env  ## write requirements.lock and docs/requirements.lock anew from pyproject.toml
	$(BIN)/python -m pip install --quiet uv
	$(BIN)/python .ci/lock.py

clean:  ## remove the environment and caches; runs/ stays
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache
