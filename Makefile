# `make run` and `make test` do all their own set-up.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.DEFAULT_GOAL := help

help:  ## what can be made
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

$(VENV)/.installed: setup.py channelstream/_heads.c channelstream/edge/_sending.c
	@test -d $(VENV) || $(PYTHON) -m venv $(VENV)
	@echo "installing into $(VENV) …"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[test]'
	@touch $@

install: $(VENV)/.installed  ## a virtual environment with everything in it

run: $(VENV)/.installed  ## the server with the demo's settings, on port 8000
	@$(BIN)/python demo/run.py

test: check unit group browser  ## all that CI runs

check: $(VENV)/.installed  ## style, types and import rules; writes nothing
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

fix: $(VENV)/.installed  ## mend style where it can be mended
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

unit: $(VENV)/.installed  ## tests without a running group
	$(BIN)/python -m pytest -m 'not group and not browser'

group: $(VENV)/.installed  ## tests of the real group
	$(BIN)/python -m pytest -m group

schema: $(VENV)/.installed  ## many more calls made from the API's description; minutes
	CHANNELSTREAM_TEST_SCHEMA_EXAMPLES=200 $(BIN)/python -m pytest tests/group/test_schema_conformance.py

faults: $(VENV)/.installed  ## real faults for a quarter of an hour; `group` has a short form
	CHANNELSTREAM_TEST_FAULTS_LENGTH=10 $(BIN)/python -m pytest tests/faults

browser: $(VENV)/.installed  ## tests with a real browser; installs Chromium where apt-get may
	@command -v chromium >/dev/null || { echo "installing Chromium …"; \
		apt-get update -qq && apt-get install -y -qq --no-install-recommends chromium >/dev/null; }
	$(BIN)/python -m pytest -m browser

bench-peers: $(VENV)/.installed  ## other servers to measure beside ours, into .peers
	$(BIN)/python -m bench.peers.install

bench: $(VENV)/.installed  ## all measurements, beside other servers where they are installed; 15 minutes
	$(BIN)/python -m bench all

.PHONY: help bench install run test check fix unit group schema faults browser bench-peers
