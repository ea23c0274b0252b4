# One command each: `make app` opens the dashboard, `make test` proves that it works. `make help` lists the rest.
#
#   make app HOST=0.0.0.0 PORT=9000      listen on every interface (the default is this computer only)
#   make test ARGS="tests/core -k gan"   a part of the tests; ARGS="-n 0 --pdb" in one process
#   make app PYTHON=python3.13           another interpreter; VENV=path puts the environment elsewhere

SHELL  := /bin/sh
PYTHON ?= python3
VENV   ?= .venv
HOST    = 127.0.0.1
PORT   ?= 8501
WORKERS ?= 2
ARGS   ?=

RUN := $(VENV)/bin/python
PIP := $(RUN) -m pip --quiet --disable-pip-version-check

# An environment is fresh while it holds the stamp of the requirements' present content. File times would not do: a
# fresh clone is newer than an environment that is kept between runs.
APP := $(VENV)/.app-$(shell cat requirements.txt | cksum | tr -d ' ')
DEV := $(VENV)/.dev-$(shell cat requirements.txt requirements-dev.txt | cksum | tr -d ' ')
# Stamps mean nothing when the interpreter behind the environment is gone, so then they are made again.
MISSING := $(if $(shell $(RUN) -c 'import pip' 2>/dev/null && echo alive),,missing)

.DEFAULT_GOAL := help
.PHONY: help app test lint format bench gallery venv clean missing

help:  ## Show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

app: $(APP)  ## Install if needed, then serve the dashboard on http://127.0.0.1:8501
	@exec $(RUN) -m streamlit run app.py --server.address $(HOST) --server.port $(PORT) \
		--server.headless true --server.fileWatcherType none $(ARGS)

test: $(DEV)  ## Run all tests
	@$(RUN) -m pytest -n $(WORKERS) --dist loadfile $(ARGS)

lint: $(DEV)  ## Check style, format and types
	@$(RUN) -m ruff check .
	@$(RUN) -m ruff format --check .
	@$(RUN) -m pyright --pythonpath $(RUN)

format: $(DEV)  ## Rewrite the code in the project's format
	@$(RUN) -m ruff check --fix-only --quiet .
	@$(RUN) -m ruff format .

bench: $(DEV)  ## Measure what we claim about speed
	@set -e; for file in benchmarks/[a-z]*.py; do \
		[ -e "$$file" ] || { echo "There is no benchmark yet."; exit 0; }; \
		name=$$(basename "$$file" .py); echo "== $$name"; $(RUN) -m "benchmarks.$$name" $(ARGS); done

gallery: $(APP)  ## Train and pack the runs that ship with the code; takes about half an hour
	@$(RUN) -m core.gallery $(ARGS)

venv: $(DEV)  ## Install everything for development, and nothing else

clean:  ## Remove the environment in .venv and what tools have cached; trained runs stay
	rm -rf .venv .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -not -path './var/*' -prune -exec rm -rf {} +

# Nothing makes this, so whatever needs it is made again.
missing:

# An environment is kept if it works with a Python that is new enough, and is made anew otherwise.
define install
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
		echo "Simulacra needs Python 3.11 or newer, and '$(PYTHON)' is $$($(PYTHON) --version 2>&1 | tail -n 1)." \
			"Install one, then run for example: make $(MAKECMDGOALS) PYTHON=python3.11" >&2; exit 1; }
	@$(RUN) -c 'import sys, pip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
		if [ -e $(VENV)/pyvenv.cfg ]; then rm -rf $(VENV); fi; $(PYTHON) -m venv $(VENV); }
	@echo "Installing $(1) into $(VENV); PyTorch is large, so the first time takes some minutes." >&2
	@$(PIP) install -r $(1)
	@rm -f $(VENV)/.app-* $(VENV)/.dev-*
endef

$(APP): $(MISSING)
	$(call install,requirements.txt)
	@touch $@

$(DEV): $(MISSING)
	$(call install,requirements-dev.txt)
	@touch $(APP) $@
