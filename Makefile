# Two commands do everything on a fresh machine with git, make and Python 3.11+: `make demo` and `make test`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: help setup demo tutorial test check format benchmark benchmark-peers lock clean

help:  ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1|/' | column -t -s '|'

setup: $(READY)  ## make .venv with the command `deepmemory` in it; nothing when up to date

# torch comes first and alone, through pip: its plain pin takes a CPU build where one is offered, and uv,
# which is much faster with all the rest, then finds the requirement met.
$(READY): pyproject.toml constraints.txt scripts/setup
	@PYTHON="$(PYTHON)" VENV="$(VENV)" scripts/setup
	@touch $@

demo: setup  ## the main job on real input: crawl, store, learn, prove, search
	@$(BIN)/deepmemory demo

tutorial: setup  ## the tutorial, on a hub, a site and a language model of its own where none are given
	@$(BIN)/python examples/tutorial.py

test: setup  ## the tests
	@$(BIN)/python -m pytest -n auto --maxprocesses 4 --dist loadfile

check: setup  ## format, lint, types, layers, tests: what must pass before a commit
	@PATH="$(abspath $(BIN)):$$PATH" scripts/check

format: setup  ## put the code in its standard form
	@$(BIN)/ruff format . && $(BIN)/ruff check --fix .

benchmark: setup  ## the figures of docs/benchmarks.md; BENCHMARK_DATA names the folder of collections
	@$(BIN)/python benchmarks/run.py

benchmark-peers: setup  ## ours and the peers on the same splits, for docs/peers.md; PEERS has more arguments
	@$(BIN)/python -m benchmarks.peers run $(PEERS)

lock: setup  ## write constraints.txt anew
	@scripts/lock --upgrade

clean:  ## remove what make has made
	@rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .import_linter_cache benchmarks/peers/.envs benchmarks/peers/.cache
