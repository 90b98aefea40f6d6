"""Array, requantisation, GELU, softmax, LayerNorm: the whole computing half on small arrays of every proportion."""

import pytest
from celosia.hdl.config import AcceleratorConfig
from celosia.hdl.datapath import Datapath

from cocotb_tests.harness import run_testbench

SHAPES = {
    "square": {"rows": 4, "cols": 4},
    "wide": {"rows": 4, "cols": 16},
    "tall": {"rows": 16, "cols": 8},
    "few-lanes": {"rows": 8, "cols": 8, "lanes": 4},
    "latches": {"rows": 4, "cols": 8, "weight_latches": 1},
}


TARGETS = {target: {"target": target, "macs_per_multiplier": share}
           for target, share in [("generic", 2), ("ecp5", 1), ("xilinx", 1)]}


def run(settings):
    memories = {"scratchpad_kib": 32, "accumulator_kib": 16, "scratchpad_banks": 4, "row_entries": 64}
    parameters = {**memories, **settings}
    config = AcceleratorConfig(**parameters)
    run_testbench(Datapath(config), bench="bench_datapath", target=config.target, parameters=parameters)


@pytest.mark.parametrize("shape", [
    "square", "few-lanes", "latches", *(pytest.param(shape, marks=pytest.mark.regress) for shape in ("wide", "tall"))])
def test_datapath(shape):
    run(SHAPES[shape])


@pytest.mark.parametrize("target", [
    "ecp5", *(pytest.param(target, marks=pytest.mark.regress) for target in ("generic", "xilinx"))])
def test_mappings(target):
    run({"rows": 4, "cols": 8, **TARGETS[target]})
