# The verbs of churn_radar. `make help` lists them.
.DEFAULT_GOAL := help
SHELL := /bin/sh
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# With its bytecode kept, whatever the machine says: the tests start some hundred processes.
PYTEST := PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest
SYNC := $(BIN)/python -m pip install --quiet --quiet --disable-pip-version-check --require-hashes --requirement

.PHONY: help demo test acceptance coverage setup run lint format bench torture pictures lock env-example clean

help: ## list the verbs
	@awk 'BEGIN {FS = ":.*## "} /^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: $(VENV)/runtime.stamp ## play the main job with both upstream services simulated; no keys needed
	@$(BIN)/churn-radar demo

test: $(VENV)/dev.stamp ## run every test
	$(PYTEST) --numprocesses=4 --dist=worksteal $(ARGS)

acceptance: $(VENV)/dev.stamp ## test the whole service on SQLite, on Postgres and behind both buffers; writes docs/tested.md
	-CHURN_RADAR_TESTS_EVERYWHERE=1 $(PYTEST) --numprocesses=2 --dist=worksteal --junitxml=.pytest_cache/acceptance.xml \
		tests/acceptance $(ARGS)
	$(BIN)/python -m tests.acceptance.table .pytest_cache/acceptance.xml

coverage: $(VENV)/dev.stamp ## run every test and tell what none of them runs (takes half as long again)
	CHURN_RADAR_TESTS_COLD_STARTS=1 $(PYTEST) --cov --cov-report=term --numprocesses=2 --dist=worksteal $(ARGS)

setup: $(VENV)/dev.stamp ## make the environment in .venv, from the lock files

run: $(VENV)/runtime.stamp ## run the real service from settings (.env or the environment)
	@$(BIN)/churn-radar serve

lint: $(VENV)/dev.stamp ## ruff and mypy --strict
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(VENV)/dev.stamp ## let ruff format and mend the code
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(VENV)/dev.stamp ## run the benchmarks; writes benchmarks/RESULTS.md
	$(BIN)/python -m benchmarks $(ARGS)

pictures: $(VENV)/dev.stamp ## take a picture of each page of the demo, light and dark, wide and narrow; writes docs/images
	$(BIN)/python -m tests.browser.pictures $(ARGS)

torture: $(VENV)/dev.stamp ## kill the service 25 times and count what is left; ARGS=--replicas: one of three on Postgres
	$(BIN)/python -m tests.torture --kills 25 $(ARGS)

env-example: $(VENV)/runtime.stamp ## make .env.example anew from the settings
	$(BIN)/churn-radar settings --format env > .env.example

UV_COMPILE := uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-strip-extras \
	--no-emit-index-url --no-header

lock: ## resolve the lock files anew (needs uv)
	$(UV_COMPILE) --upgrade pyproject.toml --extra build --extra dev --extra redis --extra sqs --extra peers -o requirements-dev.lock
	$(UV_COMPILE) --constraint requirements-dev.lock pyproject.toml --extra build -o requirements.lock
	$(UV_COMPILE) --constraint requirements-dev.lock pyproject.toml --extra build --extra redis --extra sqs -o requirements-image.lock

clean: ## remove the environment and every cache
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .coverage .coverage.* htmlcov dist build

$(VENV)/python.stamp:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "churn_radar needs Python 3.11 or newer; say which one: make PYTHON=python3.12 ..." >&2; exit 1; }
	@echo "Making the environment in $(VENV) (once; about half a minute) ..."
	@$(PYTHON) -m venv $(VENV) || \
		{ echo "python3 -m venv failed; on Debian and Ubuntu: apt-get install python3-venv" >&2; exit 1; }
	@touch $@

# The package itself is installed in place, with the locked build tools, so that nothing unlisted is fetched.
$(VENV)/runtime.stamp: $(VENV)/python.stamp requirements.lock pyproject.toml
	@$(SYNC) requirements.lock
	@$(BIN)/python -m pip install --quiet --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

$(VENV)/dev.stamp: $(VENV)/runtime.stamp requirements-dev.lock
	@$(SYNC) requirements-dev.lock
	@touch $@
