# Two commands: `make run` (set-up + demo) and `make test` (set-up + lint + types + import contracts + tests).
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt

.PHONY: run test setup setup-dev lint format map bench clean

run: setup
	$(BIN)/jaspertc demo

test: setup-dev lint
	$(BIN)/python -m pytest -n 2 --dist worksteal

$(VENV)/.run: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) "torch==$$(sed -n 's/^torch==//p' constraints.txt)"
	$(PIP) --editable ".[all]"
	touch $@

$(VENV)/.dev: $(VENV)/.run
	$(PIP) --editable ".[dev]"
	touch $@

setup: $(VENV)/.run
setup-dev: $(VENV)/.dev

lint: setup-dev
	$(BIN)/ruff check src tests lab
	$(BIN)/ruff format --check src tests lab
	$(BIN)/mypy
	$(BIN)/lint-imports

format: setup-dev
	$(BIN)/ruff check --fix src tests lab
	$(BIN)/ruff format src tests lab

map: setup-dev
	$(BIN)/python -m lab.map

bench: setup-dev
	$(BIN)/python -m lab.compare

clean:
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
