# SPDX-License-Identifier: Apache-2.0
# What CI runs is what a person types. `make demo` and `make test` need python3 >= 3.10, python3-venv and make, nothing else.
PYTHON ?= python3
BIN := .venv/bin
DATA ?=
# Processes that share the quick tests, more than cores, for they wait a lot; 0: pytest alone.
JOBS ?= 3
# More arguments for pytest.
ARGS ?=

.PHONY: demo test test-slow mutants check docs pages onnx-suite exports-page headers coverage lock wheelhouse counterparts bench bench-peers clean

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
	$(BIN)/pytest -n $(JOBS) --dist loadfile --no-loadscope-reorder -m "not slow" $(ARGS)

test-slow: .venv/.dev
	$(BIN)/pytest -m "slow or hypothesis" --hypothesis-profile=thorough
	$(MAKE) mutants

# Breaks each core promise in a copy of this tree and expects its tests to fail (tests/mutants.toml); five minutes.
# Some of them: `make mutants ONLY="spool origin"`.
ONLY ?=
mutants: .venv/.dev
	$(BIN)/python tests/support/mutants.py $(ONLY)

check: .venv/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/pytest tests/test_imports.py tests/test_mutants.py

# The site in build/docs, without a network. Links are checked, warnings are errors.
docs: .venv/.docs
	$(BIN)/python scripts/make_pages.py --check
	$(BIN)/sphinx-build --fail-on-warning --keep-going --nitpicky --quiet --builder html docs build/docs

.venv/.docs: .venv/.installed pyproject.toml
	$(BIN)/pip install --quiet --editable '.[docs]'
	touch $@

# The parts of the documentation that are made from the code and from benchmarks/results.
pages: .venv/.dev
	$(BIN)/python scripts/make_pages.py

# What came of ONNX's own test suite, for the documentation; a quarter of a minute.
onnx-suite: .venv/.dev
	PYTHONPATH=tests $(BIN)/python -m support.onnx_suite_page

# What comes of networks as their tools export them, for the documentation; four minutes of processor time, and needs `make counterparts`.
exports-page: .venv/.dev
	PYTHONPATH=tests $(BIN)/python -W ignore -m support.exports.page

# The licence in the first lines of every source file that lacks it.
headers: .venv/.installed
	$(BIN)/python scripts/headers.py

# The quick tests with coverage of lines and branches; a page in build/coverage.
coverage: .venv/.dev
	$(BIN)/pytest -n $(JOBS) --dist loadfile --no-loadscope-reorder -m "not slow" --cov --cov-report=term:skip-covered \
		--cov-report=html

# The pins and hashes of deployments (requirements*.lock). `make lock UPGRADE=--upgrade` takes the newest releases.
UPGRADE ?=
lock: .venv-lock/.installed
	scripts/lock .venv-lock/bin/uv $(UPGRADE)

.venv-lock/.installed: Makefile
	$(PYTHON) -m venv .venv-lock
	.venv-lock/bin/pip install --quiet 'uv>=0.9,<1'
	touch $@

# What an installation without a network needs, in the folder wheelhouse (docs/operator/deployment.md). For another machine:
# `make wheelhouse FOR="--python 3.13 --machine aarch64"`; with an extra: `FOR="--extra images"`.
FOR ?=
wheelhouse: .venv/.dev
	$(BIN)/python scripts/wheelhouse.py $(FOR)

# DATA: the folder of recorded data sets, which some of them read.
bench: .venv/.dev
	@set -e; $(if $(DATA),export FEDGE_DATA=$(DATA);) for script in benchmarks/[a-z]*.py; do $(BIN)/python $$script --json; done

# What only tests and those who measure need; without it the tests that want it are skipped, but for CI.
OTHERS := .counterparts
counterparts: .venv/.dev $(OTHERS)/node/.installed $(OTHERS)/tryton/.installed $(OTHERS)/roundup/.installed
	$(BIN)/pip install --quiet --editable '.[bench,cluster]'
	command -v mosquitto || apt-get install --quiet --yes --no-install-recommends mosquitto
	command -v faketime || apt-get install --quiet --yes --no-install-recommends faketime

$(OTHERS)/node/.installed: Makefile
	mkdir -p $(@D)
	npm install --silent --no-audit --no-fund --prefix $(@D) node-opcua@2.182.0 sparkplug-client@3.2.4
	touch $@

$(OTHERS)/tryton/.installed: Makefile
	$(PYTHON) -m venv $(@D)
	$(@D)/bin/pip install --quiet 'trytond~=8.2.0' 'trytond_production~=8.2.0' 'trytond_production_work~=8.2.0' \
		'trytond_production_routing~=8.2.0'
	touch $@

$(OTHERS)/roundup/.installed: Makefile
	$(PYTHON) -m venv $(@D)
	$(@D)/bin/pip install --quiet 'roundup==2.6.0'
	touch $@

.venv-peers/.installed: setup.py pyproject.toml
	$(PYTHON) -m venv .venv-peers
	.venv-peers/bin/pip install --quiet --editable '.[bench]' flwr xgboost-cpu
	touch $@

# Ours beside the best others; the first writes its result for the documentation (then: make pages).
bench-peers: .venv-peers/.installed
	.venv-peers/bin/python benchmarks/training.py --json --peers --result benchmarks/results/training.json
	.venv-peers/bin/python benchmarks/convolutions.py --json --peers
	.venv-peers/bin/python benchmarks/rules.py --json --peers

clean:
	rm -rf .venv .venv-lock .venv-peers $(OTHERS) build wheelhouse *.egg-info
