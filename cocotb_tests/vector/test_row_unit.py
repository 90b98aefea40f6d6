"""What a row's sums become, for the narrowest, the usual and the widest rows."""

import pytest
from celosia.hdl.config import AcceleratorConfig
from celosia.hdl.vector.row_unit import RowUnit

from cocotb_tests.harness import run_testbench
from cocotb_tests.vector.lanes import Lanes

LANES = 4


@pytest.mark.parametrize("max_n", [64, pytest.param(4096, marks=pytest.mark.regress), 32768])
def test_row_unit(max_n):
    design = Lanes(lambda: RowUnit(AcceleratorConfig(max_n=max_n)), LANES)
    run_testbench(design, bench="vector.bench_row_unit", parameters={"lanes": LANES, "max_n": max_n})
