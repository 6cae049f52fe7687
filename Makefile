# Each verb makes the virtual environment it needs. PYTHON chooses the interpreter (3.11 or newer).
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --disable-pip-version-check -q --no-compile -c constraints.txt
# On all cores, which pip does not, and without the tests of packages; files that are not for this Python are left out.
COMPILE := $(BIN)/python -m compileall -qq -j 0 -x '/tests?/' $(VENV)/lib || true

.PHONY: help setup run test test-slow test-cluster coverage check docs test-docs bench verify-long clean

help: ## what can be made
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 14

# torch goes first and alone, so that its pinned build is in place before anything else asks for torch.
$(VENV)/run.stamp: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "seqlab needs Python 3.11 or newer")'
	$(PYTHON) -m venv $(VENV)
	$(PIP) torch
	$(PIP) -e .
	@$(COMPILE)
	@touch $@

$(VENV)/dev.stamp: $(VENV)/run.stamp
	$(PIP) -e '.[dev,docs]'
	@$(COMPILE)
	@touch $@

setup: $(VENV)/dev.stamp ## set up for development

run: $(VENV)/run.stamp ## set up, then train an LSTM on the bundled names
	$(BIN)/python -m seqlab cell=lstm task=names

# The tests of a file stay in one worker, so that what they share is built or installed once.
PYTEST := $(BIN)/python -m pytest -n auto --dist loadfile --no-loadscope-reorder
WHICH ?= not slow and not cluster and not long

test: $(VENV)/dev.stamp ## set up, then run the tests (but the slow ones)
	$(PYTEST) -m '$(WHICH)'

test-slow: $(VENV)/dev.stamp ## the slow tests: the compiler, distributions of others installed by pip, the site
	$(PYTEST) -m 'slow and not long'

test-cluster: $(VENV)/dev.stamp ## sweeps on a real SLURM on loopback, which root on Debian installs; else they are skipped
	$(BIN)/python -m pytest -m 'cluster and not long' tests/cluster

# OmegaConf takes whoever traces for a debugger, and tells errors in another way, unless OC_CAUSE is 0.
coverage: $(VENV)/dev.stamp ## which lines of seqlab/ the fast tests reach, in the processes that they start too; 93 % at least
	OC_CAUSE=0 $(PYTEST) -m 'not slow and not cluster and not long' \
		--cov=seqlab --cov-report=term-missing:skip-covered --cov-fail-under=93

check: $(VENV)/dev.stamp ## lint, format, types, arrows between packages
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

docs: $(VENV)/dev.stamp ## the site, into docs/_build/html; a warning is an error
	$(BIN)/python -m sphinx -q -W --keep-going -b html docs docs/_build/html
	@echo "docs/_build/html/index.html"

test-docs: $(VENV)/dev.stamp ## run the code blocks and commands of the documentation
	$(BIN)/python -m pytest -n auto tests/docs

bench: $(VENV)/dev.stamp ## training throughput against a hand-written loop; wants a quiet machine
	$(BIN)/python benchmarks/training_throughput.py

verify-long: $(VENV)/dev.stamp ## the claims that take too long for every commit
	$(BIN)/python -m pytest -m long
	$(BIN)/python -m pytest -n auto -m 'not slow and not cluster and not long' --hypothesis-profile=new
	SEQLAB_KILLS=50 $(BIN)/python -m pytest tests/seqlab/sweeps/test_crashes.py
	$(BIN)/python benchmarks/names_table.py

clean: ## remove the environment and the caches
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
