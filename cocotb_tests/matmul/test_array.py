"""The systolic array on its own."""

import pytest
from celosia.hdl.config import AcceleratorConfig
from celosia.hdl.matmul.array import SystolicArray

from cocotb_tests.harness import run_testbench

SHAPES = {"square": (4, 4), "wide": (4, 16), "tall": (16, 4)}


@pytest.mark.parametrize("shape", [
    "square", *(pytest.param(shape, marks=pytest.mark.regress) for shape in ("wide", "tall"))])
@pytest.mark.parametrize("target", ["generic", "ecp5", "xilinx"])
@pytest.mark.parametrize("share", [1, 2])
def test_array(shape, target, share):
    rows, cols = SHAPES[shape]
    run({"rows": rows, "cols": cols, "target": target, "macs_per_multiplier": share})


@pytest.mark.parametrize("shape", [pytest.param("square", marks=pytest.mark.regress), "wide"])
def test_latches(shape):
    rows, cols = SHAPES[shape]
    run({"rows": rows, "cols": cols, "weight_latches": 1})


def run(parameters):
    config = AcceleratorConfig(**parameters)
    run_testbench(SystolicArray(config), bench="matmul.bench_array", target=config.target, parameters=parameters)
