# Nothing outside .venv and the package caches is touched. `make help` lists the targets.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

# Not in requirements.lock: its CPU and CUDA builds differ, so the machine's index decides.
TORCH := torch==2.13.0

BIN := .venv/bin
READY := .venv/.ready
PIP := $(BIN)/python -m pip --disable-pip-version-check --no-input

# Python processes of the targets: nothing from the user's own environment, no hub, no prompts.
export PYTHONNOUSERSITE := 1
unexport PYTHONPATH PYTHONHOME VIRTUAL_ENV

FAST := tests/unit tests/architecture tests/docs

.PHONY: help setup demo lint check test bench lock clean

help:  ## this list
	@grep -E '^[a-z]+:.*## ' Makefile | sed -E 's/^([a-z]+):.*## (.*)/  make \1\t\2/' | expand -t 16

setup: $(READY)  ## create .venv from requirements.lock

# `PYTHON=/path/to/python make setup` chooses the interpreter.
$(READY): requirements.lock pyproject.toml
	@for candidate in "$${PYTHON:-}" python3.11 python3.12 python3.13 python3 python; do \
	  if [ -n "$$candidate" ] && "$$candidate" -c \
	    'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null; \
	  then found="$$candidate"; break; fi; \
	done; \
	if [ -z "$${found:-}" ]; then \
	  echo "setup: needs Python 3.11, 3.12 or 3.13; none was found on PATH" \
	    "(python3 is $$(python3 --version 2>/dev/null || echo missing))." >&2; \
	  echo "hint: install one, or name it: PYTHON=/path/to/python3.11 make setup" >&2; \
	  exit 1; \
	fi; \
	if ! $(BIN)/python -c '' 2>/dev/null; then \
	  echo "setup: creating .venv with $$("$$found" --version)"; \
	  "$$found" -m venv --clear .venv; \
	fi
	@echo "setup: installing the locked packages (a few minutes the first time)"
	@$(PIP) install --quiet --require-hashes --no-deps -r requirements.lock
	@$(PIP) install --quiet $(TORCH)
	@$(PIP) install --quiet --no-deps --no-build-isolation -e .
	@touch $(READY)

demo: $(READY)  ## two small runs on our own data and the bundled base, offline
	@rm -rf runs/ticket-routing runs/support-chat
	HF_HUB_OFFLINE=1 $(BIN)/fettle run examples/ticket-routing/recipe.yaml --out runs/ticket-routing
	HF_HUB_OFFLINE=1 $(BIN)/fettle run examples/support-chat/recipe.yaml --out runs/support-chat

lint: $(READY)  ## style, types, layers, spelling
	$(BIN)/ruff check --no-cache .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/codespell

check: lint  ## the fast lane: lint and the quick tests (under 3 minutes)
	$(BIN)/python -m pytest $(FAST) -m "not slow" -n logical

test: lint  ## everything that `make check` does, and every other test
	$(BIN)/python -m pytest tests -n logical

bench: $(READY)  ## all benchmarks, within two hours; tables on stdout, JSON in bench/results/
	@for script in $$(find bench -maxdepth 1 -name '*.py' ! -name '_*' ! -name side_by_side.py ! -name gpu.py | sort); \
	do echo "== $$script"; $(BIN)/python "$$script"; done
	@echo "== bench/side_by_side.py"
	$(BIN)/python -m bench.side_by_side
	@echo "== bench/gpu.py"
	$(BIN)/python -m bench.gpu

lock: $(READY)  ## compile requirements.lock anew from pyproject.toml (needs the network)
	@work=$$(mktemp -d); trap 'rm -rf "$$work"' EXIT; \
	echo "$(TORCH)" > "$$work/constraints.txt"; \
	{ cp requirements.lock "$$work/requirements.lock" 2>/dev/null || true; }; \
	$(BIN)/python -m piptools compile --quiet --generate-hashes --strip-extras --extra dev \
	  --unsafe-package torch --constraint "$$work/constraints.txt" --no-header --no-annotate \
	  --no-emit-index-url --no-emit-trusted-host --no-emit-find-links \
	  --output-file "$$work/requirements.lock" pyproject.toml; \
	{ sed -n '/^#/p;/^#/!q' requirements.lock; \
	  sed -e '/^# WARNING: The following packages were not pinned/,$$d' -e '/^#/d' \
	    "$$work/requirements.lock"; } > "$$work/new.lock"; \
	if grep -qiE '^(nvidia|cuda|triton|torch)' "$$work/new.lock"; then \
	  echo "lock: a CUDA build of torch was resolved; compile on a machine with its CPU build" >&2; \
	  exit 1; \
	fi; \
	cp "$$work/new.lock" requirements.lock; \
	echo "lock: $$(grep -c '==' requirements.lock) packages in requirements.lock"

clean:  ## remove caches and .venv (runs/ and checks/ stay)
	rm -rf .venv .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis build dist
	find src tests bench -name __pycache__ -type d -prune -exec rm -rf {} +
