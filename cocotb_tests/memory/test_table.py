"""The table that every lane of the vector engine reads."""

import pytest
from celosia.hdl.parts.ram import SharedTable

from cocotb_tests.harness import run_testbench


@pytest.mark.parametrize("target", ["generic", "xilinx"])
@pytest.mark.parametrize(("width", "depth", "readers"), [(24, 32, 4), (5, 4, 1)])
def test_table(width, depth, readers, target):
    run_testbench(SharedTable(width, depth, readers), bench="memory.bench_table", target=target,
                  parameters={"width": width, "depth": depth, "readers": readers})


@pytest.mark.parametrize("depth", [0, 1, 33])
def test_refuses_what_is_no_power_of_two(depth):
    with pytest.raises(ValueError, match=f"^depth must be a power of two from 2, not {depth}$"):
        SharedTable(24, depth, 4)
