# `make demo` and `make test` set up everything by themselves, in .venv, on a machine with Python
# 3.11 or later alone.  Another interpreter than the first one found: make demo PYTHON=python3.12

SHELL := /bin/sh
BIN := .venv/bin
export PYTHON

.DELETE_ON_ERROR:
.NOTPARALLEL:
.DEFAULT_GOAL := help
.PHONY: help demo test check format bench peers clean

# A moved or copied checkout sets up its environment again.
$(shell [ ! -f .venv/.checkout ] || [ "$$(cat .venv/.checkout)" = "$$(pwd)" ] || rm -f .venv/.ready-*)

help:                 # Say what there is.
	@sed -n 's/^\([a-z]*\):[^#]*# \(.*\)/make \1|\2/p' Makefile | while IFS='|' read -r target text; do \
	  printf '  %-14s %s\n' "$$target" "$$text"; done

demo: .venv/.ready-demo    # Watch a real search: a neural network on handwritten digits.
	@$(BIN)/python -m maggy demo

test: .venv/.ready-dev     # Run every test: under 15 minutes on two cores.
	@$(BIN)/python -m pytest --numprocesses=2 --dist=loadfile $(ARGS)

check: .venv/.ready-dev    # Lint, format, types, layers, spelling.
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports
	@$(BIN)/codespell

format: .venv/.ready-dev   # Put the code in its format.
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

bench: .venv/.ready-bench  # Measure everything, beside peers that it installs (2 GB).
	@for name in startup throughput memory core_speed server_load data_sets async_vs_bsp \
	  simulator_speed curve_policy tpe_speed gp_speed gp_latency gp_idle quality warm_start asha_peers \
	  multi_fidelity engines spark_engine spark_bsp peers; do \
	  $(BIN)/python bench/$$name.py $(ARGS) || exit 1; echo; done

peers: .venv/.ready-bench  # The table of docs/benchmarks.md alone, beside the same peers.
	@$(BIN)/python bench/peers.py $(ARGS)

clean:                # Remove what make and the tools made; runs in maggy-runs/ stay.
	@rm -rf .venv bench/.venvs build dist .pytest_cache .mypy_cache .ruff_cache \
	  .import_linter_cache .hypothesis .coverage*
	@find src tests bench -name __pycache__ -type d -prune -exec rm -rf {} +

.venv/.ready-%: pyproject.toml .ci/venv
	@.ci/venv $*
	@touch $@
