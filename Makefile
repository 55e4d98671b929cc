# make train: set everything up and run the main job.  make test: set up and pass lint, types, tests.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready

.PHONY: train test test-all test-gpu lint types format golden zoo clean

train: $(READY)
	$(BIN)/pir train env=countdown

# Files of tests run side by side, one a core; more threads in each would be in each other's way.
# They run in the order in which tests/conftest.py puts them: xdist's own would leave files of one long
# test for the end, when the other core has nothing to do.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses auto --dist loadfile \
	--no-loadscope-reorder

test: lint types
	$(PYTEST) -m "not slow and not gpu"

# The slow tests too, and those of the extras that bring language models and a peer to measure.
test-all: lint types
	$(BIN)/python -m pip install --constraint constraints.txt --editable '.[dev,lm,bench]'
	$(PYTEST)

# The tests that need a CUDA device, a minute of training per reasoner among them, some side by side.
# Then the time of a training step at the sizes of the papers.
test-gpu: $(READY)
	@found=$$($(BIN)/python -c 'import torch; print(torch.cuda.is_available())') && \
	if [ "$$found" = True ]; then $(PYTEST) --maxprocesses 8 -m gpu && $(BIN)/pir bench train preset=paper; \
	else echo "make test-gpu: torch finds no CUDA device here, so there is nothing to test"; fi

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: $(READY)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# mypy sees the folders where they are installed: inside the package.
types: $(READY)
	rm -rf build/types
	mkdir -p build/types
	cp -rs "$(CURDIR)/pir" build/types/pir
	for folder in envs configs analysis; do ln -s "$(CURDIR)/$$folder" build/types/pir/$$folder; done
	cd build/types && "$(CURDIR)/$(BIN)/mypy" -p pir --config-file "$(CURDIR)/pyproject.toml"

# Rewrites the golden files after a change that is meant to change them.
golden: $(READY)
	$(BIN)/python -m tests.golden

# Rewrites the table of trained models in docs/zoo.md.
zoo: $(READY)
	$(BIN)/python -m tests.zoo_table

$(READY): pyproject.toml setup.py constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "pir needs Python 3.11 or newer")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --constraint constraints.txt --editable '.[dev]'
	touch $(READY)

clean:
	rm -rf build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache
