# Nothing has to be activated or installed beforehand; `make help` lists the targets.
SHELL := bash
.DEFAULT_GOAL := help
.PHONY: help env env-current demo demo-digits test test-current lint clean

# Two test processes with one thread each: the models under test are too small to share among threads.
PYTEST_ARGS ?= -n 2 --dist loadfile

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 16

env: ## make .venv: Python 3.10, torch 1.13.1, k2 (without k2 where there is no Python 3.10)
	@scripts/setup_env.sh k2 .venv

env-current: ## make .venv-current: Python 3.11 or later, torch 2.13, no k2
	@scripts/setup_env.sh current .venv-current

# FULL=1: all of the corpus and longer training
size = $(if $(FULL),,--demo)

demo: env ## sentences -> speech -> a trained MoE Conformer -> HLG -> WER table; FULL=1 for the full recipe
	PYTHON="$(CURDIR)/.venv/bin/python" bash egs/voice_commands/run.sh $(size)

demo-digits: env ## the same with connected digits of real speakers
	PYTHON="$(CURDIR)/.venv/bin/python" bash egs/spoken_digits/run.sh $(size)

test: lint ## lint and run the tests in .venv
	OMP_NUM_THREADS=1 .venv/bin/python -m pytest $(PYTEST_ARGS)

test-current: env-current ## run the tests in .venv-current
	OMP_NUM_THREADS=1 .venv-current/bin/python -m pytest $(PYTEST_ARGS)

lint: env ## ruff and mypy
	.venv/bin/ruff check .
	.venv/bin/mypy

clean: ## remove the environments and caches (data and experiments stay)
	rm -rf .venv .venv-current build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
