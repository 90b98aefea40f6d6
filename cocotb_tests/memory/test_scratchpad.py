"""The scratchpad with all of its users."""

import pytest
from celosia.hdl.config import AcceleratorConfig
from celosia.hdl.memory.scratchpad import Scratchpad

from cocotb_tests.harness import run_testbench

CONFIGS = {
    "two-banks": {"rows": 4, "cols": 4, "scratchpad_banks": 2},
    "slices": {"rows": 16, "cols": 8, "lanes": 4, "scratchpad_banks": 4},
    "many-banks": {"rows": 8, "cols": 4, "scratchpad_banks": 16},
}


@pytest.mark.parametrize("name", ["slices", "many-banks", pytest.param("two-banks", marks=pytest.mark.regress)])
def test_scratchpad(name):
    parameters = {"scratchpad_kib": 16, **CONFIGS[name]}
    run_testbench(Scratchpad(AcceleratorConfig(**parameters)), bench="memory.bench_scratchpad", parameters=parameters)
