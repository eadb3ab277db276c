# All set-up happens in .venv; every target may be run again and reuses what is there.
PYTHON ?= python3
# folders of .npz files that `make bench` measures besides the simulated fields
DATA ?= $(wildcard data/bench)
# what `make bench-generative` measures
MODEL ?= checkpoints/combined_model.pth
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
export PATH := $(CURDIR)/$(BIN):$(PATH)

.PHONY: demo test quick test-cluster test-cluster-accounting test-scale lint format bench bench-generative bench-speed bench-device bench-gpu-memory fuzz base-model turbulence-model clean

demo: $(READY)
	$(BIN)/snakemake --profile profiles/local --configfile config/demo.yaml
	@cat results/tables/summary.md
	@echo "report: $(CURDIR)/results/report.html"

# a file's tests in one process, so that what they share (a trained pipeline, a rig) is made once
test: $(READY)
	$(BIN)/python -m pytest -q -n 2 --dist loadfile

# the codec, its files and models, without whole runs of the workflow and of training
quick: $(READY)
	$(BIN)/python -m pytest -q -n 2 --dist loadfile -m "not slow"

# a real SLURM on this machine, with faults: as root, on Debian; prints and writes results/cluster/;
# FAULTS=once: each fault on one phase instead of all three
FAULTS ?= all
test-cluster: $(READY)
	CAESAR_TEST_CLUSTER=$(FAULTS) $(BIN)/python -m pytest -q -s tests/cluster

# the same with slurmdbd and MariaDB: accounts, sacct, sweeps as job arrays, two nodes
test-cluster-accounting: $(READY)
	CAESAR_TEST_CLUSTER=accounting $(BIN)/python -m pytest -q -s tests/cluster

# 20 GB of synthetic Zarr compressed there as many jobs; results/cluster/scale.md
test-scale: $(READY)
	$(BIN)/python tests/cluster/scale.py results/scale

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/snakefmt --check workflow
	$(BIN)/snakemake --lint --configfile config/demo.yaml

format: $(READY)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/snakefmt workflow

bench: $(READY)
	$(BIN)/python benchmarks/peers.py --data_dir $(DATA)

bench-generative: $(READY)
	$(BIN)/python benchmarks/generative.py --model $(MODEL) --zero_shot $(wildcard $(DATA)/*.npz)
	$(BIN)/python benchmarks/generative.py --model $(MODEL) --speed

bench-speed: $(READY)
	$(BIN)/python benchmarks/speed.py

bench-device: $(READY)
	$(BIN)/python benchmarks/device.py

# peak memory of the training phases on a GPU, next to their budgets; results/gpu_memory.md
bench-gpu-memory: $(READY)
	$(BIN)/python benchmarks/gpu_memory.py

fuzz: $(READY)
	$(BIN)/python benchmarks/fuzz.py streams --cases 100000
	$(BIN)/python benchmarks/fuzz.py bounds --cases 5000

turbulence-model: $(READY)
	$(BIN)/python benchmarks/train_generative.py

base-model: $(READY)
	$(BIN)/python benchmarks/train_base.py

# torch goes first and pinned: an unpinned one would pull the CUDA build of its newest release
$(READY): pyproject.toml constraints.txt setup.py $(wildcard caesar_freq/kernels/*.[ch])
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet torch==2.13.0 -c constraints.txt
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[dev]'
	touch $@

# what installing and testing leave; folders that may hold your files or days of training stay
clean:
	rm -rf $(VENV) build *.egg-info .pytest_cache .ruff_cache .hypothesis
	find caesar_freq tests benchmarks -name __pycache__ -exec rm -rf {} +
	find caesar_freq -name '*.so' -delete
	@echo "kept, for you to delete: $(or $(wildcard data checkpoints results logs benchmarks/results),nothing)"
