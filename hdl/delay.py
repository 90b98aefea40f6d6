"""Fixed delays: a memory in place of long shift registers."""

from amaranth import Module, Signal
from amaranth.lib import wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

__all__ = ["DelayLine"]


class DelayLine(wiring.Component):
    """``output`` is ``input`` as it was ``cycles`` cycles ago (at least 3); undefined for the first ``cycles``.

    A small ring of memory with a register behind it, so that a delay costs the same at any length.
    """

    def __init__(self, shape, cycles: int):
        if cycles < 3:
            raise ValueError(f"cycles must be at least 3, not {cycles}")
        self.cycles = cycles
        self.shape = shape
        super().__init__({"input": In(shape), "output": Out(shape)})

    def elaborate(self, platform):
        m = Module()
        depth = 1 << ceil_log2(self.cycles)
        memory = m.submodules.ring = Memory(shape=self.shape, depth=depth, init=[])
        write, read = memory.write_port(), memory.read_port()
        position = Signal(range(depth))
        # Written at position p at the end of cycle t; on the read port's output in t + cycles - 1.
        m.d.sync += position.eq(position + 1)
        m.d.comb += [
            write.addr.eq(position),
            write.data.eq(self.input),
            write.en.eq(1),
            read.addr.eq(position - (self.cycles - 2)),
        ]
        m.d.sync += self.output.eq(read.data)
        return m
