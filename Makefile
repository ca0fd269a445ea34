# make demo | test | test-long | test-all | bench | docs | clean; PYTHON=python3.13 chooses another interpreter.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
# Two at a time; a file's tests stay together, so that what they share is made once.
PYTEST := $(BIN)/pytest -n 2 --dist loadfile
CHECKED := src tests $(wildcard benchmarks notebooks docs/*.py docs/_ext)

# Each of the hundred processes that tests start would compile the modules anew.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help demo test test-long test-all bench docs clean

help:
	@echo "make demo      assess the bundled image in a new .venv and say where the page is"
	@echo "make test      style, types and the quick tests"
	@echo "make test-long what takes longer: the documentation, notebooks, more drawings"
	@echo "make test-all  both, and the slow tests, which take minutes or much memory each"
	@echo "make bench     what it costs, as one table of ratios"
	@echo "make docs      the documentation; with GIGAQC_DATA=... its notebooks are executed"
	@echo "make clean     remove .venv and everything built"

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "gigaqc needs Python 3.11 or newer, and '$(PYTHON)' is: $$($(PYTHON) --version 2>&1)." >&2; \
	  echo "Name another one, for example: make PYTHON=python3.13 $(MAKECMDGOALS)" >&2; exit 1; }
	@$(PYTHON) -m venv --clear $(VENV) || { rm -rf $(VENV); \
	  echo "'$(PYTHON) -m venv' failed; on Debian and Ubuntu: apt-get install python3-venv" >&2; exit 1; }

# The stamps make an installation happen once, and again only when pyproject.toml changes.
$(VENV)/.installed: pyproject.toml | $(BIN)/python
	@echo "Installing gigaqc into $(VENV) (the first time, a minute or two) ..."
	@$(PIP) install -q -e .
	@touch $@

$(VENV)/.installed-test: pyproject.toml | $(BIN)/python
	@echo "Installing gigaqc and what its tests need into $(VENV) ..."
	@$(PIP) install -q -e '.[test]'
	@touch $@ $(VENV)/.installed

demo: $(VENV)/.installed
	$(BIN)/gigaqc demo

test: $(VENV)/.installed-test
	$(BIN)/ruff check $(CHECKED)
	$(BIN)/ruff format --check $(CHECKED)
	$(BIN)/mypy
	$(PYTEST)

# What `make test` leaves out, and the drawn tests again, with all the drawings they ask for.
test-long: $(VENV)/.installed-test
	HYPOTHESIS_PROFILE=full $(PYTEST) -m "(long or hypothesis) and not slow and not gpu"

test-all: test test-long
	$(BIN)/pytest -m "slow and not gpu"

bench: $(VENV)/.installed
	$(BIN)/python -m benchmarks

docs: $(VENV)/.installed-test
	$(BIN)/python -m sphinx -W --keep-going -j auto -b html docs docs/_build/html
	@echo "Open docs/_build/html/index.html"

clean:
	rm -rf $(VENV) build dist gigaqc-demo docs/_build docs/api docs/metrics/tables docs/cli.md docs/notebooks \
	  .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find src tests -name __pycache__ -type d -prune -exec rm -rf {} +
