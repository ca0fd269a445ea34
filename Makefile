# make demo | test | test-all | bench | docs | clean; PYTHON=python3.13 chooses another interpreter.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
CHECKED := src tests $(wildcard benchmarks notebooks docs/*.py docs/_ext)

.DEFAULT_GOAL := help
.PHONY: help demo test test-all bench docs clean

help:
	@echo "make demo      assess the bundled image in a new .venv and say where the page is"
	@echo "make test      style, types and the quick tests"
	@echo "make test-all  the slow tests too"
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
	$(BIN)/pytest -n 2

test-all: test
	$(BIN)/pytest -m slow

bench: $(VENV)/.installed
	$(BIN)/python -m benchmarks

docs: $(VENV)/.installed-test
	$(BIN)/python -m sphinx -W --keep-going -j auto -b html docs docs/_build/html
	@echo "Open docs/_build/html/index.html"

clean:
	rm -rf $(VENV) build dist gigaqc-demo docs/_build docs/api docs/metrics/tables docs/cli.md docs/notebooks \
	  .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find src tests -name __pycache__ -type d -prune -exec rm -rf {} +
