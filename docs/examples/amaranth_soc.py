"""The accelerator inside another Amaranth design: a host that starts it, and a RAM that holds its program and data.

    python docs/examples/amaranth_soc.py soc.v     # writes the Verilog of the whole
    python docs/examples/amaranth_soc.py           # simulates it in Amaranth's own simulator

The program copies a few words through the scratchpad: a load, a store that waits for it, and the end.
"""

import sys

from amaranth import Array, Module, Mux, Signal
from amaranth.back import verilog
from amaranth.lib import wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out, connect
from amaranth.sim import Simulator
from amaranth.utils import exact_log2
from celosia.hdl import Accelerator, AcceleratorConfig
from celosia.hdl.bus.axi import AXI4LiteSignature, AXI4Signature
from celosia.hdl.control.control import CONTROL_ADDRESS_BITS
from celosia.hdl.isa import END, TRANSFER, Engine, Opcode, semaphore_index
from celosia.hdl.registers import register

__all__ = ["COPIED", "DATA", "RAM_BYTES", "SOURCE", "TARGET", "Ram", "Soc", "Starter", "memory_image", "simulate"]

CONFIG = AcceleratorConfig(name="soc", rows=4, cols=4, scratchpad_kib=16, scratchpad_banks=2, accumulator_kib=16,
                           bus_bits=64, outstanding_reads=2, queue_depth=2, load_queue_depth=2,
                           row_entries=64)
RAM_BYTES = 4096
#: Where the data lie, how many words of the scratchpad they are, and where they are copied to.
SOURCE, COPIED, TARGET = 0x400, 16, 0x800
DATA = bytes(range(1, 1 + COPIED * CONFIG.word_bytes))


def memory_image() -> bytes:
    """What the RAM holds at the start: the program at address 0, and its data."""
    place = {"count": 1, "words": COPIED, "scratchpad": 0}
    loaded = 1 << semaphore_index(Engine.LOAD, Engine.STORE)
    program = [
        TRANSFER.encode(opcode=Opcode.LOAD.value, signal=loaded, dram_address=SOURCE, **place),
        TRANSFER.encode(opcode=Opcode.STORE.value, wait=loaded, dram_address=TARGET, **place),
        END.encode(opcode=Opcode.END.value),
    ]
    image = b"".join(program).ljust(SOURCE, b"\0") + DATA
    return image.ljust(RAM_BYTES, b"\0")


class Starter(wiring.Component):
    """Writes ``writes``, pairs of a register's offset and its value, one after the other, and then rests."""

    bus: Out(AXI4LiteSignature(CONTROL_ADDRESS_BITS))

    def __init__(self, writes):
        self.writes = tuple(writes)
        super().__init__()

    def elaborate(self, platform):
        m = Module()
        bus = self.bus
        step = Signal(range(len(self.writes) + 1))
        running, address_given, data_given = Signal(), Signal(), Signal()
        m.d.comb += [
            running.eq(step != len(self.writes)),
            bus.awaddr.eq(Array(offset for offset, _value in self.writes)[step]),
            bus.wdata.eq(Array(value for _offset, value in self.writes)[step]),
            bus.wstrb.eq(0b1111),
            bus.awvalid.eq(running & ~address_given),
            bus.wvalid.eq(running & ~data_given),
            bus.bready.eq(1),
        ]
        with m.If(bus.awvalid & bus.awready):
            m.d.sync += address_given.eq(1)
        with m.If(bus.wvalid & bus.wready):
            m.d.sync += data_given.eq(1)
        with m.If(bus.bvalid):
            m.d.sync += [step.eq(step + 1), address_given.eq(0), data_given.eq(0)]
        return m


