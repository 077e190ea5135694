# fedjury: make demo, make test. Everything is installed into .venv and nothing outside it.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt

.PHONY: help demo test test-fast test-all check format docs setup dev bench chaos fuzz notebook screenshots clean

help:  ## Show this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 10

demo: setup  ## Set up, then show one attack against three defences (1,000 agents, a minute)
	@$(BIN)/python run.py --demo

PYTEST := $(BIN)/python -m pytest --dist loadscope --no-loadscope-reorder -n
WAITING := $(shell expr 2 + $$(nproc 2>/dev/null || echo 2))

test: dev  ## Set up, then run the tests, but for long sweeps, browsers and fresh installations
	@$(PYTEST) $(WAITING) -m 'not chaos and not browser and not slow'

test-fast: dev  ## What needs no broker and no other program: functions and federations in memory
	@$(PYTEST) auto -m 'not chaos' tests/unit tests/federation

test-all: dev  ## All tests (Chromium, Node.js, Prometheus and Mosquitto have to be installed)
	@$(PYTEST) $(WAITING)

check: dev  ## Lint and type-check
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy .

format: dev  ## Format the code and mend what can be mended
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

docs: setup  ## Write the plug-ins there are into docs/plugins.md and README.md
	@$(BIN)/python -m fedjury.registry.listing

chaos: setup  ## Kill, stall and flood small federations, and print what came of it (15 minutes)
	@$(BIN)/python -m tools.chaos

fuzz: dev  ## Fuzz everything that decodes what strangers send (ten minutes; Linux on x86-64)
	@$(PIP) atheris || { echo "Atheris, the fuzzer, cannot be installed here"; exit 1; }
	@$(BIN)/python -m tools.fuzz

bench: setup  ## Measure everything beside its targets (a quarter of an hour)
	@$(BIN)/python -m tools.benchmarks.bench

notebook: setup  ## Open the notebook that trains the classifier, in JupyterLab
	@$(PIP) jupyterlab
	@$(BIN)/python -m jupyterlab --notebook-dir=examples \
		--LabApp.default_url=/lab/tree/classifier.ipynb $(if $(filter 0,$(shell id -u)),--allow-root)

screenshots: dev  ## Take the pictures of the live page in docs/ (needs Chromium; a minute)
	@$(BIN)/python -m fedjury.monitor.web.screenshots

setup: $(VENV)/.ready  ## Make the virtual environment
dev: $(VENV)/.ready-dev

$(VENV)/.ready: requirements.txt constraints.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "fedjury needs Python 3.11 or later; say which: make demo PYTHON=/path/to/python3.11"; exit 1; }
	@echo "setting up $(VENV) (1.6 GB, a minute or more)"
	@$(PYTHON) -m venv $(VENV) \
		|| { echo "cannot make a virtual environment; on Debian and Ubuntu: apt install python3-venv"; exit 1; }
	@$(PIP) -r requirements.txt -e .
	@touch $@

$(VENV)/.ready-dev: $(VENV)/.ready requirements-dev.txt
	@$(PIP) -r requirements-dev.txt
	@touch $@

clean:  ## Remove the virtual environment and caches; runs/ stays
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis
