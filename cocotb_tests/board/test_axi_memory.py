"""On-chip memory behind the arbiter, with AXI managers by others on both sides of it."""

import re

import pytest
from amaranth import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, connect, flipped
from celosia.hdl.board.axi_memory import AxiMemory
from celosia.hdl.bus.axi import AXI4Signature, flat_ports
from celosia.hdl.bus.axi_arbiter import AxiArbiter
from celosia.hdl.config import AcceleratorConfig

from cocotb_tests.harness import run_testbench


class SharedMemory(wiring.Component):
    """A memory with two ports."""

    def __init__(self, config, base, size):
        self.config, self.base, self.size = config, base, size
        super().__init__({"first": In(AXI4Signature.of(config)), "second": In(AXI4Signature.of(config))})

    def elaborate(self, platform):
        m = Module()
        m.submodules.arbiter = arbiter = AxiArbiter(self.config)
        m.submodules.memory = memory = AxiMemory(self.config, self.base, self.size)
        connect(m, flipped(self.first), arbiter.first)
        connect(m, flipped(self.second), arbiter.second)
        connect(m, arbiter.memory, memory.bus)
        return m


# A part of one bank; several banks, the last of them not full.
@pytest.mark.parametrize(("bus_bits", "base", "size"), [(64, 0x8000_0000, 12 << 10), (128, 0x4_0000, 148 << 10)])
def test_shared_memory(bus_bits, base, size):
    design = SharedMemory(AcceleratorConfig(bus_bits=bus_bits), base, size)
    run_testbench(design, bench="board.bench_axi_memory", ports=flat_ports(design),
                  parameters={"bus_bits": bus_bits, "base": base, "size": size})


@pytest.mark.parametrize(("base", "size", "sentence"), [
    (0, 0, "size must be a multiple of 4096 bytes, not 0"),
    (0, 5000, "size must be a multiple of 4096 bytes, not 5000"),
    (0x2000, 0x3000, "base must be a multiple of 16384 below 2 ** 32, not 0x2000"),
    (1 << 32, 0x1000, "base must be a multiple of 4096 below 2 ** 32, not 0x100000000"),
])
def test_refused_sizes(base, size, sentence):
    with pytest.raises(ValueError, match=f"^{re.escape(sentence)}$"):
        AxiMemory(AcceleratorConfig(), base, size)
