# Everything runs in a local .venv that `make setup` makes; PYTHON chooses the interpreter (3.11 or newer).
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
DOCS_READY := $(VENV)/.docs-ready
OUT ?= out
# Tests run on all cores, but those that start processes one after the other (tests/conftest.py).
SPREAD := --numprocesses auto --maxprocesses 8 --dist loadgroup

# Flower and Ray send usage statistics and look for updates by default; nothing here does.
export FLWR_TELEMETRY_ENABLED := 0
export FLWR_DISABLE_UPDATE_CHECK := 1
export FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION := 1
export RAY_USAGE_STATS_ENABLED := 0
export NO_MKDOCS_2_WARNING := 1

.DEFAULT_GOAL := help
.PHONY: help setup demo suite report-picture test test-fast test-deployment test-flower unlike lint types docs docs-serve check \
  figures bench compressors robustness minibatch hostile fuzz fuzz-filters fuzz-replies \
  threat-model accuracy traffic apps test-machines clean

help: ## Show this help
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-15s %s\n", $$1, $$2}'

setup: $(READY) ## Make .venv and install everything into it

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "Python 3.11 or newer is needed, this is " + sys.version.split()[0])'
	@echo "Setting up $(VENV) (a few minutes the first time) ..."
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	@touch $@

demo: $(READY) ## Compare the recommended recipe with FedAvg, and strategies under attack, and report it, in two to three minutes
	@$(BIN)/robustcomp compare examples/recipe.toml examples/regression.toml examples/digits.toml --out $(OUT)/demo
	@$(BIN)/robustcomp report $(OUT)/demo

suite: $(READY) ## Run the default suite, 6 defences x 6 attacks x 3 compressors x 3 seeds, and report it in docs/examples
	@$(BIN)/robustcomp compare examples/suite.toml --out $(OUT)/suite
	@$(BIN)/robustcomp report $(OUT)/suite
	@mkdir -p docs/examples && cp $(OUT)/suite/report.html docs/examples/suite.html

report-picture: demo ## Photograph the demo's report for docs/report.md (needs Chromium)
	@chromium --headless=new --no-sandbox --disable-gpu --hide-scrollbars --disable-background-networking \
	  --window-size=1180,1500 --screenshot=docs/images/report.png file://$(CURDIR)/$(OUT)/demo/report.html

test: $(READY) ## Run all tests but those of a deployment
	@$(BIN)/python -m pytest $(SPREAD) -m "not deployment"

test-fast: $(READY) ## Run the tests that start no other processes
	@$(BIN)/python -m pytest $(SPREAD) -m "not processes and not deployment"

test-deployment: $(READY) ## Run a deployment on loopback: SuperLink, SuperNodes, some of them Byzantine, and one with a compressed downlink (four to five minutes)
	@$(BIN)/python -m pytest -m deployment

test-flower: $(READY) ## Try another Flower, VERSION=1.38 or nightly (default: the oldest): fast tests and flwr run; TOUCHES=1 for CI's part
	@$(BIN)/python -m benchmarks.flower_version $(VERSION) --out $(OUT)/flower $(if $(TOUCHES),--touches) $(if $(PREPARE),--prepare)

lint: $(READY) ## Check style, format and the direction of imports
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/lint-imports --no-cache

types: $(READY) ## Check types (mypy --strict)
	@$(BIN)/mypy

docs: $(DOCS_READY) ## Build the documentation site into out/site; it is read without a network
	@$(BIN)/python -m mkdocs build --quiet --strict --site-dir $(abspath $(OUT))/site
	@echo "site: $(OUT)/site/index.html"

docs-serve: $(DOCS_READY) ## Show the documentation site on localhost:8000 while you write
	@$(BIN)/python -m mkdocs serve

$(DOCS_READY): $(READY)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[docs]'
	@touch $@

check: docs lint types test test-deployment ## Everything that CI runs

figures: $(READY) ## Reproduce the paper's figures 1 to 3 with 20 runs each (figure 4 needs data: docs/figures.md)
	@for n in 1 2 3; do $(BIN)/robustcomp reproduce figure$$n --out $(OUT)/figures || exit $$?; done

bench: $(READY) ## Measure speed, size and memory side by side; writes docs/benchmarks.md
	@$(BIN)/python -m benchmarks

compressors: $(READY) ## Measure every compressor; writes docs/compressors.md
	@OMP_NUM_THREADS=1 $(BIN)/robustcomp compressors --markdown docs/compressors.md

robustness: $(READY) ## Nine defences against every attack on updates (hours; resumes where it stopped); writes docs/robustness.md
	@OMP_NUM_THREADS=1 $(BIN)/robustcomp compare examples/robustness.toml examples/colluders.toml --out $(OUT)/robustness
	@$(BIN)/robustcomp report $(OUT)/robustness
	@$(BIN)/python -m benchmarks.robustness --records $(OUT)/robustness

minibatch: $(READY) ## Ten defences against eleven attacks with minibatch training, IID and Dirichlet (about twenty minutes); writes docs/minibatch.md
	@OMP_NUM_THREADS=1 $(BIN)/robustcomp compare examples/minibatch-iid.toml examples/minibatch-dirichlet.toml --out $(OUT)/minibatch
	@$(BIN)/robustcomp report $(OUT)/minibatch
	@$(BIN)/python -m benchmarks.minibatch --records $(OUT)/minibatch

unlike: $(READY) ## Five defences against eight attacks on nodes alike and unlike, with the recommended compression (900 runs; resumes); writes docs/unlike.md
	@OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.unlike

fuzz: $(READY) ## Feed a million changed payloads to every decoder
	@OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.fuzz_payloads

fuzz-filters: $(READY) ## Hold every chain of filters to what it promises, against a million sets of colluding vectors
	@OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.fuzz_filters

fuzz-replies: $(READY) ## Send a million spoilt replies to every strategy
	@OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.fuzz_replies

accuracy: $(READY) ## Train with every compressor, on nodes alike and unlike, and under attack (an hour; resumes); writes docs/accuracy.md
	@OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.accuracy

traffic: $(READY) ## Bytes both ways to an accuracy, by how the model travels down (hours; resumes; MNIST=FOLDER adds MNIST); writes docs/traffic.md
	@OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.traffic $(if $(MNIST),--data $(MNIST))

apps: $(READY) ## Run the apps under examples/apps, plain and robust, on the Flower of .venv; writes docs/apps.md
	@$(BIN)/python -m benchmarks.apps

test-machines: $(READY) ## Run the numerical tests under other threads and vector widths
	@$(BIN)/python -m benchmarks.machines

threat-model: $(READY) ## Write the computed tables of docs/threat-model.md
	@OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.threat_model

hostile: $(READY) ## Try every kind of hostile reply on every strategy; writes docs/hostile-replies.md
	@OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.hostile

clean: ## Remove what the targets made
	@rm -rf $(VENV) $(OUT) .pytest_cache .mypy_cache .ruff_cache .hypothesis
