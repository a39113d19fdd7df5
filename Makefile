# Two commands on a bare machine: `make quickstart` and `make test`. Both make .venv and install what they need.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# A CPU build of torch is enough for everything here; TORCH can name another, e.g. TORCH="torch==2.13.0+cu128".
TORCH ?= torch==2.13.0

.PHONY: quickstart test quick-test lint format bench clean

quickstart: $(STAMP)
	$(BIN)/foveal quickstart

test: $(STAMP) lint
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile

quick-test: $(STAMP)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile -m "not slow"

lint: $(STAMP)
	$(BIN)/ruff check src tests scripts benchmarks
	$(BIN)/ruff format --check src tests scripts benchmarks
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

format: $(STAMP)
	$(BIN)/ruff check --fix src tests scripts benchmarks
	$(BIN)/ruff format src tests scripts benchmarks

bench: $(STAMP)
	$(BIN)/pip install -q -c constraints.txt trl
	$(BIN)/python benchmarks/pictures.py
	$(BIN)/python benchmarks/training.py

# torch first and alone: the other packages then keep it, where they would otherwise take the newest build.
$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q "$(TORCH)"
	$(BIN)/python -m pip install -q -c constraints.txt -e ".[dev,quant]"
	@touch $(STAMP)

clean:
	rm -rf $(VENV) build dist runs .pytest_cache .mypy_cache .ruff_cache
