"""From a 2-D transfer to scratchpad words: the scratchpad side of the load and the store engine."""

from amaranth import Module, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from ..config import AcceleratorConfig

__all__ = ["AreaLayout", "WordLayout", "WordWalker"]


class AreaLayout(data.StructLayout):
    """The scratchpad side of a TRANSFER instruction; the fields have their names and meanings, addresses and strides
    modulo the words that the scratchpad has."""

    def __init__(self, config: AcceleratorConfig):
        words = range(config.scratchpad_words)
        super().__init__({"count": 16, "words": 16, "scratchpad": words, "scratchpad_stride": words})


class WordLayout(data.StructLayout):
    """One scratchpad word: ``address``, ``row_ends`` (last of its row), ``last`` (of the transfer)."""

    def __init__(self, config: AcceleratorConfig):
        super().__init__({"address": range(config.scratchpad_words), "row_ends": 1, "last": 1})


class WordWalker(wiring.Component):
    """Names the scratchpad words of transfers in their order, one a cycle, without a gap between transfers.

    Members
    -------
    area : stream of :class:`AreaLayout`
        The transfers. ``count`` and ``words`` are at least 1. The next one is taken with the last word of the one
        before.
    words : stream of :class:`WordLayout`
        ``valid`` from the cycle after a transfer was accepted.
    """

    def __init__(self, config: AcceleratorConfig):
        super().__init__({
            "area": In(stream.Signature(AreaLayout(config))),
            "words": Out(stream.Signature(WordLayout(config))),
        })

    def elaborate(self, platform):
        m = Module()
        word, area = self.words.p, self.area.p
        begin = Signal()

        active = Signal()
        row_ends = Signal()
        last_row = Signal()
        words_left = Signal(16, reset_less=True)
        rows_left = Signal(16, reset_less=True)
        words = Signal(16, reset_less=True)
        one_word = Signal(reset_less=True)
        stride = Signal.like(word.address, reset_less=True)
        row = Signal.like(word.address, reset_less=True)  # where the next row starts
        address = Signal.like(word.address, reset_less=True)
        m.d.comb += [
            self.words.valid.eq(active),
            word.address.eq(address),
            word.row_ends.eq(row_ends),
            word.last.eq(row_ends & last_row),
            begin.eq(~active | (self.words.ready & word.last)),
            self.area.ready.eq(begin),
        ]
        with m.If(begin):
            m.d.sync += [
                active.eq(self.area.valid),
                address.eq(area.scratchpad),
                row.eq(area.scratchpad + area.scratchpad_stride),
                stride.eq(area.scratchpad_stride),
                words_left.eq(area.words),
                words.eq(area.words),
                rows_left.eq(area.count),
                last_row.eq(area.count == 1),
                one_word.eq(area.words == 1),
                row_ends.eq(area.words == 1),
            ]
        with m.Elif(self.words.ready):
            with m.If(row_ends):
                m.d.sync += [
                    address.eq(row),
                    row.eq(row + stride),
                    words_left.eq(words),
                    rows_left.eq(rows_left - 1),
                    row_ends.eq(one_word),
                    last_row.eq(rows_left == 2),
                ]
            with m.Else():
                m.d.sync += [address.eq(address + 1), words_left.eq(words_left - 1), row_ends.eq(words_left == 2)]
        return m
