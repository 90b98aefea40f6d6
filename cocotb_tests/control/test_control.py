"""The control and status registers behind AXI4-Lite."""

import pytest
from celosia.hdl.bus.axi import flat_ports
from celosia.hdl.config import AcceleratorConfig
from celosia.hdl.control.control import Control, constant_registers
from celosia.hdl.registers import ACCELERATOR_ID, VERSION

from cocotb_tests.harness import run_testbench

CONFIGS = {
    "default": AcceleratorConfig(),
    "smallest": AcceleratorConfig(rows=4, cols=4, scratchpad_kib=16, scratchpad_banks=2, accumulator_kib=16,
                                  bus_bits=64, outstanding_reads=1, queue_depth=2, load_queue_depth=2, row_entries=64,
                                  max_k=64, max_n=64, max_tokens=16),
    "largest": AcceleratorConfig(rows=64, cols=64, scratchpad_kib=1024, scratchpad_banks=16,
                                 accumulator_kib=1024, bus_bits=256, address_bits=48, outstanding_reads=16,
                                 queue_depth=64, load_queue_depth=64, row_entries=1024, max_k=32768, max_n=32768,
                                 max_tokens=4096, counter_bits=64),
}


@pytest.mark.parametrize("name", ["default", "largest", pytest.param("smallest", marks=pytest.mark.regress)])
def test_registers(name):
    config = CONFIGS[name]
    design = Control(config)
    run_testbench(
        design, bench="control.bench_control", ports=flat_ports(design), parameters={"config": config.to_toml()})


def test_constants_fit_their_fields_and_tell_configurations_apart():
    values = {name: constant_registers(config) for name, config in CONFIGS.items()}
    for constants in values.values():
        assert constants["id"] == ACCELERATOR_ID
        assert constants["version"] == VERSION
        assert all(0 <= value < 1 << 32 for value in constants.values())
    assert len({tuple(constants.items()) for constants in values.values()}) == len(CONFIGS)
