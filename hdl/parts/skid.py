"""Streams through registers: whose handshakes depend on which side, and at what rate, is what tells them apart."""

from amaranth import Module, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

__all__ = ["Skid", "Slot", "Stage"]


class _Between(wiring.Component):
    """What stands between two streams of ``shape``."""

    def __init__(self, shape):
        self._shape = shape
        super().__init__({"input": In(stream.Signature(shape)), "output": Out(stream.Signature(shape))})


class Slot(_Between):
    """A register that holds one item: it takes the next one in the cycle after it was emptied, so that neither side's
    handshake depends on the other's in the same cycle. One item in two cycles; a reset forgets it.

    Members
    -------
    input, output : streams of ``shape``
    """

    def elaborate(self, platform):
        m = Module()
        item = Signal(self._shape, reset_less=True)
        m.d.comb += [self.input.ready.eq(~self.output.valid), self.output.payload.eq(item)]
        with m.If(self.output.valid):
            m.d.sync += self.output.valid.eq(~self.output.ready)
        with m.Else():
            m.d.sync += [self.output.valid.eq(self.input.valid), item.eq(self.input.payload)]
        return m


class Stage(_Between):
    """A register that holds one item, and takes the next one as it gives this away: the input's ``ready`` depends on
    the output's in the same cycle. One item a cycle; a reset forgets it.

    Members
    -------
    input, output : streams of ``shape``
    """

    def elaborate(self, platform):
        m = Module()
        item = Signal(self._shape, reset_less=True)
        m.d.comb += [self.input.ready.eq(~self.output.valid | self.output.ready), self.output.payload.eq(item)]
        with m.If(self.input.ready):
            m.d.sync += [self.output.valid.eq(self.input.valid), item.eq(self.input.payload)]
        return m


class Skid(_Between):
    """Two registers: one item a cycle, one cycle later, and neither side's handshake depends on the other's in the same
    cycle; a reset forgets what it holds.

    Members
    -------
    input, output : streams of ``shape``
    """

    def elaborate(self, platform):
        m = Module()
        item = Signal(self._shape, reset_less=True)
        spare = Signal(self._shape, reset_less=True)  # waits behind the output's
        spare_valid = Signal()
        m.d.comb += [self.input.ready.eq(~spare_valid), self.output.payload.eq(item)]
        with m.If(~self.output.valid | self.output.ready):
            m.d.sync += [
                self.output.valid.eq(self.input.valid | spare_valid), item.eq(self.input.payload), spare_valid.eq(0)]
            with m.If(spare_valid):
                m.d.sync += item.eq(spare)
        with m.Elif(self.input.valid):
            m.d.sync += spare_valid.eq(1)
        with m.If(self.input.ready):  # a copy that is not needed does no harm
            m.d.sync += spare.eq(self.input.payload)
        return m
