"""The two requantisations, each in many lanes at once."""

import pytest
from celosia.hdl.vector.scale import FirstScale, SecondScale

from cocotb_tests.harness import run_testbench
from cocotb_tests.vector.lanes import Lanes

LANES = 8
UNITS = {"first": FirstScale, "second": SecondScale}


@pytest.mark.parametrize("unit", UNITS)
def test_scale(unit):
    run_testbench(Lanes(UNITS[unit], LANES), bench="vector.bench_scale", parameters={"lanes": LANES},
                  testcase=f"{unit}_scale_equals_golden")
