# Everything runs in a virtual environment that is made on first use.
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
STAMP = $(VENV)/.installed

.PHONY: help demo test slow check bench vectors fuzz format clean

help:            ## Show this list
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## */\t/' | expand -t 12

$(STAMP): setup.cfg setup.py pyproject.toml constraints.txt $(wildcard nervcodec/fast/*.[ch])
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet -c constraints.txt -e '.[dev]'
	touch $(STAMP)

demo: $(STAMP)   ## Install, then encode, decode and compare a real clip (minutes)
	$(BIN)/python -m tools.demo

test: $(STAMP)   ## Run the tests (under 10 minutes)
	$(BIN)/python -m pytest -m 'not slow and not gpu'

slow: $(STAMP)   ## Run the tests that take longer
	$(BIN)/python -m pytest -m slow

check: $(STAMP)  ## Lint and type-check
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(STAMP)  ## Print speed and memory as JSON and tables (about an hour)
	$(BIN)/python -m benchmarks.speed
	$(BIN)/python -m benchmarks.decode
	$(BIN)/python -m benchmarks.training
	$(BIN)/python -m benchmarks.workers
	$(BIN)/python -m benchmarks.presets --clip bunny --bytes 60000
	$(BIN)/python -m benchmarks.time_to_quality

vectors: $(STAMP) ## Make the conformance vectors again
	$(BIN)/python -m tools.make_vectors

fuzz: $(STAMP)   ## Fuzz everything that reads files for a while (FUZZ_SECONDS=60 a target)
	$(BIN)/pip install --quiet -c constraints.txt -e '.[fuzz]'
	for target in $$($(BIN)/python -m tools.fuzz --list); do \
	    $(BIN)/python -m tools.fuzz $$target --seconds $(or $(FUZZ_SECONDS),60) || exit 1; \
	done

format: $(STAMP) ## Format the code
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:           ## Remove the environment, caches and the demo's files
	rm -rf $(VENV) nervcodec/fast/*.so demo build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
