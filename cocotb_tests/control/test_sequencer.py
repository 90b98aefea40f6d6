"""Programs on the whole control side: fetch, checks, semaphores, faults and recovery."""

import pytest
from celosia.hdl.bus.axi import flat_ports
from celosia.hdl.config import AcceleratorConfig
from celosia.hdl.control_plane import ControlPlane

from cocotb_tests.harness import run_testbench

CONFIGS = {
    "4x4, 64 bits": AcceleratorConfig(rows=4, cols=4, bus_bits=64, scratchpad_kib=16, queue_depth=2,
                                      load_queue_depth=2, outstanding_reads=1),
    "16x16, 128 bits": AcceleratorConfig(rows=16, cols=16, bus_bits=128, scratchpad_kib=64),
    "8x8, 256 bits, 48-bit addresses": AcceleratorConfig(
        rows=8, cols=8, bus_bits=256, scratchpad_kib=64, address_bits=48, queue_depth=4),
}


@pytest.mark.parametrize("bench", ["sequencer", "stops"])
@pytest.mark.parametrize("name", [
    "4x4, 64 bits", *(pytest.param(name, marks=pytest.mark.regress) for name in CONFIGS if name != "4x4, 64 bits")])
def test_programs(name, bench):
    config = CONFIGS[name]
    design = ControlPlane(config)
    run_testbench(
        design, bench=f"control.bench_{bench}", ports=flat_ports(design), parameters={"config": config.to_toml()})
