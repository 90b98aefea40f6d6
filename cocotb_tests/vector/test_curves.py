"""GELU and the exponential, exhaustively."""

import pytest
from celosia.hdl.vector.curves import Exponential, Gelu

from cocotb_tests.harness import run_testbench
from cocotb_tests.vector.lanes import Lanes

LANES = 16
UNITS = {"gelu": Gelu, "exponential": Exponential}


@pytest.mark.parametrize("unit", UNITS)
def test_curve(unit):
    run_testbench(Lanes(UNITS[unit], LANES), bench="vector.bench_curves", parameters={"lanes": LANES},
                  testcase=f"{unit}_equals_golden")
