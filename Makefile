# One command each: `make app` opens the dashboard, `make test` proves that it works. `make help` lists the rest.
#
#   make app HOST=0.0.0.0 PORT=9000      listen on every interface (the default is this computer only)
#   make app HOSTS=demo.example.org      the names that visitors reach it by, through a proxy on this computer
#   make test ARGS="tests/core -k gan"   a part of the tests; ARGS="-n 0 --pdb" in one process
#   make app PYTHON=python3.13           another interpreter; VENV=path puts the environment elsewhere

SHELL  := /bin/sh
PYTHON ?= python3
VENV   ?= .venv
HOST    = 127.0.0.1
HOSTS   =
PORT   ?= 8501
WORKERS ?= 2
ARGS   ?=

# Two environments: $(VENV) holds what the app needs and nothing else, so that the tests can start the app as its users
# get it. $(VENV)/dev holds what only development needs, and sees the other one through a .pth file.
RUN := $(VENV)/bin/python
DEVRUN := $(VENV)/dev/bin/python
PIP := -m pip --quiet --disable-pip-version-check
EXTRAS := $(sort $(filter-out requirements-dev.txt,$(wildcard requirements-*.txt)))

# An environment is fresh while it holds the stamp of the requirements' present content. File times would not do: a
# fresh clone is newer than an environment that is kept between runs.
APP := $(VENV)/.app-$(shell cat requirements.txt constraints.txt | cksum | tr -d ' ')
DEV := $(VENV)/dev/.dev-$(shell cat requirements.txt requirements-dev.txt constraints.txt | cksum | tr -d ' ')
EXTRA := $(VENV)/.extras-$(shell cat $(EXTRAS) constraints.txt | cksum | tr -d ' ')
# Stamps mean nothing when the interpreter behind the environment is gone, so then they are made again.
MISSING := $(if $(shell $(RUN) -c 'import pip' 2>/dev/null && echo alive),,missing)

# Whoever listens on this computer only is reached by its names only: a page elsewhere whose name was made to point
# here gets nothing. On every interface the names are not known, unless HOSTS says them.
NAMES := $(strip $(HOSTS) $(if $(HOSTS)$(filter 127.0.0.1 localhost ::1,$(HOST)),127.0.0.1 localhost ::1))

.DEFAULT_GOAL := help
.PHONY: help app test test-engines lint format bench gallery extras venv clean missing

help:  ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

app: $(APP)  ## Install if needed, then serve the dashboard on http://127.0.0.1:8501
	@exec $(RUN) -m streamlit run app.py --server.address $(HOST) --server.port $(PORT) \
		--server.headless true --server.fileWatcherType none \
		$(foreach name,$(NAMES),--server.allowedHosts '$(name)') $(ARGS)

extras: $(EXTRA)  ## Install what some features need on top, from the requirements-*.txt beside requirements.txt

test: $(DEV)  ## Run all tests
	@SIMULACRA_BARE_PYTHON='$(abspath $(RUN))' $(DEVRUN) -m pytest -n $(WORKERS) --dist loadfile $(ARGS)

test-engines: $(DEV)  ## Run the tests that need other programs, such as nginx, as far as they are installed
	@$(DEVRUN) -m pytest -m engines tests/engines $(ARGS)

lint: $(DEV)  ## Check style, format and types
	@$(DEVRUN) -m ruff check .
	@$(DEVRUN) -m ruff format --check .
	@$(DEVRUN) -m pyright --pythonpath $(DEVRUN)

format: $(DEV)  ## Rewrite the code in the project's format
	@$(DEVRUN) -m ruff check --fix-only --quiet .
	@$(DEVRUN) -m ruff format .

bench: $(DEV)  ## Measure what we claim about speed and quality, and write it into docs/evidence.md
	@set -e; for file in benchmarks/[a-df-z]*.py benchmarks/engine.py benchmarks/evaluation.py; do \
		name=$$(basename "$$file" .py); echo "== $$name"; $(DEVRUN) -m "benchmarks.$$name" $(ARGS); done

gallery: $(APP)  ## Train and pack the runs that ship with the code; takes about half an hour
	@$(RUN) -m core.gallery $(ARGS)

venv: $(DEV)  ## Install everything for development, and nothing else

clean:  ## Remove the environment in .venv and what tools have cached; trained runs stay
	rm -rf .venv .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -not -path './var/*' -prune -exec rm -rf {} +

# Nothing makes this, so whatever needs it is made again.
missing:

# Installs the requirements $(2) with the interpreter $(1): every package in the version of constraints.txt where those
# were taken, and elsewhere only those that the requirements name.
define install
	@where=$$($(1) -c 'import platform, sys; print(sys.platform, platform.machine(), *sys.version_info[:2])'); \
	if [ "$$where" = "linux x86_64 3 11" ]; then held="-c constraints.txt"; else held=""; \
		echo "constraints.txt is for Python 3.11 on Linux (x86-64), and this is $$where: only the packages that $(2)" \
			"names have a fixed version here." >&2; fi; \
	echo "Installing $(2) into $(dir $(patsubst %/,%,$(dir $(1)))); it may take some minutes." >&2; \
	$(1) $(PIP) install $$held $(foreach file,$(2),-r $(file))
endef

# An environment is kept if it works with a Python that is new enough, and is made anew otherwise.
$(APP): $(MISSING)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
		echo "Simulacra needs Python 3.11 or newer, and '$(PYTHON)' is $$($(PYTHON) --version 2>&1 | tail -n 1)." \
			"Install one, then run for example: make $(MAKECMDGOALS) PYTHON=python3.11" >&2; exit 1; }
	@$(RUN) -c 'import sys, pip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
		if [ -e $(VENV)/pyvenv.cfg ]; then rm -rf $(VENV); fi; $(PYTHON) -m venv $(VENV); }
	$(call install,$(RUN),requirements.txt)
	@rm -f $(VENV)/.app-*
	@touch $@

$(EXTRA): $(APP)
	$(call install,$(RUN),$(EXTRAS))
	@rm -f $(VENV)/.extras-*
	@touch $@

$(DEV): $(APP)
	@rm -rf $(VENV)/dev
	@$(RUN) -m venv $(VENV)/dev
	@packages='import sysconfig; print(sysconfig.get_path("purelib"))'; \
		$(RUN) -c "$$packages" >"$$($(DEVRUN) -c "$$packages")/app.pth"
	$(call install,$(DEVRUN),requirements-dev.txt)
	@touch $@
