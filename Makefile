# Every target creates .venv and installs what it needs; the second time it is quick.
PYTHON ?= python3
BIN := .venv/bin
DEMO := demo
# Tests at a time; each on one thread, since two that share cores by threads wait for each other.
TESTS_AT_ONCE ?= 2
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(TESTS_AT_ONCE) --dist worksteal
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt

.DEFAULT_GOAL := help
.PHONY: help demo test test-slow test-cluster test-parity test-gpu lint docs wheel benchmarks clean

help:  ## what can be made
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

# Two stamps, so that the demo does not install what only developers need.
.venv/train.stamp: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(INSTALL) --editable '.[train]'
	touch $@

.venv/dev.stamp: .venv/train.stamp
	$(INSTALL) --editable '.[train,dev]'
	touch $@

# Without its CUDA extensions, which take a compiler and an hour, and without the dependencies of its newer models.
.venv/parity.stamp: .venv/dev.stamp
	$(INSTALL) wheel einops
	MAMBA_SKIP_CUDA_BUILD=TRUE MAMBA_FORCE_BUILD=TRUE $(INSTALL) --no-build-isolation --no-deps mamba-ssm
	touch $@

demo: .venv/train.stamp  ## measure a patchification scaling law on real digits, afresh, into demo/
	rm -rf $(DEMO)
	$(BIN)/scaling run-grid digits-quick --out $(DEMO)/runs/digits-quick
	$(BIN)/scaling fit $(DEMO)/runs/digits-quick
	$(BIN)/scaling plot $(DEMO)/runs/digits-quick --figure 1 --out $(DEMO)/analysis/digits-quick

test: .venv/dev.stamp  ## the default tests
	$(PYTEST)

test-slow: .venv/dev.stamp  ## the tests that take minutes
	$(PYTEST) -m 'slow and not gpu'

test-parity: .venv/parity.stamp  ## the tests against mamba-ssm's own code, without a GPU
	$(BIN)/python -m pytest -m parity

test-cluster: .venv/dev.stamp  ## the tests on real Ray and Slurm servers, all or ONLY='lost_node'; installs Slurm where root may
	$(BIN)/python -m pytest -rs -m cluster -k '$(ONLY)'

test-gpu: .venv/dev.stamp  ## the tests that need a CUDA device
	$(BIN)/python -m pytest -m gpu

lint: .venv/dev.stamp  ## style, types, import rules
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/pyright
	$(BIN)/lint-imports

docs: .venv/dev.stamp  ## build the documentation into build/docs, every warning an error
	$(INSTALL) --editable '.[train,docs]'
	$(BIN)/sphinx-build --builder html --conf-dir docs --fail-on-warning --keep-going . build/docs

wheel: .venv/dev.stamp  ## build the wheel and check it in an empty environment, without torch
	bash .ci/check-wheel

# Two peers are kept apart: accelerate imports deepspeed where it finds it, and llm-analysis asks for an old transformers,
# but works with the new one.
benchmarks: .venv/parity.stamp  ## speed, memory and accuracy, against peers; benchmarks/README.md
	$(INSTALL) --editable '.[train,dev,peers]'
	$(INSTALL) --no-deps --upgrade --target .venv/apart deepspeed hjson py-cpuinfo llm-analysis fire
	$(BIN)/python -m benchmarks.main_job
	$(BIN)/python -m benchmarks.estimate
	PYTHONPATH=.venv/apart $(BIN)/python -m benchmarks.counting
	PYTHONPATH=.venv/apart $(BIN)/python -m benchmarks.startup
	$(BIN)/python -m benchmarks.runners
	$(BIN)/python -m benchmarks.vit_step
	$(BIN)/python -m benchmarks.ssd
	$(BIN)/python -m benchmarks.train_step
	$(BIN)/python -m benchmarks.data
	$(BIN)/python -m benchmarks.measure
	$(BIN)/python -m benchmarks.training
	$(BIN)/python -m benchmarks.heads
	$(BIN)/python -m benchmarks.evidence
	$(BIN)/python -m benchmarks.plan
	$(BIN)/python -m benchmarks.hopeless
	$(BIN)/python -m benchmarks.faults

clean:  ## remove what the other targets made, .venv too
	rm -rf .venv build dist $(DEMO)
