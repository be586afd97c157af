# Every target works on a bare machine: .venv is made and filled first.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
JOBS ?= 2

.DEFAULT_GOAL := help
.PHONY: help demo test lint check full bench docs notebooks

help:  ## list the targets
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 10

demo: $(STAMP)  ## link a classifier to a generator on part world, tune its units, write the report (minutes)
	$(BIN)/python -m lis.run analysis=demo

notebooks: $(STAMP)  ## execute examples/*.ipynb, each in an empty folder, and write their outputs
	$(BIN)/python -m tests.helpers.notebooks

test: $(STAMP)  ## every test but the longest; continuous integration runs it (< 15 min)
	$(BIN)/pytest -n $(JOBS) --dist worksteal -m "not full"

lint: $(STAMP)  ## format, lint and types; continuous integration runs it before the tests
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/pyright

check: lint  ## format, lint, types and the quick tests (< 4 min)
	$(BIN)/pytest -n $(JOBS) --dist worksteal -m "not slow and not full"

full: $(STAMP)  ## every experiment at its full size, long fuzz and fault runs, the documentation and its links
	$(BIN)/pytest -m full

bench: $(STAMP)  ## measure speed and memory against the references
	@set -e; for file in benchmarks/bench_*.py; do echo "== $$file"; $(BIN)/python $$file; done

docs: $(STAMP)  ## build the documentation, without a network: build/docs/index.html
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet
	@echo build/docs/index.html

$(STAMP): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet -e '.[dev,docs,ray,real,sweep,wandb]' -c constraints.txt
	touch $@
