# setup: an environment in .venv and the data.  check, test: all there is to know before a commit.
# demo: the main jobs on the embedded default.   bench: one script a claim.
PYTHON ?= python3.11
BIN := .venv/bin
PACKAGES := $(patsubst %/__init__.py,%,$(wildcard common/__init__.py scenes/__init__.py speech/__init__.py text/__init__.py))
UV_VERSION := $(shell sed -n 's/^uv==\([^ ]*\).*/\1/p' requirements.lock)

.PHONY: setup demo test check format bench lock
.DEFAULT_GOAL := setup

setup: .venv/.installed
	@for name in prompts furniture bubblewrap; do \
	  $(BIN)/upspiral data get $$name >/dev/null \
	    || echo "setup: goes on without $$name; see the line above for what to do" >&2; \
	done

# uv installs, not pip: pip may prefer a torch build that torchaudio refuses.
.venv/.installed: requirements.lock pyproject.toml
	@command -v $(PYTHON) >/dev/null \
	  || { echo "setup: $(PYTHON) is not there; install Python 3.11 or set PYTHON=" >&2; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	test -x $(BIN)/uv || $(BIN)/python -m pip install --quiet "uv==$(UV_VERSION)"
	$(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python --require-hashes -r requirements.lock
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation -e .
	@touch $@

demo: setup
	$(BIN)/upspiral speech align --recipe demo --seed 0
	$(BIN)/upspiral scenes craft "a round table with four chairs around it, a lamp on a cabinet left of the sofa" --out demo/room

# A file at a time beside another one, each on one core: faster than two threads a file.
test: setup
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile

check: .venv/.installed
	$(BIN)/ruff check $(PACKAGES) tests benchmarks studies
	$(BIN)/ruff format --check $(PACKAGES) tests benchmarks studies
	$(BIN)/mypy $(PACKAGES)

format: .venv/.installed
	$(BIN)/ruff check --fix $(PACKAGES) tests benchmarks studies
	$(BIN)/ruff format $(PACKAGES) tests benchmarks studies

# Half an hour to an hour on two free cores: writes benchmarks/RESULTS.md.
bench: setup
	$(BIN)/python benchmarks/run.py

# After a change of the dependencies in pyproject.toml.
lock:
	$(BIN)/uv pip compile pyproject.toml --extra scenes --extra speech --extra text --extra ray --extra postgres --extra dev \
	  --python-version 3.11 --generate-hashes --no-emit-index-url --no-annotate --no-header \
	  --quiet -o requirements.lock
