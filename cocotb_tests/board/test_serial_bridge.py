"""The bridge from a serial line to registers and memory."""

import re

import pytest
from celosia.hdl.board.serial_bridge import SerialBridge
from celosia.hdl.board.serial_frames import FrameReceiver
from celosia.hdl.board.serial_line import SerialReceiver, SerialTransmitter
from celosia.hdl.bus.axi import flat_ports
from celosia.hdl.config import AcceleratorConfig

from cocotb_tests.harness import run_testbench


@pytest.mark.parametrize(("bus_bits", "divisor"), [(64, 4), pytest.param(128, 10, marks=pytest.mark.regress)])
def test_bridge(bus_bits, divisor):
    parameters = {"bus_bits": bus_bits, "divisor": divisor, "idle_cycles": 150 * divisor, "bus_cycles": 600,
                  "memory_base": 0x8000_0000, "memory_bytes": 0x2_3000}
    options = {name: value for name, value in parameters.items() if name != "bus_bits"}
    design = SerialBridge(AcceleratorConfig(bus_bits=bus_bits), **options)
    run_testbench(design, bench="board.bench_serial_bridge", ports=flat_ports(design), parameters=parameters)


@pytest.mark.parametrize(("make", "sentence"), [
    (lambda: SerialReceiver(3), "divisor must be at least 4 cycles a bit, not 3"),
    (lambda: SerialTransmitter(0), "divisor must be at least 4 cycles a bit, not 0"),
    (lambda: FrameReceiver(0), "idle_cycles must be at least 1, not 0"),
])
def test_refused_parameters(make, sentence):
    with pytest.raises(ValueError, match=f"^{re.escape(sentence)}$"):
        make()
