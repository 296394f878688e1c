# `make demo` and `make test` need nothing but Python 3.11 to 3.13 and make: each makes .venv itself, from requirements.lock.

PYTHON ?= $(firstword $(foreach p,python3.11 python3.12 python3.13 python3,$(shell command -v $(p))))
UV := $(shell command -v uv)
BIN := .venv/bin

# The tests start many processes: the later ones find what the first has compiled.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: setup demo check test test-slow test-all methods settings-page docs bench bundle

setup: .venv/.ready

demo: .venv/.ready
	$(BIN)/medssl demo --out runs/demo --overwrite

check: .venv/.ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/pyright --pythonpath $(BIN)/python
	$(BIN)/python tests/house_style.py

# Two processes. A file's tests stay in one of them, with what they share; the files come in the order of tests/conftest.py.
PYTEST := $(BIN)/pytest -n 2 --dist loadfile --no-loadscope-reorder

# At every change: all but what is marked slow.
test: .venv/.ready
	$(PYTEST) -m "not slow"

# Many processes, kills at every call, planted faults, examples run in a copy of the package.
test-slow: .venv/.ready
	$(PYTEST) -m slow --durations=40 --durations-min=5

test-all: test test-slow

methods: .venv/.ready
	$(BIN)/python tests/curves.py
	$(BIN)/pytest tests/methods tests/contracts tests/test_planted_faults.py --write-methods

settings-page: .venv/.ready
	$(BIN)/medssl settings --markdown > docs/settings.md

# The documentation as a site that opens from a folder: site/index.html.
docs: .venv/.ready
	$(BIN)/python tests/commands_page.py
	$(BIN)/python tests/launches_page.py
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

bench: .venv/.ready
	$(BIN)/python benchmarks/bench.py

# One archive for a machine without a network: docs/how_to/gpu_server.md. With the images that are in this machine's Docker.
bundle:
	PYTHON=$(PYTHON) docker/bundle.sh dist/medssl-bundle.tar

# The lock holds names, versions and hashes; what is installed is what it says. uv, where it is there, does the same faster. A module is
# compiled when it is first used, as uv has it: most of them never are.
.venv/.ready: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(not (3, 11) <= v <= (3, 13) and f"medssl needs Python 3.11 to 3.13, $(PYTHON) is {v[0]}.{v[1]}. Name another one: make PYTHON=/path/to/python3.11")'
ifdef UV
	uv venv --quiet --clear --python $(PYTHON) .venv
	uv pip install --quiet --python $(BIN)/python --require-hashes -r requirements.lock
	uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation -e .
else
	$(PYTHON) -m venv --clear .venv
	$(BIN)/python -m pip install --quiet --no-compile --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation -e .
endif
	@touch $@
