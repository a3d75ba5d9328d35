# Every target makes its own environment; once `make install` has run, nothing here needs a network.
PYTHON ?= python3
TORCH ?= torch==2.13.0
VENV := .venv
PY := $(VENV)/bin/python
INSTALL = $(PY) -m pip install -q --disable-pip-version-check -c $(VENV)/constraints.txt
STAMP := $(VENV)/.installed
LINKS := build/typing/plausible
WORKERS ?= 2
ROOMS := schemas ledger attribution node cli

.PHONY: help install faces demo test test-long check format bench bench-attribution bench-ledger bench-node faults fuzz fuzz-node contract wheel clean

help:            ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/'

install: $(STAMP) ## make .venv with everything pinned in constraints.txt

$(STAMP): pyproject.toml constraints.txt constraints-test.txt
	test -x $(PY) || $(PYTHON) -m venv $(VENV)
	grep -v '^torch==' constraints.txt > $(VENV)/constraints.txt
	$(INSTALL) pip setuptools wheel
	# first, apart and by TORCH: a torch that is already there is used, and `make demo TORCH=...` takes another build
	$(PY) -c 'import torch' 2>/dev/null || $(PY) -m pip install -q --disable-pip-version-check '$(TORCH)'
	$(INSTALL) -e '.[all]' -r constraints-test.txt
	# merkly declares pydantic < 2 but runs under 2; it is the tests' second implementation, never a dependency
	$(INSTALL) --no-deps merkly pycryptodome
	# lir would bring pandas, optuna and a database; what the tests hold ours against needs scikit-learn alone
	$(INSTALL) --no-deps lir
	$(VENV)/bin/pyright --version >/dev/null
	touch $(STAMP)

# pyright cannot follow the editable install's finder: give it the namespace as a folder of links
$(LINKS): pyproject.toml
	mkdir -p $(LINKS)
	for room in $(ROOMS); do ln -sfn ../../../$$room $(LINKS)/$$room; done
	touch $(LINKS)

faces: $(STAMP)  ## fetch the face generator that demo, benchmarks and some tests use (once, 14 MB)
	$(PY) -m examples.faces.fetch

demo: faces      ## the main job on a real face generator: 64 faces logged, then every kind of probe verified
	$(PY) -m examples.faces.demo

test: $(STAMP)   ## the quick suite, random order, no network, in two processes (WORKERS=4 for more)
	$(PY) -m pytest tests -n $(WORKERS) --dist loadfile

test-long: $(STAMP) ## what takes minutes: many inversions, long fuzz and property runs
	$(PY) -m pytest tests -m 'long or not long' --timeout 3600

check: $(STAMP) $(LINKS) ## ruff, pyright strict, import rules, docs drift
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/pyright --pythonpath $(PY)
	$(PY) -m pytest tests/project

format: $(STAMP) ## apply ruff's fixes and format
	$(VENV)/bin/ruff check --fix .
	$(VENV)/bin/ruff format .

bench: $(STAMP)  ## the figures of README and docs, each printed with its command
	$(PY) -m benchmarks

faults: $(STAMP) ## the crash matrix: each file-system call of a writer fails once; long, needs strace
	@command -v strace >/dev/null || { echo "strace is missing: apt-get install strace (Debian, Ubuntu)" >&2; exit 4; }
	$(PY) -m benchmarks.ledger.faults --progress

fuzz: $(STAMP)   ## 100,000 mutated inputs for every parser of what others made; long
	$(PY) -m benchmarks.ledger.fuzz

fuzz-node: $(STAMP) ## 100,000 mutated bodies or requests for every kind of endpoint of running services; long
	$(PY) -m benchmarks.node.fuzz

# Schemathesis brings a dozen packages and a pytest plugin: an environment of its own, another process
SCHEMATHESIS := build/schemathesis
$(SCHEMATHESIS)/.installed:
	$(PYTHON) -m venv $(SCHEMATHESIS)
	$(SCHEMATHESIS)/bin/python -m pip install -q --disable-pip-version-check schemathesis==4.32.5
	touch $@

contract: $(STAMP) $(SCHEMATHESIS)/.installed ## Schemathesis over docs/openapi against running services; minutes
	$(PY) -m benchmarks.node.contract --st $(SCHEMATHESIS)/bin/st

# pymerkle is GPL: an environment of its own, another process, never a dependency
PEERS := build/peers
$(PEERS)/.installed:
	$(PYTHON) -m venv $(PEERS)
	$(PEERS)/bin/python -m pip install -q --disable-pip-version-check pymerkle==7.0.0
	touch $@

bench-attribution: faces  ## the papers' experiments; hours, goes on where it stopped (BENCH=--quick, or BENCH=--docs)
	$(PY) -m benchmarks.attribution all $(BENCH)

bench-node: $(STAMP)  ## the services: log, witness, mirror, monitor
	$(PY) -m benchmarks.node.log
	$(PY) -m benchmarks.node.witness
	$(PY) -m benchmarks.node.mirror
	$(PY) -m benchmarks.node.monitor

bench-ledger: $(STAMP) $(PEERS)/.installed ## the log against bare SQLite and pymerkle, into docs/benchmarks.md (BENCH=--quick)
	$(PY) -m benchmarks.ledger.speed --peer $(PEERS)/bin/python --folder build --json build/bench-ledger.json \
		$(if $(BENCH),$(BENCH),--docs docs/benchmarks.md)

wheel: $(STAMP)  ## dist/*.whl; build/ goes first, since a stale build/lib would ship deleted modules
	rm -rf build dist *.egg-info
	$(PY) -m pip wheel -q --no-deps --no-build-isolation -w dist .

clean:           ## remove what the targets made
	rm -rf build dist *.egg-info .pytest_cache .ruff_cache .hypothesis
