# What CI runs is what a person types. `make demo` and `make test` need python3 >= 3.10, python3-venv and make, nothing else.
PYTHON ?= python3
BIN := .venv/bin
DATA ?=

.PHONY: demo test check counterparts bench bench-peers clean

.venv: .venv/.installed

.venv/.installed: setup.py pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --editable .
	touch $@

.venv/.dev: .venv/.installed
	$(BIN)/pip install --quiet --editable '.[dev]'
	touch $@

demo: .venv/.installed
	$(BIN)/fedge-fleet demo $(if $(DATA),--data $(DATA))

test: .venv/.dev
	$(BIN)/pytest

check: .venv/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/pytest tests/test_imports.py

bench: .venv/.dev
	@set -e; for script in benchmarks/[a-z]*.py; do $(BIN)/python $$script --json; done

# PyTorch is installed for those who measure, and by CI: without it the tests that export from it are skipped.
counterparts: .venv/.dev
	$(BIN)/pip install --quiet --editable '.[bench,cluster]'

.venv-peers/.installed: setup.py pyproject.toml
	$(PYTHON) -m venv .venv-peers
	.venv-peers/bin/pip install --quiet --editable '.[bench]' flwr
	touch $@

bench-peers: .venv-peers/.installed
	.venv-peers/bin/python benchmarks/training.py --json --peers
	.venv-peers/bin/python benchmarks/rules.py --json --peers

clean:
	rm -rf .venv .venv-peers build *.egg-info
