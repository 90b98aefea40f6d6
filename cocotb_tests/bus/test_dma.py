"""The load and the store engine with their bus side, against AXI models by others."""

import pytest
from amaranth import Module, ResetInserter
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out, connect, flipped
from celosia.hdl.bus.axi import AXI4Signature, connect_channels, flat_ports
from celosia.hdl.bus.dma import LoadEngine, StoreEngine
from celosia.hdl.bus.guard import WindowSignature, bounds_of
from celosia.hdl.bus.read_channel import ReadArbiter
from celosia.hdl.bus.write_channel import WriteChannel
from celosia.hdl.config import AcceleratorConfig
from celosia.hdl.isa import TRANSFER
from celosia.hdl.memory.interfaces import CommandSignature, ScratchpadReadSignature, ScratchpadWriteSignature

from cocotb_tests.harness import run_testbench

CONFIGS = {
    "4x4, 64 bits": AcceleratorConfig(rows=4, cols=4, bus_bits=64, scratchpad_kib=16),
    "8x16, 64 bits": AcceleratorConfig(rows=8, cols=16, bus_bits=64, scratchpad_kib=16, outstanding_reads=1),
    "16x16, 128 bits": AcceleratorConfig(rows=16, cols=16, bus_bits=128, scratchpad_kib=64),
    "32x8, 64 bits": AcceleratorConfig(rows=32, cols=8, bus_bits=64, scratchpad_kib=64, outstanding_reads=2),
    "8x8, 256 bits, 48-bit addresses": AcceleratorConfig(
        rows=8, cols=8, bus_bits=256, scratchpad_kib=64, address_bits=48),
}
# Always: words wider than the bus, and narrower.
QUICK = "32x8, 64 bits", "8x8, 256 bits, 48-bit addresses"


class TransferTop(wiring.Component):
    """Both engines on one bus; ``soft_reset`` resets them as the sequencer does."""

    def __init__(self, config):
        self.config = config
        super().__init__({
            "load": In(CommandSignature(TRANSFER)),
            "store": In(CommandSignature(TRANSFER)),
            "load_port": Out(ScratchpadWriteSignature(config)),
            "store_port": Out(ScratchpadReadSignature(config)),
            "window": In(WindowSignature()),
            "soft_reset": In(1),
            "load_outside": Out(1),
            "load_bus_error": Out(1),
            "store_outside": Out(1),
            "store_bus_error": Out(1),
            "quiet": Out(1),
            "bus": Out(AXI4Signature.of(config)),
        })

    def elaborate(self, platform):
        m = Module()
        load, store = LoadEngine(self.config), StoreEngine(self.config)
        m.submodules.load = ResetInserter(self.soft_reset)(load)
        m.submodules.store = ResetInserter(self.soft_reset)(store)
        m.submodules.reads = reads = ReadArbiter(self.config)
        m.submodules.writes = writes = WriteChannel(self.config)
        connect(m, load.instructions, flipped(self.load))
        connect(m, store.instructions, flipped(self.store))
        connect(m, load.port, flipped(self.load_port))
        connect(m, store.port, flipped(self.store_port))
        connect(m, load.requests, reads.load_requests)
        connect(m, reads.load_data, load.data)
        connect(m, store.requests, writes.requests)
        connect(m, store.beats, writes.beats)
        connect_channels(m, self.bus, reads.bus)
        connect_channels(m, self.bus, writes.bus)
        m.d.comb += [
            *(channel.bounds.eq(bounds_of(self.config, self.window)) for channel in (reads, writes)),
            reads.flush.eq(self.soft_reset),
            writes.flush.eq(self.soft_reset),
            store.burst_finished.eq(writes.finished),
            store.burst_error.eq(writes.error),
            store.burst_outside.eq(writes.outside),
            self.quiet.eq(reads.quiet & writes.quiet),
            self.load_outside.eq(load.outside),
            self.load_bus_error.eq(load.bus_error),
            self.store_outside.eq(store.outside),
            self.store_bus_error.eq(store.bus_error),
        ]
        return m


@pytest.mark.parametrize("name", [
    *QUICK, *(pytest.param(name, marks=pytest.mark.regress) for name in CONFIGS if name not in QUICK)])
def test_transfers(name):
    config = CONFIGS[name]
    design = TransferTop(config)
    run_testbench(
        design, bench="bus.bench_dma", ports=flat_ports(design), parameters={"config": config.to_toml()})
