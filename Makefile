# Two commands matter: `make demo` and `make test`. Each creates what it needs in .venv.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
DEMO ?= build/demo
# FOX1_TEST_DATA=FOLDER names a folder with real text that some tests read (its data/corpora, data/eval, ...); without it
# they are skipped.
# Tests wait for clusters and commands that they start: one process more than cores keeps the cores busy.
export PYTEST_XDIST_AUTO_NUM_WORKERS ?= $(shell expr `nproc` + 1)
# How much `make fuzz` and `make chaos` do.
FUZZ_SECONDS ?= 3600
CHAOS_FAULTS ?= 50

.PHONY: install demo test suite test-long fuzz chaos check audit format clean

install: $(VENV)/.installed

# The Numba kernels are compiled into the cache of this machine, so that no run pays for it.
$(VENV)/.installed: $(VENV)/.packages
	@echo "fox1: compiling kernels, one or two minutes"
	$(BIN)/python -m fox1.commands.compile_kernels
	touch $@

$(VENV)/.packages: pyproject.toml constraints.txt
	@echo "fox1: installing torch, ray, datasets and the rest into $(VENV), some minutes without a word"
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev,s3,tensorboard]'
	touch $@

# On Ray, as on a cluster: five sample corpora -> three curriculum shard sets -> tables -> a tiny Fox-1 trained through its three phases.
demo: install
	rm -rf $(DEMO)
	$(BIN)/fox1 sample $(DEMO)/corpora
	FOX1_DATA=$(DEMO)/corpora $(BIN)/fox1 curate recipes/sample.yaml --out $(DEMO)/run --ray
	$(BIN)/fox1 stats $(DEMO)/run
	$(BIN)/fox1 report $(DEMO)/run
	$(BIN)/fox1 train $(DEMO)/run --phase all --out $(DEMO)/checkpoints
	$(BIN)/fox1 tune $(DEMO)/run --out $(DEMO)/tune

# Checks run beside the kernels' compilation and the tests: the cores have the same to do, and end together.
test: $(VENV)/.packages
	$(MAKE) --jobs=2 check suite

suite: install
	@{ command -v chromium || command -v chromium-browser || command -v google-chrome; } >/dev/null || \
		echo "fox1: there is no Chromium, so the browser tests are left out (Debian: apt-get install chromium)"
	$(BIN)/python -m pytest -n auto --dist worksteal -m "not long"

# What takes minutes: a cluster that loses nodes, drivers and training workers, a failing store, faults to Ray, memory limits.
test-long: install
	$(BIN)/python -m pytest -m long

# An hour of mutated inputs to everything that reads what others wrote; the input of each failure is kept in build/fuzz.
fuzz: install
	$(BIN)/python -m tests.fuzz --seconds $(FUZZ_SECONDS)

# Random faults to curations and trainings until so many have landed, here and not in a copy: the kernels are compiled.
chaos: install
	$(BIN)/python -m tests.faults.chaos --here --faults $(CHAOS_FAULTS)

check: $(VENV)/.packages
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	mkdir -p $(VENV)/typecheck && ln -sfn ../.. $(VENV)/typecheck/fox1
	cd $(VENV)/typecheck && MYPYPATH=. ../bin/python -m mypy --config-file fox1/pyproject.toml -p fox1

# Known vulnerabilities of what constraints.txt pins, from PyPI's advisories.
audit: install
	$(BIN)/pip install --quiet --disable-pip-version-check pip-audit
	$(BIN)/pip-audit --requirement constraints.txt --no-deps --disable-pip

format: install
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
