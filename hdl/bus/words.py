"""From a 2-D transfer to scratchpad words: the scratchpad side of the load and the store engine."""

from amaranth import Cat, Module, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from ..config import AcceleratorConfig

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
        ``valid`` from the second cycle after a transfer was accepted.
    """

    def __init__(self, config: AcceleratorConfig):
        super().__init__({
            "area": In(stream.Signature(AREA)),
            "words": Out(stream.Signature(WordLayout(config))),
        })

    def elaborate(self, platform):
        m = Module()
        word = self.words.p

        # The transfer after the one that is walked over: taken early, so that nobody waits for the queue.
        following_valid = Signal()
        following = Signal(AREA, reset_less=True)
        following_last = Signal(2, reset_less=True)  # it has one word a row, one row
        begin = Signal()
        m.d.comb += self.area.ready.eq(~following_valid)
        with m.If(self.area.valid & self.area.ready):
            m.d.sync += [
                following_valid.eq(1), following.eq(self.area.p),
                following_last.eq(Cat(self.area.p.words == 1, self.area.p.count == 1)),
            ]
        with m.Elif(begin):
            m.d.sync += following_valid.eq(0)

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
        ]
        with m.If(begin):
            m.d.sync += active.eq(following_valid)
            m.d.sync += [
                address.eq(following.scratchpad),
                row.eq(following.scratchpad + following.scratchpad_stride),
                stride.eq(following.scratchpad_stride),
                words_left.eq(following.words),
                words.eq(following.words),
                rows_left.eq(following.count),
                Cat(one_word, last_row).eq(following_last),
                row_ends.eq(following_last[0]),
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
