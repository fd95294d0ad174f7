# Two commands set everything up on a fresh machine with Python >= 3.11 and make:
#   make demo   virtual environment, install, then the main job: a small SynthFair data set, verified, viewed, reported
#   make test   virtual environment, install with the development tools, then the test suite
# and `make docs` writes the documents as a site that opens without a network, site/index.html
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
SEED ?= 0
# not what else lies here, such as data sets with their cards
SOURCES := synthfair_hf tests benchmarks examples docs dataset_card loading_script model_card $(wildcard *.md)

.PHONY: demo test check docs bench clean

# torch first and pinned, so that a CPU build offered by pip's configuration is not replaced by a newer CUDA one
$(BIN)/synthfair: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet torch==2.13.0
	$(BIN)/python -m pip install --quiet --editable .
	touch $@

$(VENV)/.dev: $(BIN)/synthfair
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	touch $@

demo: $(BIN)/synthfair
	$(BIN)/synthfair demo --output_dir synthfair --seed $(SEED)

test: $(VENV)/.dev
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses 2 --dist worksteal --durations=25

check: $(VENV)/.dev docs
	$(BIN)/ruff check $(SOURCES)
	$(BIN)/ruff format --check $(SOURCES)
	$(BIN)/mypy
	$(BIN)/python -m pytest tests/test_layers.py

# strict: a link that leads nowhere, or a page outside of the navigation, is an error
docs: $(VENV)/.dev
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build

bench: $(VENV)/.dev
	$(BIN)/python benchmarks/composition.py

clean:
	rm -rf $(VENV) synthfair site build *.egg-info
