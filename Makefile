# `make run` and `make test` do everything from a bare checkout: Python >= 3.10, git and make are enough.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
export WANDB_MODE ?= offline

.PHONY: help run test results results-digits report bench lint clean
.DEFAULT_GOAL := help

help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

$(STAMP): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || \
	  { echo "error: $(PYTHON) is older than 3.10. Type make PYTHON=python3.11 (or newer)" >&2; exit 2; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	@echo "installing torch, diffusers, lightning and the rest: several minutes and GB the first time"
	$(BIN)/python -m pip install --quiet -e '.[test]'
	@touch $@

run: $(STAMP) ## train, unlearn, attack and measure on the digits: about five minutes on two cores
	$(BIN)/python run.py method=dimum attack=dimra

test: $(STAMP) ## the whole fast suite, file by file on up to four cores
	$(BIN)/python -m pytest -n auto --maxprocesses=4 --dist loadfile

results: $(STAMP) ## the README's table: eight methods, with and without attack, three seeds (about an hour)
	$(BIN)/python run.py experiment=readme
	$(BIN)/python scripts/report.py --out docs/results/readme --figures

# one process a seed and one thread each: two threads gain little on networks this small
results-digits: export OMP_NUM_THREADS = 1
results-digits: $(STAMP) ## every method under every attack on the digits, three seeds (about four hours of one core a seed; resumable)
	processes=; for seed in 0 1 2; do ( set -e; \
	  $(BIN)/python run.py experiment=digits seed=$$seed; \
	  $(BIN)/python run.py experiment=digits seed=$$seed attack=dimra attack.learning_rate=3e-4; \
	  $(BIN)/python run.py experiment=digits seed=$$seed attack=dimra_aux attack.source=original ) & \
	  processes="$$processes $$!"; done; for process in $$processes; do wait $$process || exit 1; done
	$(BIN)/python scripts/report.py outputs/digits/runs --out docs/results/digits --figures

report: $(STAMP) ## one table and one page over everything in outputs/runs
	$(BIN)/python scripts/report.py

bench: $(STAMP) ## our training step, sampling and grid against bare loops and separate runs
	$(BIN)/python benchmarks/training_step.py
	$(BIN)/python benchmarks/sampling.py
	$(BIN)/python benchmarks/grid.py

lint: $(STAMP) ## ruff
	$(BIN)/ruff check .

clean: ## remove the environment; outputs/ stay
	rm -rf $(VENV)
