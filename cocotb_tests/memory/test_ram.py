"""The memory that everything is made of, with and without the garbage of collisions."""

import pytest
from celosia.hdl.parts.ram import Ram

from cocotb_tests.harness import run_testbench


@pytest.mark.parametrize("garbage", [False, True])
@pytest.mark.parametrize(("width", "depth", "slices"), [(1, 4, 1), (24, 64, 3)])
def test_ram(width, depth, slices, garbage):
    run_testbench(Ram(width, depth, slices), bench="memory.bench_ram", defines=None if garbage else {},
                  parameters={"width": width, "depth": depth, "slices": slices, "garbage": garbage})
