"""The systolic array on its own."""

import pytest
from celosia.hdl.array import SystolicArray
from celosia.hdl.config import AcceleratorConfig

from cocotb_tests.harness import run_testbench

SHAPES = {"square": (4, 4), "wide": (4, 16), "tall": (16, 4)}


@pytest.mark.parametrize("shape", SHAPES)
def test_array(shape):
    rows, cols = SHAPES[shape]
    parameters = {"rows": rows, "cols": cols}
    run_testbench(SystolicArray(AcceleratorConfig(**parameters)), bench="bench_array", parameters=parameters)
