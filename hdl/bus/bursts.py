"""From a 2-D transfer to AXI4 bursts: the address side of the load and the store engine."""

from amaranth import Cat, Const, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from ..config import AcceleratorConfig
from ..isa import TRANSFER
from ..registers import WIDE_BITS

__all__ = ["ADDRESS_BITS", "BURST_BEATS", "ROW_LATENCY", "AddressLayout", "BurstGenerator", "BurstLayout"]

#: Bits of an address in the registers and instructions, whatever the bus has.
ADDRESS_BITS = WIDE_BITS

#: Longest burst in beats. Short enough that an instruction fetch behind ``outstanding_reads`` bursts is not
#: late, long enough that 40 cycles of latency and a burst's overhead vanish.
BURST_BEATS = 64

#: Cycles from when a row is begun to its first burst, and from when the last row is begun to the next transfer's
#: acceptance.
ROW_LATENCY = 2


class BurstLayout(data.StructLayout):
    """A burst that is wanted: ``address`` of its first byte, ``beyond`` all addresses of the bus or not, ``length``
    (beats - 1, as AxLEN), ``last`` burst of its transfer."""

    def __init__(self, config: AcceleratorConfig):
        super().__init__({"address": config.address_bits, "beyond": 1, "length": 8, "last": 1})


class AddressLayout(data.StructLayout):
    """A burst as it is put on the bus: ``address`` of its first byte, ``length`` (beats - 1, as AxLEN)."""

    def __init__(self, config: AcceleratorConfig):
        super().__init__({"address": config.address_bits, "length": 8})


class BurstGenerator(wiring.Component):
    """Splits transfers into bursts.

    Rules
    -----
    1. A burst has from 1 to ``beats`` beats and never crosses a multiple of ``beats`` beats, hence never a 4
       KiB boundary.
    2. A row is begun in the cycle after its transfer was accepted, and the last burst of the row before taken. Its
       first burst is offered ``ROW_LATENCY`` cycles later, the next in the cycle after that was taken: no slower than
       the :class:`~celosia.hdl.bus.guard.WindowGuard` judges them. The next transfer is accepted ``ROW_LATENCY`` cycles
       after the last row was begun.
    3. Bursts are offered wherever they lie: the :class:`~celosia.hdl.bus.guard.WindowGuard` judges them.

    Parameters
    ----------
    config : AcceleratorConfig
    beats : int
        Longest burst; a power of two, at most 256, and at most 4 KiB.

    Members
    -------
    transfer : stream of ``TRANSFER.layout``
        What to split. ``count`` and ``words`` are at least 1; the low bits of address and stride are ignored.
    bursts : stream of :class:`BurstLayout`
    """

    def __init__(self, config: AcceleratorConfig, beats: int = BURST_BEATS):
        self._config = config
        self._beats = min(beats, 256, 4096 // config.bus_bytes)
        super().__init__({
            "transfer": In(stream.Signature(TRANSFER.layout)),
            "bursts": Out(stream.Signature(BurstLayout(config))),
        })

    def elaborate(self, platform):
        m = Module()
        config = self._config
        chunk_bits = exact_log2(self._beats)
        shift = exact_log2(config.bus_bytes)
        address_bits = config.address_bits - shift  # addresses count beats here; one more bit says "beyond"
        transfer = self.transfer.p
        # The rows that have not begun.
        active = Signal()
        row = Signal(address_bits + 1, reset_less=True)
        stride = Signal(32 - shift, reset_less=True)
        row_beats = Signal(16 + max(0, exact_log2(config.word_bytes) - shift), reset_less=True)
        rows_left = Signal(16, reset_less=True)
        last_row = Signal(reset_less=True)
        next_row = Signal()
        accept = Signal()
        m.d.comb += accept.eq(self.transfer.valid & self.transfer.ready)
        with m.If(self.transfer.ready):  # a copy that is not needed does no harm
            m.d.sync += [
                active.eq(accept),
                row.eq(Cat(transfer.dram_address[shift:config.address_bits],
                           transfer.dram_address[config.address_bits:].any())),
                stride.eq(transfer.dram_stride[shift:]),
                row_beats.eq(self._row_beats(transfer.words)),
                rows_left.eq(transfer.count),
                last_row.eq(transfer.count == 1),
            ]
        with m.Elif(active & next_row):
            m.d.sync += [
                active.eq(~last_row),
                row.eq(self._add(row, stride)),
                rows_left.eq(rows_left - 1),
                last_row.eq(rows_left == 2),
            ]

        # The row that has begun: where its next burst starts, how many chunks it reaches into after that one, and where
        # in the last one it ends.
        burst = self.bursts.p
        begun = Signal()  # a cycle before its first burst is offered
        address = Signal.like(row, reset_less=True)
        last_beat = Signal(len(row_beats) + 1, reset_less=True)  # from the start of the first chunk
        chunks, end = last_beat[chunk_bits:], last_beat[:chunk_bits]
        last_chunk = Signal(reset_less=True)
        in_last_row = Signal(reset_less=True)
        m.d.comb += next_row.eq(~begun & ~self.bursts.valid)
        m.d.sync += begun.eq(next_row & active)
        with m.If(next_row):
            m.d.sync += [
                address.eq(row), last_beat.eq(row[:chunk_bits] + row_beats - 1), in_last_row.eq(last_row)]
        with m.If(begun):
            m.d.sync += [self.bursts.valid.eq(1), last_chunk.eq(chunks == 0)]
        with m.If(self.bursts.valid & self.bursts.ready):
            m.d.sync += [
                self.bursts.valid.eq(~last_chunk), last_chunk.eq(chunks == 1), chunks.eq(chunks - 1),
                address[:chunk_bits].eq(0), address[chunk_bits:].eq(self._add(address[chunk_bits:], 1)),
            ]
        m.d.comb += [
            burst.address.eq(Cat(Const(0, shift), address[:-1])),
            burst.beyond.eq(address[-1]),
            burst.length.eq(Mux(last_chunk, end, self._beats - 1) - address[:chunk_bits]),
            burst.last.eq(last_chunk & in_last_row),
        ]
        m.d.sync += self.transfer.ready.eq(~accept & ~active)
        return m

    def _row_beats(self, words):
        """Beats of a row of ``words`` words, the last perhaps partly used."""
        ratio = self._config.word_bytes / self._config.bus_bytes
        if ratio >= 1:
            return words << exact_log2(int(ratio))
        return (words + int(1 / ratio) - 1) >> exact_log2(int(1 / ratio))

    @staticmethod
    def _add(address, step):
        """``address + step``, with the top bit, "beyond all addresses", kept once it is set."""
        total = address[:-1] + step
        return Cat(total[:len(address) - 1], address[-1] | total[len(address) - 1:].any())
