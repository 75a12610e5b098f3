# Everything a person needs: demo, test, check, up. A fresh machine wants Python 3.11+, make and a network.
SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# uv from the PATH, or one of our own in .tools.
UV := $(shell command -v uv 2>/dev/null || echo .tools/bin/uv)
WITH_BIN := PATH="$(CURDIR)/$(BIN):$$PATH"
STAMP := $(VENV)/.installed
NODE_STAMP := tests/node/node_modules/.installed
PYTEST_WORKERS ?= 4
# Tests start hundreds of interpreters; without kept bytecode each would compile what it imports.
unexport PYTHONDONTWRITEBYTECODE

# What tests run inside sandboxes, which see this machine's /usr.
TOOLS := curl git
.PHONY: demo test check format up bench lock install tools clean

demo: $(STAMP)
	$(BIN)/sandstream demo

up: $(STAMP)
	$(BIN)/sandstream up

test: $(STAMP) $(NODE_STAMP) tools
	$(WITH_BIN) $(BIN)/python -m pytest -n $(PYTEST_WORKERS) --dist loadscope --no-loadscope-reorder $(PYTEST_ARGS)

check: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(STAMP)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(STAMP)
	$(BIN)/python -m bench

install: $(STAMP)

tools:
	@for tool in $(TOOLS); do command -v $$tool >/dev/null || missing="$$missing $$tool"; done; \
	[ -z "$$missing" ] || { [ "$$(id -u)" = 0 ] && apt-get update -qq && apt-get install -y -qq $$missing; } \
	  || { echo "missing:$$missing; run: sudo apt-get install$$missing"; exit 1; }

.tools/bin/uv:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed: make PYTHON=…"; exit 1; }
	@$(PYTHON) -m venv .tools 2>/dev/null || $(PYTHON) -m virtualenv --quiet .tools 2>/dev/null \
	  || { [ "$$(id -u)" = 0 ] && apt-get update -qq && apt-get install -y -qq python3-venv && $(PYTHON) -m venv --clear .tools; } \
	  || { rm -rf .tools; echo "Python's venv is missing; run: sudo apt-get install python3-venv"; exit 1; }
	.tools/bin/python -m pip install --quiet uv

# supabase-js, which the tests subscribe with. Node itself is among the pins.
$(NODE_STAMP): tests/node/package-lock.json | $(STAMP)
	$(WITH_BIN) npm ci --prefix tests/node --no-audit --no-fund --silent
	@touch $@

$(STAMP): requirements.txt pyproject.toml | $(filter .tools/bin/uv,$(UV))
	$(UV) venv --quiet --allow-existing --python '>=3.11' $(VENV)
	$(UV) pip install --quiet --compile-bytecode --python $(BIN)/python --require-hashes -r requirements.txt
	$(UV) pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation --editable .
	@touch $@

# The pins: every version exact, every file with its hash, no registry named.
lock: | $(filter .tools/bin/uv,$(UV))
	$(UV) pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-annotate --no-header \
	  --extra local --extra dev --output-file requirements.txt pyproject.toml requirements.in
	$(UV) pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-annotate --no-header \
	  --constraint requirements.txt --output-file functions/requirements.txt pyproject.toml
	$(UV) pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-annotate --no-header \
	  --constraint requirements.txt --output-file sandbox_scripts/requirements.txt sandbox_scripts/requirements.in

clean:
	rm -rf $(VENV) .tools tests/node/node_modules
