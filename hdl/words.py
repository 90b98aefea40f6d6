"""From a 2-D transfer to scratchpad words: the scratchpad side of the load and the store engine."""

from amaranth import Module, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from .config import AcceleratorConfig

__all__ = ["AREA", "WordLayout", "WordWalker"]

#: The scratchpad side of a TRANSFER instruction; the fields have their names and meanings.
AREA = data.StructLayout({"count": 16, "words": 16, "scratchpad": 16, "scratchpad_stride": 16})


class WordLayout(data.StructLayout):
    """One scratchpad word: ``address``, ``row_ends`` (last of its row), ``last`` (of the transfer)."""

    def __init__(self, config: AcceleratorConfig):
        super().__init__({"address": range(config.scratchpad_words), "row_ends": 1, "last": 1})


class WordWalker(wiring.Component):
    """Names the scratchpad words of transfers in their order, one a cycle, without a gap between transfers.

    Addresses are taken modulo the words that the scratchpad has.

    Members
    -------
    area : stream of ``AREA``
        The transfers. ``count`` and ``words`` are at least 1.
    words : stream of :class:`WordLayout`
        ``valid`` from the cycle after a transfer was accepted.
    """

    def __init__(self, config: AcceleratorConfig):
        super().__init__({
            "area": In(stream.Signature(AREA)),
            "words": Out(stream.Signature(WordLayout(config))),
        })

    def elaborate(self, platform):
        m = Module()
        area, word = self.area.p, self.words.p
        words_left = Signal(16, reset_less=True)
        rows_left = Signal(16, reset_less=True)
        words = Signal(16, reset_less=True)
        stride = Signal.like(word.address, reset_less=True)
        row = Signal.like(word.address, reset_less=True)  # where the next row starts
        address = Signal.like(word.address, reset_less=True)
        active = Signal()

        m.d.comb += [
            self.words.valid.eq(active),
            word.address.eq(address),
            word.row_ends.eq(words_left == 1),
            word.last.eq((words_left == 1) & (rows_left == 1)),
            self.area.ready.eq(~active | (self.words.ready & word.last)),
        ]
        with m.If(self.area.ready):
            m.d.sync += active.eq(self.area.valid)
            with m.If(self.area.valid):
                m.d.sync += [
                    address.eq(area.scratchpad),
                    row.eq(area.scratchpad + area.scratchpad_stride),
                    stride.eq(area.scratchpad_stride),
                    words_left.eq(area.words),
                    words.eq(area.words),
                    rows_left.eq(area.count),
                ]
        with m.Elif(self.words.ready):
            with m.If(word.row_ends):
                m.d.sync += [
                    address.eq(row),
                    row.eq(row + stride),
                    words_left.eq(words),
                    rows_left.eq(rows_left - 1),
                ]
            with m.Else():
                m.d.sync += [address.eq(address + 1), words_left.eq(words_left - 1)]
        return m