class Ram(wiring.Component):
    """A memory behind AXI4, for INCR bursts of full beats; one read and one write at a time.

    Parameters
    ----------
    signature : AXI4Signature
        Of the manager that uses it.
    image : bytes
        What it holds at the start.
    """

    def __init__(self, signature, image):
        super().__init__({"bus": In(signature)})
        beat = len(self.bus.wstrb)
        words = [int.from_bytes(image[i:i + beat], "little") for i in range(0, len(image), beat)]
        self.memory = Memory(shape=8 * beat, depth=len(words), init=words)

    def elaborate(self, platform):
        m = Module()
        m.submodules.memory = self.memory
        self._read(m, self.memory.read_port())
        self._write(m, self.memory.write_port(granularity=8))
        return m

    def _read(self, m, port):
        bus = self.bus
        low = exact_log2(len(bus.wstrb))
        word, left = Signal(len(port.addr)), Signal(9)  # of the burst under way
        m.d.comb += [
            bus.arready.eq(left == 0),
            bus.rvalid.eq(left != 0),
            bus.rlast.eq(left == 1),
            bus.rdata.eq(port.data),
            # The memory answers a cycle later: it is always asked for the word of the next cycle.
            port.addr.eq(Mux(bus.arready, bus.araddr[low:], word + (bus.rvalid & bus.rready))),
        ]
        m.d.sync += word.eq(port.addr)
        with m.If(bus.arvalid & bus.arready):
            m.d.sync += left.eq(bus.arlen + 1)
        with m.Elif(bus.rvalid & bus.rready):
            m.d.sync += left.eq(left - 1)

    def _write(self, m, port):
        bus = self.bus
        low = exact_log2(len(bus.wstrb))
        word, writing = Signal(len(port.addr)), Signal()
        m.d.comb += [
            bus.awready.eq(~writing & ~bus.bvalid),
            bus.wready.eq(writing),
            port.addr.eq(word),
            port.data.eq(bus.wdata),
            port.en.eq(Mux(bus.wvalid & bus.wready, bus.wstrb, 0)),
        ]
        with m.If(bus.awvalid & bus.awready):
            m.d.sync += [word.eq(bus.awaddr[low:]), writing.eq(1)]
        with m.If(bus.wvalid & bus.wready):
            m.d.sync += word.eq(word + 1)
            with m.If(bus.wlast):
                m.d.sync += [writing.eq(0), bus.bvalid.eq(1)]
        with m.If(bus.bvalid & bus.bready):
            m.d.sync += bus.bvalid.eq(0)


class Soc(wiring.Component):
    """An accelerator that runs the program in its RAM once after a reset. ``done`` stays high from its end on."""

    done: Out(1)

    def __init__(self):
        super().__init__()
        enable = next(bits for bits in register("interrupt").bits if bits.name == "enable")
        start = next(bits for bits in register("control").bits if bits.name == "start")
        self.accelerator = Accelerator(CONFIG)
        self.ram = Ram(AXI4Signature.of(CONFIG), memory_image())
        self.starter = Starter([
            (register("program_low").offset, 0),
            (register("window_base_low").offset, 0),
            (register("window_limit_low").offset, RAM_BYTES),
            (register("interrupt").offset, 1 << enable.offset),
            (register("control").offset, 1 << start.offset),
        ])

    def elaborate(self, platform):
        m = Module()
        m.submodules.accelerator = self.accelerator
        m.submodules.ram = self.ram
        m.submodules.starter = self.starter
        connect(m, self.starter.bus, self.accelerator.s_axi_ctrl)
        connect(m, self.accelerator.m_axi_mem, self.ram.bus)
        m.d.comb += self.done.eq(self.accelerator.interrupt)
        return m


def simulate() -> tuple[bytes, int]:
    """Run it until it is done; the RAM's content then, and the cycles that it took."""
    soc = Soc()
    content, cycles = bytearray(), 0

    async def watch(ctx):
        nonlocal cycles
        while not ctx.get(soc.done):
            await ctx.tick()
            cycles += 1
            assert cycles < 5000, "the program must end"
        for i in range(soc.ram.memory.depth):
            content.extend(ctx.get(soc.ram.memory.data[i]).to_bytes(CONFIG.bus_bytes, "little"))

    simulator = Simulator(soc)
    simulator.add_clock(1e-8)
    simulator.add_testbench(watch)
    simulator.run()
    return bytes(content), cycles


if __name__ == "__main__":
    if len(sys.argv) > 1:
        with open(sys.argv[1], "w", encoding="utf-8") as file:
            file.write(verilog.convert(Soc(), name="soc", emit_src=False))
    else:
        memory, taken = simulate()
        same = memory[TARGET:TARGET + len(DATA)] == DATA
        print(f"{len(DATA)} bytes copied in {taken} cycles: {'as they were' if same else 'WRONG'}")
        sys.exit(not same)
