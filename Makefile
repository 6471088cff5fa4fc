# HIVE's commands. `make help` lists them. Needs Python 3.11 or newer and make, and nothing else.

# The interpreter that .venv and .poetry were made with, by its path. `make install PYTHON=…` changes it.
CHOICE := .python
PYTHON ?= $(firstword $(wildcard $(file <$(CHOICE))) python3)
POETRY_VERSION := 2.5.1
MIRROR_PLUGIN_VERSION := 0.6.5
CLIENT_GENERATOR_VERSION := 0.29.1

# Poetry gets the index that pip is set up for.
POETRY := .poetry/bin/python scripts/poetry.py
BIN := .venv/bin
TOOLS_READY := .poetry/ready
READY := .venv/ready
GENERATOR_READY := .client-generator/ready

export POETRY_VIRTUALENVS_IN_PROJECT := true
export POETRY_VIRTUALENVS_CREATE := true
export POETRY_NO_INTERACTION := 1
# A virtual environment that happens to be active is not ours.
unexport VIRTUAL_ENV
unexport PYTHONPATH

.DEFAULT_GOAL := help
.PHONY: help run test coverage chaos fuzz siege bench bench-compare lint types format migrate revision api worker relay scheduler doctor install lock clean FORCE

help: ## List the commands
	@awk 'BEGIN {FS = ":.*## "} /^[a-z-]+:.*## / {printf "make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

run: $(READY) ## Start the whole system: servers, migrations, API, relay, worker, scheduler
	@exec $(BIN)/hive run

test: $(READY) $(GENERATOR_READY) ## Run every test on servers of its own (ARGS="-k name" goes on to pytest)
	@exec $(BIN)/python scripts/run_tests.py $(ARGS)

coverage: $(READY) $(GENERATOR_READY) ## Run every test and print the share of lines that they reach; it has to be 85 %
	@exec $(BIN)/python scripts/run_tests.py --cov --cov-report=term $(ARGS)

chaos: $(READY) ## Kill parts of a running system at full scale, and count what is lost (ARGS= goes on to pytest)
	@exec $(BIN)/python -m pytest -m reliability --chaos -n0 -s $(ARGS)

fuzz: $(READY) ## Have machines make requests by the thousand (ARGS= goes on to pytest)
	@exec $(BIN)/python -m pytest -m fuzz --fuzz -n0 -s $(ARGS)

siege: $(READY) ## Attack a running system as strangers would, and print what it cost others (ARGS= goes on to pytest)
	@exec $(BIN)/python -m pytest -m siege --siege -n0 -s $(ARGS)

bench: $(READY) ## Measure HIVE beside its ceilings (ONLY=reads,jobs SIZE=small); with URL=, time a running server's calls
	@$(if $(ONLY),:,$(BIN)/python tests/performance/basic_api_benchmark.py $(if $(URL),--url $(URL)))
	@$(if $(URL),:,exec $(BIN)/python -m bench.system_benchmark $(if $(ONLY),--only $(ONLY)) $(if $(SIZE),--size $(SIZE)))

bench-compare: $(READY) ## Set two results of the benchmark side by side: the last two, or A=… B=…
	@exec $(BIN)/python -m bench.report.comparison $(if $(A),--a $(A)) $(if $(B),--b $(B))

lint: $(READY) ## Check style and layers
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/lint-imports

types: $(READY) ## Check types
	@$(BIN)/mypy

format: $(READY) ## Bring the code into form
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

migrate: $(READY) ## Bring the database to the newest revision
	@exec $(BIN)/hive migrate

revision: $(READY) ## Write a revision from the models: make revision M="Add labels"
	@test -n "$(M)" || { echo 'Say what it does: make revision M="Add labels"' >&2; exit 1; }
	@exec $(BIN)/alembic revision --autogenerate -m "$(M)"

api worker relay scheduler doctor: $(READY)
	@exec $(BIN)/hive $@
api: ## Run one API process
worker: ## Run a worker for background jobs
relay: ## Run a relay for events and jobs
scheduler: ## Run the scheduler for jobs that come by the clock
doctor: ## Say what is configured and whether each part answers

install: $(READY) ## Install what is missing and start nothing

lock: $(TOOLS_READY) ## Resolve the dependencies anew
	@$(POETRY) lock

clean: ## Remove what was installed here; data stays
	@rm -rf .poetry .venv .client-generator $(CHOICE) .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .coverage*

# Where the interpreter is that a virtual environment, or the interpreter itself, runs.
WHERE := import os, sys; print(os.path.realpath(sys._base_executable))

# It is written when there is none, and looked at again whenever PYTHON is given.
$(CHOICE): $(if $(filter file,$(origin PYTHON)),,FORCE)
	@"$(PYTHON)" -c '' 2>/dev/null \
		|| { echo "There is no $(PYTHON) on this machine. Name one that is: make install PYTHON=/path/to/python3" >&2; exit 1; }
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "HIVE needs Python 3.11 or newer; $(PYTHON) is not. Try: make PYTHON=python3.12 …" >&2; exit 1; }
	@"$(PYTHON)" -c '$(WHERE)' >$@.new
	@cmp -s $@.new $@ && rm $@.new || mv $@.new $@

FORCE:

$(TOOLS_READY): Makefile $(CHOICE)
	@echo "Installing Poetry $(POETRY_VERSION) into .poetry …"
	@rm -rf .poetry
	@"$(PYTHON)" -m venv .poetry \
		|| { echo "Python's venv module is missing; Debian and Ubuntu have it as python3-venv." >&2; exit 1; }
	@.poetry/bin/python -m pip install --disable-pip-version-check \
		"poetry==$(POETRY_VERSION)" "poetry-plugin-pypi-mirror==$(MIRROR_PLUGIN_VERSION)" \
		>.poetry/log 2>&1 || { cat .poetry/log >&2; exit 1; }
	@touch $@

# It wants an older typer than HIVE has, so it can't be in a group of pyproject.toml.
$(GENERATOR_READY): Makefile $(CHOICE)
	@echo "Installing openapi-python-client $(CLIENT_GENERATOR_VERSION) into .client-generator …"
	@rm -rf .client-generator
	@"$(PYTHON)" -m venv .client-generator
	@.client-generator/bin/python -m pip install --disable-pip-version-check \
		"openapi-python-client==$(CLIENT_GENERATOR_VERSION)" \
		>.client-generator/log 2>&1 || { cat .client-generator/log >&2; exit 1; }
	@touch $@

$(READY): $(TOOLS_READY) $(CHOICE) pyproject.toml poetry.lock
	@echo "Installing HIVE into .venv …"
	@test "$$(.venv/bin/python -c '$(WHERE)' 2>/dev/null)" = "$$(cat $(CHOICE))" \
		|| { rm -rf .venv && "$(PYTHON)" -m venv .venv; }
	@$(POETRY) sync --no-ansi >.poetry/log 2>&1 || { cat .poetry/log >&2; exit 1; }
	@touch $@
