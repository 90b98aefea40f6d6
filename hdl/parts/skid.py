"""A stream through two registers, so that neither side's handshake depends on the other's in the same cycle."""

from amaranth import Module, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

__all__ = ["Skid"]


class Skid(wiring.Component):
    """One item a cycle, one cycle later; a reset forgets what it holds.

    Members
    -------
    input, output : streams of ``shape``

    Attributes
    ----------
    spare, spare_valid : Signal
        The item that waits behind the output's; for proofs.
    """

    def __init__(self, shape):
        self._shape = shape
        self.spare = Signal(shape, name="spare", reset_less=True)
        self.spare_valid = Signal(name="spare_valid")
        super().__init__({"input": In(stream.Signature(shape)), "output": Out(stream.Signature(shape))})

    def leaving(self, item):
        """What becomes of an item as it moves to the output: for those who derive from this."""
        return item

    def elaborate(self, platform):
        m = Module()
        item = Signal(self._shape, reset_less=True)
        spare, spare_valid = self.spare, self.spare_valid
        m.d.comb += [self.input.ready.eq(~spare_valid), self.output.payload.eq(item)]
        with m.If(~self.output.valid | self.output.ready):
            m.d.sync += [
                self.output.valid.eq(self.input.valid | spare_valid), item.eq(self.leaving(self.input.payload))]
            with m.If(spare_valid):
                m.d.sync += item.eq(self.leaving(spare))
            m.d.sync += spare_valid.eq(0)
        with m.Elif(self.input.valid):
            m.d.sync += spare_valid.eq(1)
        with m.If(self.input.ready):  # a copy that is not needed does no harm
            m.d.sync += spare.eq(self.input.payload)
        return m
