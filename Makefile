# make demo | make test | make test-fast | make check: each makes its environment in .venv first, where it is missing
# or stale.

PYTHON ?= python3
# CUDA users, or another build of torch: make demo TORCH='torch==2.13.0+cu130' TORCH_INDEX=<index of those builds>
TORCH ?= torch==2.13.0
TORCH_INDEX ?=
# The public suites that the tests compare verdicts on; without its dependencies, which are clients of many vendors.
BFCL := bfcl-eval==2026.3.23
BIN := .venv/bin
PARALLEL := --numprocesses logical --dist worksteal

.PHONY: help demo test test-fast check docs format clean

help:
	@echo "make demo       generate, train and evaluate on smart_home, on real models (about 20 minutes on 2 cores)"
	@echo "make test       the whole test suite, the end-to-end tests on real models included"
	@echo "make test-fast  all tests but the slow ones: no real models, at most 4 minutes on 2 cores"
	@echo "make check      ruff, mypy --strict, drift of the exported schemas and of docs/cli.md"
	@echo "make docs       write docs/cli.md and the overview picture again, after a change of the command line"
	@echo "make format     let ruff format and sort"
	@echo "make clean      remove .venv and runs/"

.venv/.installed: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet $(if $(TORCH_INDEX),--index-url $(TORCH_INDEX)) '$(TORCH)'
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev,all]'
	$(BIN)/python -m pip install --quiet --no-deps '$(BFCL)'
	touch $@

demo: .venv/.installed
	$(BIN)/python evals/smart_home/demo.py

test: .venv/.installed
	$(BIN)/python -m pytest $(PARALLEL)

# The slowest tests are listed: one that takes more than 10 s on a quiet core is to be made faster or marked slow.
test-fast: .venv/.installed
	$(BIN)/python -m pytest $(PARALLEL) -m "not slow" --durations 10

check: .venv/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/fcdistill schemas export --check

docs: .venv/.installed
	$(BIN)/python -m typer fcdistill.cli utils docs --name fcdistill --title 'All commands' --output docs/cli.md
	$(BIN)/python docs/draw.py

format: .venv/.installed
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf .venv runs
