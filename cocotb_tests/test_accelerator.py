"""The accelerator as it is generated, with AXI models by others as host and memory."""

from functools import cache

import pytest
from celosia.generators.verilog import TOP, to_verilog
from celosia.hdl.config import AcceleratorConfig

from cocotb_tests.harness import run_testbench

SMALL = {"bus_bits": 64, "scratchpad_kib": 16, "scratchpad_banks": 4, "accumulator_kib": 16, "row_entries": 64,
         "max_k": 64, "max_n": 64, "max_tokens": 16}
CONFIGS = {
    "square": AcceleratorConfig(rows=4, cols=4, **SMALL),
    "wide": AcceleratorConfig(rows=4, cols=8, outstanding_reads=1, queue_depth=2, load_queue_depth=2, **SMALL),
    "tall": AcceleratorConfig(rows=8, cols=4, **SMALL),
}


NAMES = ["square", *(pytest.param(name, marks=pytest.mark.regress) for name in ("wide", "tall"))]

verilog = cache(to_verilog)


@pytest.mark.parametrize("name", NAMES)
def test_accelerator(name):
    config = CONFIGS[name]
    run_testbench(verilog(config), bench="bench_accelerator", top=TOP, parameters={"config": config.to_toml()})


@pytest.mark.parametrize("name", NAMES)
def test_random_programs(name):
    config = CONFIGS[name]
    run_testbench(verilog(config), bench="bench_programs", top=TOP,
                  parameters={"config": config.to_toml(), "programs": 20})
