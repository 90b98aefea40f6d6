"""Fixed delays: a memory in place of long shift registers."""

from amaranth import Module, Shape, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from .ram import Ram
from .resets import without_reset

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
        ring = m.submodules.ring = Ram(Shape.cast(self.shape).width, depth)
        position = Signal(range(depth))
        # Written at position p at the end of cycle t; on the read port's output in t + cycles - 1.
        m.d.sync += position.eq(position + 1)
        m.d.comb += [
            ring.write_address.eq(position),
            ring.write_data.eq(Value.cast(self.input)),
            ring.write_enable.eq(1),
            ring.read_address.eq(position - (self.cycles - 2)),
            ring.read_enable.eq(1),
        ]
        m.d.sync += Value.cast(without_reset(m, self.output)).eq(ring.read_data)
        return m
